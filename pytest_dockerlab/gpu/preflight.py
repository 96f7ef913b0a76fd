"""What would go wrong on the GPU, named before training starts. Pure: records in, records out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pytest_dockerlab.gpu.inventory import Gpu, Inventory, gib
from pytest_dockerlab.gpu.select import free_enough
from pytest_dockerlab.gpu.support import EngineSupport

# CVE-2025-23266: before it, an image's LD_PRELOAD runs as root on the host while the toolkit prepares the container.
SAFE_TOOLKIT = (1, 17, 8)
_MAX_REQUIREMENT = 16 * 1024

Version = tuple[int, ...]


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, in both languages. `fatal`: training can't work, so it need not be tried."""

    code: str
    fatal: bool
    message_en: str
    message_zh: str
    fix_en: str
    fix_zh: str

    def message(self, lang: str) -> str:
        """Return what is wrong, in `en` or `zh`."""
        return self.message_zh if lang == "zh" else self.message_en

    def fix(self, lang: str) -> str:
        """Return what to do, in `en` or `zh`."""
        return self.fix_zh if lang == "zh" else self.fix_en


def version(text: str) -> Version | None:
    """Return the leading numbers of a version, e.g. (12, 4, 1) of `12.4.1`."""
    match = re.match(r"\s*(\d{1,6}(?:\.\d{1,6}){0,3})", text)
    return tuple(int(part) for part in match[1].split(".")) if match else None


def _dots(numbers: Iterable[int]) -> str:
    return ".".join(str(number) for number in numbers)


def _compare(have: Version, sign: str, want: Version) -> bool:
    # `12.4` in a requirement stands for 12.4 and all its patches: compare only the parts that it names.
    length = len(want)
    cut = (have + (0,) * length)[:length]
    answers = {
        "=": cut == want,
        "!=": cut != want,
        ">=": cut >= want,
        "<=": cut <= want,
        ">": cut > want,
        "<": cut < want,
    }
    return answers[sign]


def satisfied(requirement: str, gpu: Gpu) -> bool | None:
    """Return whether a GPU and its driver satisfy an image's `NVIDIA_REQUIRE_CUDA`; `None` where that can't be told.

    Its form: alternatives between spaces, each a list of conditions between commas, e.g.
    `cuda>=12.4 brand=tesla,driver>=470,driver<471`.
    """
    answers: list[bool | None] = []
    for alternative in requirement[:_MAX_REQUIREMENT].split():
        conditions = [_condition(condition, gpu) for condition in alternative.split(",") if condition]
        answers.append(False if False in conditions else None if None in conditions else True)
    if True in answers or not answers:
        return True
    return None if None in answers else False


def _condition(text: str, gpu: Gpu) -> bool | None:
    match = re.fullmatch(r"(\w+)(!=|>=|<=|=|>|<)(\S+)", text)
    if match is None:
        return None
    subject, sign, wanted = match.groups()
    if subject == "brand":
        return None if gpu.brand is None or sign not in ("=", "!=") else (gpu.brand == wanted.lower()) is (sign == "=")
    have = gpu.cuda if subject == "cuda" else version(gpu.driver or "") if subject == "driver" else None
    want = version(wanted)
    return None if have is None or want is None else _compare(have, sign, want)


def driver_problem(gpu: Gpu, image_env: Mapping[str, str]) -> Problem | None:
    """Return the problem of a driver that is too old for the image's CUDA; `None` also where nothing is known.

    An image that states its requirement is taken at its word: NVIDIA's runtime refuses to start it. One that only
    states its CUDA runs where the driver's CUDA has the same major version, since CUDA 11.
    """
    if gpu.kind != "nvidia" or gpu.cuda is None:
        return None
    requirement = image_env.get("NVIDIA_REQUIRE_CUDA", "")
    enforced = image_env.get("NVIDIA_DISABLE_REQUIRE", "").lower() not in ("1", "true")
    cuda = version(image_env.get("CUDA_VERSION", ""))
    if requirement and enforced:
        if satisfied(requirement, gpu) is not False:
            return None
    elif cuda is None or cuda[0] <= gpu.cuda[0]:
        return None
    needs = f"CUDA {_dots(cuda)}" if cuda else requirement[:80]
    driver, supported = gpu.driver or "?", _dots(gpu.cuda)
    return Problem(
        code="driver-too-old",
        fatal=True,
        message_en=f"The image needs {needs}; the driver {driver} of {gpu.label} supports CUDA {supported}.",
        message_zh=f"镜像需要 {needs}；{gpu.label} 的驱动 {driver} 只支持到 CUDA {supported}。",
        fix_en=f"Use a base image for CUDA {supported} or older, or install a newer NVIDIA driver on the machine.",
        fix_zh=f"改用 CUDA {supported} 或更早版本的基础镜像，或在主机上安装更新的 NVIDIA 驱动。",
    )


