"""A container's life: created, started, watched, ended, removed."""

from __future__ import annotations

import time

import pytest

from pytest_dockerlab.context import tar_of
from pytest_dockerlab.deadline import Deadline
from pytest_dockerlab.engine.base import BuildRequest, Mount, Usage
from pytest_dockerlab.engine.fake import FakeProgram, Reply
from pytest_dockerlab.engine.labels import RUN, new_run_id, run_labels
from pytest_dockerlab.engine.reaper import remove_run
from pytest_dockerlab.errors import ImageUnavailable, InfraError
from pytest_dockerlab.sandbox import ULIMITS
from pytest_dockerlab.serve.http import ExecHttpClient

FOREVER = FakeProgram(runs_forever=True)


def test_info(rig):
    info = rig.engine.info()
    assert info.name in ("Docker", "Podman", "Fake")
    assert info.cpus >= 1
    assert info.memory_bytes > 0
    assert str(info) == f"{info.name} {info.version}"


def test_an_image_that_is_not_there(rig):
    assert rig.engine.image("dockerlab-contract/nothing:1") is None
    with pytest.raises(ImageUnavailable):
        rig.create("true", image="dockerlab-contract/nothing:1")


def test_created_started_ended(rig):
    container = rig.create("exit 0")
    state = rig.engine.state(container)
    assert (state.running, state.status) == (False, "created")
    assert rig.engine.start(container) is None
    state = rig.wait(container)
    assert (state.running, state.status, state.exit_code, state.oom_killed) == (False, "exited", 0, False)


def test_the_exit_code(rig):
    assert rig.wait(rig.started("exit 7")).exit_code == 7


def test_running(rig):
    container = rig.started("sleep 300", FOREVER)
    state = rig.engine.state(container)
    assert state.running
    assert state.exit_code is None
    assert state.status == "running"
    assert state.pid > 0


@pytest.mark.parametrize("entrypoint", ["no-such-program", "/etc", "/etc/hostname"])
def test_a_command_that_cannot_start_is_told_in_the_engines_words(rig, entrypoint):
    container = rig.create("", entrypoint=(entrypoint,), command=(), init=False)
    words = rig.engine.start(container)
    assert words
    assert entrypoint in words
    assert not rig.engine.state(container).running


@pytest.mark.podman_lacks("init-words")
def test_behind_an_init_a_missing_command_is_told_in_the_output(rig):
    container = rig.create("", entrypoint=("no-such-program",), command=())
    stream = rig.engine.output(container)
    words = rig.engine.start(container)
    if words is None:
        assert rig.wait(container).exit_code in (126, 127)
        words = b"".join(stream).decode()
    assert "no-such-program" in words


def test_output_comes_whole_and_in_order(rig):
    lines = b"".join(b"line %d\n" % number for number in range(2000))
    script = "i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done"
    container = rig.create(script, FakeProgram(output=lines))
    stream = rig.engine.output(container)
    rig.engine.start(container)
    assert b"".join(stream) == lines


def test_output_of_a_container_that_has_ended(rig):
    container = rig.ended("echo done")
    assert b"".join(rig.engine.output(container)) == b"done\n"


def test_output_is_bytes(rig):
    container = rig.create(r"printf 'a\000\377\rno newline'", FakeProgram(output=b"a\0\xff\rno newline"))
    stream = rig.engine.output(container)
    rig.engine.start(container)
    assert b"".join(stream) == b"a\0\xff\rno newline"


def test_both_streams_come(rig):
    container = rig.create("echo out; echo err >&2", FakeProgram(output=b"out\nerr\n"))
    stream = rig.engine.output(container)
    rig.engine.start(container)
    assert sorted(b"".join(stream).split()) == [b"err", b"out"]


def test_output_comes_while_it_runs(rig):
    container = rig.create("echo first; sleep 2; echo second", FakeProgram(output=[(0, b"first\n"), (2, b"second\n")]))
    stream = rig.engine.output(container)
    rig.engine.start(container)
    assert next(stream) == b"first\n"
    at = time.monotonic()
    assert rig.engine.state(container).running
    assert b"".join(stream) == b"second\n"
    assert time.monotonic() - at > 0.5


def test_much_output(rig):
    container = rig.create("yes | head -c 3000000", FakeProgram(output=b"y\n" * 1_500_000))
    stream = rig.engine.output(container)
    rig.engine.start(container)
    assert sum(map(len, stream)) == 3_000_000


def test_kill_ends_it_and_its_output(rig, seconds):
    script = "trap '' TERM; echo up; sleep 300"
    container = rig.create(script, FakeProgram(output=b"up\n", runs_forever=True))
    stream = rig.engine.output(container)
    rig.engine.start(container)
    assert next(stream) == b"up\n"
    rig.engine.kill(container)
    assert list(stream) == []
    state = rig.wait(container)
    assert state.exit_code == 137
    assert state.oom_killed is False
    assert seconds() < 60
    rig.engine.kill(container)


def test_kill_before_the_start(rig):
    rig.engine.kill(rig.create("true"))


def test_usage(rig):
    container = rig.started("sleep 300", FOREVER)
    usage = rig.engine.usage(container)
    assert usage.memory_bytes is None or usage.memory_bytes > 0
    assert usage.cpu_s is None or usage.cpu_s >= 0
    rig.engine.kill(container)
    rig.wait(container)
    assert rig.engine.usage(container) == Usage()


@pytest.mark.podman_lacks("oom")
def test_memory_over_the_limit_is_an_oom(rig):
    container = rig.ended("head -c 300m /dev/zero | tail -n 1", FakeProgram(oom=True), memory_bytes=32 << 20)
    state = rig.engine.state(container)
    assert state.exit_code != 0
    assert state.oom_killed


