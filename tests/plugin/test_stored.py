"""What is stored of an earlier run is used again, where its check passed and nothing changed."""

from __future__ import annotations

from pytest_dockerlab.engine.fake import FakeProgram

LOSSES = b"".join(b"Epoch %d loss: %.4f\n" % (step, 2.3 * 0.8**step) for step in range(20))


def test_a_second_run_needs_no_engine(lab):
    lab.run()
    first = lab.results
    lab.engine.calls.clear()
    lab.engine.fail("info", times=1000)
    result = lab.run()
    assert result.ret == 0
    assert lab.engine.calls == []
    assert lab.results["score"] == first["score"]
    assert lab.results["facts"] == first["facts"]
    result.stdout.fnmatch_lines(["*stored*"])


def test_fresh_runs_it_all_again(lab):
    lab.run()
    lab.engine.calls.clear()
    assert lab.run("--dockerlab-fresh").ret == 0
    assert "build" in lab.engine.calls
    assert "start" in lab.engine.calls


def test_a_change_in_the_submission_runs_it_again(lab):
    lab.run()
    lab.engine.calls.clear()
    lab.write("train.py", "print('another')\n")
    lab.run()
    assert "build" in lab.engine.calls


def test_a_change_in_the_assignment_runs_it_again(lab):
    lab.run()
    lab.engine.calls.clear()
    lab.assignment(extra="[timeouts]\ntrain = 60\n")
    lab.run()
    assert "build" in lab.engine.calls


def test_results_inside_the_submission_change_nothing(lab):
    lab.results_file = lab.submission / "results.json"
    lab.run()
    lab.engine.calls.clear()
    lab.run()
    assert lab.engine.calls == []


def test_a_failed_stage_runs_again(lab):
    lab.engine.program("python train.py", FakeProgram(output=b"Killed\n", exit_code=1))
    assert lab.run().ret == 1
    lab.engine.program("python train.py", FakeProgram(output=LOSSES, files={"model.safetensors": SAFE}))
    assert lab.run().ret == 0
    assert lab.results["score"] == 100


def test_what_an_earlier_run_came_to_is_forgotten_where_this_one_does_not_come_to_it(lab, own_cache):
    lab.run()
    [folder] = [path for path in (own_cache / "runs").iterdir() if path.is_dir()]
    (folder / "predict.json").write_text('{"items": [{"expected": 7}]}')
    lab.engine.program("python train.py", FakeProgram(exit_code=1))
    assert lab.run("--dockerlab-assignment", str(lab.assignment_folder)).ret == 0  # all is stored
    (folder / "train.json").write_text("{")
    assert lab.run().ret == 1
    assert not (folder / "predict.json").exists()
    assert not (folder / "artifact.json").exists()


def test_a_failed_run_stays_failed_where_its_files_can_not_be_read(lab):
    lab.engine.program("python train.py", FakeProgram(exit_code=1))
    lab.engine.fail("changes", times=1000)
    assert lab.run().ret == 1
    assert lab.outcomes["train"] == "failed"


def test_a_run_whose_files_can_not_be_read_is_no_grade(lab):
    lab.engine.fail("changes", times=1000)
    assert lab.run().ret == 10
    assert lab.outcomes["train"] == "infra"


def test_a_failed_build_runs_again(lab):
    lab.write("Dockerfile", 'FROM python:3.11-slim\nRUN pip install torch\nWORKDIR /app\nCMD ["python", "train.py"]\n')
    lab.engine.program("pip install torch", FakeProgram(exit_code=1))
    lab.run()
    assert lab.outcomes["build"] == "failed"
    lab.engine.program("pip install torch", FakeProgram())
    lab.run()
    assert lab.outcomes["build"] == "passed"


def test_damaged_facts_are_made_again(lab, own_cache):
    lab.run()
    [folder] = [path for path in (own_cache / "runs").iterdir() if path.is_dir()]
    (folder / "train.json").write_text("{")
    assert lab.run().ret == 0
    assert lab.results["score"] == 100


def test_an_artifact_that_is_gone_is_made_again(lab, own_cache):
    lab.run()
    for path in (own_cache / "runs").glob("*/artifact.bin"):
        path.unlink()
    lab.engine.calls.clear()
    assert lab.run().ret == 0
    assert "start" in lab.engine.calls


SAFE = (2).to_bytes(8, "little") + b"{}"