def toolkit_problem(gpus: Sequence[Gpu], support: EngineSupport) -> Problem | None:
    """Return the problem of an engine that can't give NVIDIA's GPUs to a container, or of a toolkit that is unsafe."""
    nvidia = [gpu for gpu in gpus if gpu.kind == "nvidia"]
    if nvidia and not any(support.way(gpu) for gpu in nvidia):
        return Problem(
            code="toolkit-missing",
            fatal=True,
            message_en=f"{nvidia[0].label} is here, but the engine has neither NVIDIA's runtime nor its CDI devices.",
            message_zh=f"本机有 {nvidia[0].label}，但容器引擎既没有 NVIDIA 运行时，也没有它的 CDI 设备。",
            fix_en="Install the NVIDIA Container Toolkit, then: sudo nvidia-ctk runtime configure --runtime=docker"
            " && sudo systemctl restart docker",
            fix_zh="安装 NVIDIA Container Toolkit，然后运行：sudo nvidia-ctk runtime configure --runtime=docker"
            " && sudo systemctl restart docker",
        )
    if support.toolkit is not None and support.toolkit < SAFE_TOOLKIT:
        seen, safe = _dots(support.toolkit), _dots(SAFE_TOOLKIT)
        return Problem(
            code="toolkit-vulnerable",
            fatal=False,
            message_en=f"The NVIDIA Container Toolkit is {seen}: before {safe} an image can run code as root on this"
            " machine (CVE-2025-23266).",
            message_zh=f"NVIDIA Container Toolkit 的版本是 {seen}：低于 {safe} 时，镜像可以在本机以 root 身份运行代码"
            "（CVE-2025-23266）。",
            fix_en=f"Update the NVIDIA Container Toolkit to {safe} or newer.",
            fix_zh=f"将 NVIDIA Container Toolkit 升级到 {safe} 或更高版本。",
        )
    return None


def busy_problem(gpu: Gpu, inventory: Inventory, min_memory_bytes: int = 0) -> Problem | None:
    """Return the problem of a GPU that somebody who holds no lease computes on, e.g. a notebook that was left open."""
    users = inventory.users(gpu)
    enough = free_enough(gpu, min_memory_bytes)
    if not users and enough:
        return None
    pids = ", ".join(str(pid) for pid in sorted(users or {})[:5])
    who_en = f"by the processes {pids}" if pids else "by others"
    who_zh = f"进程 {pids} 正在使用" if pids else "其他程序正在使用"
    return Problem(
        code="gpu-busy",
        fatal=not enough,
        message_en=f"{gpu.label} is in use {who_en}: {gib(gpu.free_bytes)} of {gib(gpu.memory_bytes)} are free.",
        message_zh=f"{gpu.label}：{who_zh}，{gib(gpu.memory_bytes)} 显存中剩余 {gib(gpu.free_bytes)}。",
        fix_en="End those processes (`nvidia-smi` shows them), or use another GPU.",
        fix_zh="结束这些进程（用 `nvidia-smi` 查看），或改用另一块 GPU。",
    )


def check(
    gpus: Sequence[Gpu],
    support: EngineSupport,
    inventory: Inventory,
    *,
    image_env: Mapping[str, str] | None = None,
    min_memory_bytes: int = 0,
    here: Sequence[Gpu] = (),
) -> tuple[Problem, ...]:
    """Return every problem of these GPUs with this engine and this image, the fatal ones first.

    `here` are all GPUs of the machine (`EngineInventory.here()`): a missing toolkit is seen by those that the engine
    can't give, so that none of them is among `gpus`.
    """
    found = [toolkit_problem(here or gpus, support)]
    for gpu in gpus:
        found.append(driver_problem(gpu, image_env or {}))
        found.append(busy_problem(gpu, inventory, min_memory_bytes))
    return tuple(sorted((problem for problem in found if problem), key=lambda problem: not problem.fatal))


def image_env(entries: Iterable[str] | None) -> dict[str, str]:
    """Return an image's `Env` list as a mapping; a student wrote it, so odd entries are dropped."""
    pairs = (entry.partition("=") for entry in entries or () if "=" in entry)
    return {name: value[:_MAX_REQUIREMENT] for name, _, value in pairs}
