"""A process that competes for a lease, started by the tests as a script. What it does it appends to a log.

An oracle that knows nothing of locks watches: whoever has a GPU creates a file for it that must not exist yet.
"""

import contextlib
import json
import os
import signal
import sys
import time
from pathlib import Path

from pytest_dockerlab.deadline import Deadline
from pytest_dockerlab.errors import GpuUnavailable
from pytest_dockerlab.gpu import FakeInventory, acquire, parse


def alive(pid: int) -> bool:
    """Whether a process still runs: a zombie holds no lock any more."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


class Racer:
    def __init__(self, args):
        self.args = args
        self.home = Path(args["home"])
        self.said = False

    def log(self, *words):
        with (self.home / "log").open("a") as file:
            file.write(" ".join([self.args["name"], *map(str, words)]) + "\n")

    def say(self, text):
        if not self.said:
            self.said = True
            self.log("waits")
        with (self.home / f"said-{self.args['name']}").open("a") as file:
            file.write(text + "\n")

    @contextlib.contextmanager
    def oracle(self, uuids):
        for uuid in uuids:
            path = self.home / f"oracle-{uuid}"
            while True:
                try:
                    fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
                except FileExistsError:
                    other = path.read_text()
                    if not other or alive(int(other)):
                        self.log("VIOLATION", uuid, other)
                        raise SystemExit(3) from None
                    path.unlink()  # left by a holder that was killed
                    continue
                os.write(fd, str(os.getpid()).encode())
                os.close(fd)
                break
        yield
        for uuid in uuids:
            (self.home / f"oracle-{uuid}").unlink()

    def wait_for_end(self):
        """Hold for the given time, or until the test removes the file of our name."""
        if "hold_s" in self.args:
            time.sleep(self.args["hold_s"])
            return
        sign = self.home / f"hold-{self.args['name']}"
        while sign.exists():
            time.sleep(0.01)

    def once(self):
        choice = parse(self.args["choice"])
        inventory = FakeInventory.of(self.args.get("gpus", 2))
        deadline = Deadline.after(self.args.get("deadline_s", 60))
        with acquire(
            choice, inventory, deadline, self.say, run_id=f"run-{self.args['name']}",
            folder=self.home / "locks" / "gpu", poll_s=0.02,
        ) as lease:  # fmt: skip
            if lease is None:
                self.log("cpu")
                return
            with self.oracle(lease.uuids):
                self.log("got", *lease.uuids)
                if self.args.get("fork") and os.fork() == 0:
                    self.log("child", os.getpid())
                    signal.pause()
                self.wait_for_end()
            self.log("done")


def main():
    racer = Racer(json.loads(sys.argv[1]))
    try:
        for _ in range(racer.args.get("rounds", 1)):
            racer.once()
    except GpuUnavailable as error:
        racer.log("unavailable", error.message)
        raise SystemExit(10) from None


if __name__ == "__main__":
    main()
