"""A student's folder: loaded, hashed, and its Dockerfile found."""

from __future__ import annotations

import pytest

from pytest_dockerlab.assignment import Limits, TrainTable
from pytest_dockerlab.errors import UsageError
from pytest_dockerlab.submission import Submission


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "student"
    root.mkdir()
    return root


def load(root, **limits):
    return Submission.load(root, Limits(**limits))


def put(root, **files):
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_an_empty_folder_loads(root):
    assert load(root).name == "student"
    assert load(root).files(10) == []


def test_the_hash_is_over_names_and_contents(root):
    put(root, a="1", b="2")
    first = load(root).sha256
    assert load(root).sha256 == first
    (root / "a").write_text("2")
    second = load(root).sha256
    assert second != first
    (root / "a").rename(root / "c")
    assert load(root).sha256 not in (first, second)


def test_the_hash_does_not_follow_links(root):
    (root / "link").symlink_to("/etc/passwd")
    first = load(root).sha256
    (root / "link").unlink()
    (root / "link").symlink_to("/etc/group")
    assert load(root).sha256 != first


def test_a_huge_file_is_not_read(root):
    with (root / "huge").open("wb") as file:
        file.truncate(1 << 42)
    assert load(root, context=2000).sha256


def test_what_git_and_caches_hold_is_no_part_of_it(root):
    put(root, a="1")
    first = load(root).sha256
    put(root, _dot_git__HEAD="ref", __pycache____x="y")
    (root / ".git").mkdir(exist_ok=True)
    (root / ".git" / "index").write_text("z")
    assert load(root).sha256 == first


TRAIN = TrainTable()


@pytest.mark.parametrize(
    ("files", "on_gpu", "found"),
    [
        (["Dockerfile"], False, "Dockerfile"),
        (["Dockerfile"], True, "Dockerfile"),
        (["Dockerfile.cpu", "Dockerfile.gpu"], False, "Dockerfile.cpu"),
        (["Dockerfile.cpu", "Dockerfile.gpu"], True, "Dockerfile.gpu"),
        (["Dockerfile", "Dockerfile.gpu"], False, "Dockerfile"),
        (["Dockerfile.gpu"], False, "Dockerfile.gpu"),
        (["Dockerfile.cpu"], True, "Dockerfile.cpu"),
        (["train/Dockerfile"], False, "train/Dockerfile"),
        (["dockerfile"], False, None),
        ([], False, None),
    ],
)
def test_the_dockerfile_by_convention(root, files, on_gpu, found):
    for name in files:
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text("FROM x\n")
    assert load(root).dockerfile(TRAIN, on_gpu).path == found


def test_near_misses_are_named(root):
    put(root, dockerfile="FROM x", src__DockerFile="", Dockerfile_txt="")
    found = load(root).dockerfile(TRAIN, False)
    assert found.path is None
    assert set(found.near_misses) == {"dockerfile", "src/DockerFile", "Dockerfile_txt"}
    assert "Dockerfile" in found.looked_for


def test_the_dockerfile_that_dockerlab_toml_names(root):
    (root / "dockerlab.toml").write_text('[train]\ndockerfile = "docker/train"\n')
    put(root, Dockerfile="FROM a", docker__train="FROM b")
    assert load(root).dockerfile(TRAIN, False).text == "FROM b"


def test_a_named_dockerfile_that_is_missing_is_not_replaced(root):
    (root / "dockerlab.toml").write_text('[train]\ndockerfile = "docker/train"\n')
    put(root, Dockerfile="FROM a")
    found = load(root).dockerfile(TRAIN, False)
    assert found.path is None
    assert found.looked_for == ("docker/train",)


def test_a_dockerfile_that_is_a_link_out_is_none(root):
    (root / "Dockerfile").symlink_to("/etc/passwd")
    assert load(root).dockerfile(TRAIN, False).path is None


def test_text_is_bounded_and_never_fails(root):
    (root / "Dockerfile").write_bytes(b"\xef\xbb\xbfFROM x\n\xff" + b"#" * (3 << 20))
    text = load(root).read_text("Dockerfile")
    assert text.startswith("FROM x\n\ufffd")
    assert len(text) <= 1 << 20
    assert load(root).read_text("nothing") is None
    assert load(root).read_text("../outside") is None


def test_a_dockerlab_toml_that_is_a_link_is_not_read(root, tmp_path):
    (tmp_path / "real.toml").write_text('assignment = "mnist"')
    (root / "dockerlab.toml").symlink_to(tmp_path / "real.toml")
    assert load(root).file.assignment is None


@pytest.mark.parametrize(
    "text",
    [
        '[train]\ndockerfile = "/etc/passwd"',
        '[train]\ncontext = ".."',
        '[serve]\nhandler = "a/../../b"',
        '[serve]\nartifact = "a\\u0000b"',
        'assignment = "../evil"',
        '[serve]\nmodel = "a b"',
    ],
)
def test_paths_stay_inside(root, text):
    (root / "dockerlab.toml").write_text(text)
    with pytest.raises(UsageError, match=r"dockerlab\.toml: 1 wrong setting"):
        load(root)
