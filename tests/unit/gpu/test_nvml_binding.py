"""NVML through its real binding, over a small `libnvidia-ml.so.1` of ours: two cards, one of them cut into instances.

It shows that `nvidia-ml-py` is asked rightly (types, errors, missing functions). Whether NVIDIA's own answers so
is for `pytest -m gpu`, on a machine that has it.
"""

import json
import os
import shutil
import subprocess
import sys

import pytest

pytest.importorskip("pynvml")
pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc to build a stand-in for NVML with")

LIBRARY = r"""
#include <stdio.h>
#include <string.h>
enum { OK = 0, NOT_SUPPORTED = 3, NOT_FOUND = 6, TOO_SMALL = 7, LOST = 15 };
typedef struct { const char *uuid, *name; int brand; unsigned long long total, free; } card;
typedef struct { unsigned pid; unsigned long long bytes; unsigned gi, ci; } process;
static card cards[] = {{"GPU-aaaa1111", "NVIDIA H100", 2, 80ull << 30, 79ull << 30},
                       {"GPU-cccc3333", "NVIDIA A100", 2, 40ull << 30, 40ull << 30},
                       {"MIG-3333", "NVIDIA A100 MIG 3g.20gb", 2, 20ull << 30, 19ull << 30}};
int nvmlInitWithFlags(unsigned f) { return OK; }
const char *nvmlErrorString(int e) { return "an error of the stand-in"; }
int nvmlSystemGetDriverVersion(char *t, unsigned n) { snprintf(t, n, "550.54.14"); return OK; }
int nvmlSystemGetCudaDriverVersion(int *v) { *v = 12040; return OK; }
int nvmlDeviceGetCount_v2(unsigned *n) { *n = 3; return OK; }
int nvmlDeviceGetHandleByIndex_v2(unsigned i, card **c) { if (i == 2) return LOST; *c = cards + i; return OK; }
int nvmlDeviceGetMigMode(card *c, unsigned *now, unsigned *next) {
  if (c == cards) return NOT_SUPPORTED; *now = *next = 1; return OK; }
int nvmlDeviceGetMaxMigDeviceCount(card *c, unsigned *n) { *n = 7; return OK; }
int nvmlDeviceGetMigDeviceHandleByIndex(card *c, unsigned i, card **m) {
  if (i != 1) return NOT_FOUND; *m = cards + 2; return OK; }
int nvmlDeviceGetUUID(card *c, char *t, unsigned n) { snprintf(t, n, "%s", c->uuid); return OK; }
int nvmlDeviceGetName(card *c, char *t, unsigned n) { snprintf(t, n, "%s", c->name); return OK; }
int nvmlDeviceGetBrand(card *c, int *b) { *b = c->brand; return OK; }
int nvmlDeviceGetMemoryInfo(card *c, unsigned long long *m) {
  m[0] = c->total; m[1] = c->free; m[2] = c->total - c->free; return OK; }
int nvmlDeviceGetComputeRunningProcesses_VERSION(card *c, unsigned *n, process *p) {
  if (c != cards) { *n = 0; return OK; }
  if (*n < 2) { *n = 2; return TOO_SMALL; }
  process two[] = {{10, 1ull << 30, 0, 0}, {11, ~0ull, 0, 0}};  /* the second: not available, as under WSL */
  memcpy(p, two, sizeof two); *n = 2; return OK; }
int nvmlDeviceGetGraphicsRunningProcesses_VERSION(card *c, unsigned *n, process *p) { *n = 0; return OK; }
"""

ASK = """
import dataclasses, json
from pytest_dockerlab.gpu.nvml import NvmlInventory
inventory = NvmlInventory()
gpus = inventory.gpus()
print(json.dumps([[dataclasses.asdict(gpu), inventory.users(gpu)] for gpu in gpus] + [inventory.absence()]))
"""


@pytest.mark.parametrize("version", ["v3", "v2"])  # v2: what drivers before 510 have
def test_cards_instances_and_processes(tmp_path, version):
    (tmp_path / "nvml.c").write_text(LIBRARY.replace("VERSION", version))
    built = ["gcc", "-shared", "-fPIC", "-w", "-o", str(tmp_path / "libnvidia-ml.so.1"), str(tmp_path / "nvml.c")]
    subprocess.run(built, check=True)
    done = subprocess.run(
        [sys.executable, "-c", ASK],
        env={**os.environ, "LD_LIBRARY_PATH": str(tmp_path)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    (h100, h100_users), (part, part_users), absence = json.loads(done.stdout)
    assert absence == ""
    assert (h100["index"], h100["uuid"], h100["name"], h100["brand"]) == (0, "GPU-aaaa1111", "NVIDIA H100", "tesla")
    assert (h100["memory_bytes"], h100["free_bytes"]) == (80 * 2**30, 79 * 2**30)
    assert (h100["driver"], h100["cuda"], h100["mig_parent"]) == ("550.54.14", [12, 4], None)
    assert h100_users == {"10": 2**30, "11": None}
    assert (part["index"], part["mig_index"], part["mig_parent"]) == (1, 1, "GPU-cccc3333")
    assert (part["uuid"], part["memory_bytes"]) == ("MIG-3333", 20 * 2**30)
    assert part_users == {}
