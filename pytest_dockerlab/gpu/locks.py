"""Lock files in a folder that everybody on the machine shares, without trusting anybody there.

A GPU belongs to the machine, so the folder of its locks does too, and not to a user's cache: it is `DOCKERLAB_LOCKS` or
`/tmp/dockerlab-locks`. Not `$TMPDIR`, which can differ between users and jobs. Where `/tmp` is private (systemd's
`PrivateTmp`, jobs in containers), set `DOCKERLAB_LOCKS` to one folder that all of them see.

The folder is like `/tmp`: all may write, nobody may remove another's files (mode 1777). Whoever can write there can lay
links and pipes in our way, so that:

* the folder and the files are opened without following links, and files only if regular and with one name;
* a file is opened before it is created: where `fs.protected_regular` is on, `O_CREAT` on another user's file in such a
  folder is refused even to root;
* who holds a lock is the kernel's word. What a holder's file says is for messages, bounded, without control codes.

What is left is what cooperation means: a local user can hold a lock for ever, or lie about who holds it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from pytest_dockerlab.deadline import Deadline
from pytest_dockerlab.errors import GpuUnavailable

DEFAULT = Path("/tmp/dockerlab-locks")  # noqa: S108 (shared on purpose; see above for how it is kept safe)
_GATE_POLL_S = 0.005
MAX_TEXT = 2048


def gpu_folder() -> Path:
    """Return the folder of the GPU leases of this machine; it may not exist yet."""
    return Path(os.environ.get("DOCKERLAB_LOCKS") or DEFAULT).absolute() / "gpu"


class LocksUnusable(GpuUnavailable):
    """The shared folder of leases is unsafe, full or not ours to write: without it nobody may use a GPU."""


def _refuse(path: Path, why: str) -> LocksUnusable:
    return LocksUnusable(
        f"The folder of GPU leases {path} can't be used: {why}.",
        fix="Remove it, or set DOCKERLAB_LOCKS to a folder that all who share the GPUs can write (mode 1777).",
    )


def _open_shared(name: str | Path, path: Path, within: int | None) -> int:
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, dir_fd=within)
        os.chmod(name, 0o1777, dir_fd=within)  # noqa: S103 (shared, as said above; the umask cuts mkdir's own mode)
    try:
        fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=within)
    except NotADirectoryError as error:
        raise _refuse(path, "it is a link, or no folder") from error
    mode = os.fstat(fd).st_mode
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        os.close(fd)
        raise _refuse(path, "all may remove each other's files there (no sticky bit)")
    return fd


def open_folder(path: Path) -> int:
    """Return a descriptor of the folder, created with mode 1777 where missing; raises `LocksUnusable` if it is unsafe.

    Checked after opening, and the inner folder by way of the outer one: nothing can be swapped in between.
    """
    try:
        path.parent.parent.mkdir(parents=True, exist_ok=True)
        outer = _open_shared(path.parent, path.parent, None)
        try:
            return _open_shared(path.name, path, outer)
        finally:
            os.close(outer)
    except OSError as error:
        raise _refuse(path, error.strerror or str(error)) from error


class LockFile:
    """A file held open, lockable with `flock`. The kernel frees the lock when the last process that has it open dies.

    Children started with `exec` don't get it. A forked child gets a copy, which it closes at once: otherwise a lock
    would outlive its owner in a child that knows nothing of it.
    """

    _open: ClassVar[weakref.WeakSet[LockFile]] = weakref.WeakSet()

    def __init__(self, folder: int, name: str, *, create: bool = True, new: bool = False) -> None:
        """Open a file of the folder; `new`: it must not exist. Raises `OSError` on anything but a plain file."""
        self.name = name
        self.locked = False
        self._fd = self._open_plain(folder, name, create, new)
        LockFile._open.add(self)

    @staticmethod
    def _open_plain(folder: int, name: str, create: bool, new: bool) -> int:
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        while True:
            fd = -1
            try:
                if not new:
                    fd = os.open(name, flags, dir_fd=folder)
            except FileNotFoundError:
                if not create:
                    raise
            if fd == -1:
                try:
                    fd = os.open(name, flags | os.O_CREAT | os.O_EXCL, 0o666, dir_fd=folder)
                    os.fchmod(fd, 0o666)  # other users have to open it for their locks
                except FileExistsError:
                    if new:
                        raise
                    continue
            status = os.fstat(fd)
            if stat.S_ISREG(status.st_mode) and status.st_nlink == 1:
                return fd
            os.close(fd)
            if status.st_nlink != 0:  # 0: it was removed while we opened it
                raise OSError(errno.EPERM, "not a plain file with one name", name)

    @property
    def fd(self) -> int:
        """The descriptor, or -1 after `close`."""
        return self._fd

    def try_lock(self) -> bool:
        """Take the lock unless another has it; whether it is ours now."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        self.locked = True
        return True

    def close(self) -> None:
        """Give the lock up, also for other processes that were handed the descriptor, and close the file."""
        if self._fd == -1:
            return
        fd, self._fd = self._fd, -1
        if self.locked:
            fcntl.flock(fd, fcntl.LOCK_UN)
        os.close(fd)

    def write(self, text: str) -> None:
        """Replace what the file says. The caller holds the gate, so nobody reads half of it."""
        data = text.encode()[:MAX_TEXT]
        os.pwrite(self._fd, data, 0)
        os.ftruncate(self._fd, len(data))

    def read(self) -> str:
        """Return what the file says, at most `MAX_TEXT` bytes of it."""
        return os.pread(self._fd, MAX_TEXT, 0).decode("utf-8", "replace")

    def age_s(self) -> float:
        """Seconds since it was last written."""
        return max(0.0, time.time() - os.fstat(self._fd).st_mtime)

    @classmethod
    def _forget_in_child(cls) -> None:
        for file in list(cls._open):
            if file._fd != -1:
                os.close(file._fd)  # and no LOCK_UN: the lock is the parent's
                file._fd = -1


os.register_at_fork(after_in_child=LockFile._forget_in_child)


@contextlib.contextmanager
def gate(path: Path, deadline: Deadline) -> Iterator[tuple[int, LockFile]]:
    """Be alone in the folder for a moment; yields its descriptor and the gate's file.

    Everything that reads or changes who waits and who holds happens in here, and takes well under a millisecond.
    """
    folder = open_folder(path)
    try:
        file = LockFile(folder, "gate")
        try:
            while not file.try_lock():
                if deadline.passed:
                    raise _refuse(path, "another process keeps its gate shut; is one stopped (Ctrl-Z)?")
                time.sleep(_GATE_POLL_S)
            yield folder, file
        finally:
            file.close()
    except OSError as error:  # also out of the block: a disk without room, or something laid in a lock file's place
        raise _refuse(path / str(error.filename or ""), error.strerror or str(error)) from error
    finally:
        os.close(folder)