def test_written_bytes(rig):
    container = rig.ended(
        "head -c 3000000 /dev/zero > /big && echo small > /small",
        FakeProgram(files={"/big": bytes(3_000_000), "/small": b"small\n"}),
    )
    written = rig.engine.written_bytes(container)
    assert 3_000_000 <= written < 4_000_000


def test_written_bytes_while_it_runs(rig):
    container = rig.create(
        "head -c 3000000 /dev/zero > /big; echo ready; sleep 300",
        FakeProgram(output=b"ready\n", files={"/big": bytes(3_000_000)}, runs_forever=True),
    )
    stream = rig.engine.output(container)
    rig.engine.start(container)
    next(stream)
    assert rig.engine.written_bytes(container) >= 3_000_000


def test_environment_and_command_reach_the_program(rig):
    script = "echo $LESSON"
    container = rig.create(script, FakeProgram(output=b"mnist\n"), env={"LESSON": "mnist"})
    rig.engine.start(container)
    assert b"".join(rig.engine.output(container)) == b"mnist\n"


def test_a_mount_is_read_only(rig, tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "images").write_bytes(b"IDX")
    container = rig.ended(
        "cat /data/images; echo more > /data/images",
        FakeProgram(output=b"IDX", exit_code=1),
        mounts=(Mount(folder, "/data"),),
    )
    assert rig.engine.state(container).exit_code == 1
    assert b"IDX" in b"".join(rig.engine.output(container))
    assert (folder / "images").read_bytes() == b"IDX"


def test_network_none_is_none(rig):
    container = rig.create("ls /sys/class/net", FakeProgram(output=b"lo\n"))
    stream = rig.engine.output(container)
    rig.engine.start(container)
    # The kernel may add tunnels of its own, which lead nowhere.
    interfaces = [
        name for name in b"".join(stream).decode().split() if not name.startswith(("tun", "sit", "ip6", "gre"))
    ]
    assert interfaces == ["lo"]


def test_a_shared_network_is_one(rig):
    holder = rig.create("sleep 300", FOREVER, image=rig.client)
    rig.engine.start(holder)
    server = rig.started(
        "echo hello | nc -l -p 8080",
        FakeProgram(runs_forever=True, serves={"0.0.0.0:8080": lambda *_: Reply()}),
        network=f"container:{holder}",
    )
    assert rig.engine.state(server).running
    client = ExecHttpClient(lambda *job: rig.engine.exec(holder, *job))
    for _ in Deadline.after(20).poll(0.2):
        listening = client.listening(Deadline.after(10))
        if listening.addresses(8080):
            break
    assert listening.readable
    assert listening.addresses(8080)
    assert not listening.localhost_only(8080)


def test_limits_of_training_reach_the_program(rig):
    script = "ulimit -c; ulimit -s"
    container = rig.ended(script, FakeProgram(output=b"0\n65536\n"), ulimits=ULIMITS)
    assert b"".join(rig.engine.output(container)) == b"0\n65536\n"


def test_leftovers_of_a_dead_run_go_whoever_joined_whom(rig):
    """Podman removes no container whose network another has joined, and lists them in no order."""
    run = new_run_id()
    labels = dict(run_labels(run, "serve"))
    for _ in range(3):
        holder = rig.started("sleep 300", FOREVER, labels=labels)
        rig.started("sleep 300", FOREVER, labels=labels, network=f"container:{holder}")
    tag = f"dockerlab/train:{run}"
    rig.images.append(tag)
    context = rig.folder / "context.tar"
    context.write_bytes(tar_of({"Dockerfile": f"FROM {rig.image}\nWORKDIR /x\n".encode()}))
    built = rig.engine.build(BuildRequest(context, "Dockerfile", tag, labels), Deadline.after(60), lambda _line: None)
    assert built.ok, built.error
    assert remove_run(rig.engine, run) == 7
    assert rig.engine.owned(run) == []


def test_remove_while_it_runs(rig):
    container = rig.started("sleep 300", FOREVER)
    rig.engine.remove(container)
    with pytest.raises(InfraError):
        rig.engine.state(container)


def test_remove_twice(rig):
    container = rig.create("true")
    rig.engine.remove(container)
    rig.engine.remove(container)


def test_removal_ends_the_output(rig):
    container = rig.create("echo up; sleep 300", FakeProgram(output=b"up\n", runs_forever=True))
    stream = rig.engine.output(container)
    rig.engine.start(container)
    assert next(stream) == b"up\n"
    rig.engine.remove(container)
    assert list(stream) == []


def test_owned_lists_one_run(rig):
    container = rig.create("true")
    [mine] = rig.engine.owned(rig.run_id)
    assert (mine.kind, mine.id) == ("container", container)
    assert mine.labels[RUN] == rig.run_id
    assert mine.name
    assert mine.id in {one.id for one in rig.engine.owned()}
    assert rig.engine.owned("some-other-run") == []
    rig.engine.remove_owned(mine)
    assert rig.engine.owned(rig.run_id) == []
    rig.engine.remove_owned(mine)


def test_a_tag_is_another_name(rig):
    name = f"dockerlab-contract/tagged:{rig.run_id}"
    rig.images.append(name)
    rig.engine.tag(rig.image, name)
    assert rig.engine.image(name).image_id == rig.engine.image(rig.image).image_id
    rig.engine.remove_image(name)
    assert rig.engine.image(name) is None
    assert rig.engine.image(rig.image) is not None
    rig.engine.remove_image(name)


def test_tagging_what_is_not_there(rig):
    with pytest.raises(InfraError):
        rig.engine.tag("dockerlab-contract/nothing:1", "dockerlab-contract/other:1")
