"""What a test has the fake engine get wrong."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class _Fault:
    error: BaseException
    after: int
    times: int


@dataclass
class Faults:
    """The errors that methods raise, by the method's name."""

    _planned: dict[str, list[_Fault]] = field(default_factory=dict)

    def plan(self, method: str, error: BaseException, after: int, times: int) -> None:
        """Have a method raise, `times` times, after so many calls that go well."""
        self._planned.setdefault(method, []).append(_Fault(error, after, times))

    def meet(self, method: str) -> None:
        """Raise what is due at a call of this method."""
        for fault in self._planned.get(method, []):
            if fault.after > 0:
                fault.after -= 1
            elif fault.times > 0:
                fault.times -= 1
                raise fault.error
