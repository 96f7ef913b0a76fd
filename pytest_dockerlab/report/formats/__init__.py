"""One score in every format. A format is one module here with a tuple `FORMATS`; the registry finds it by itself."""

from __future__ import annotations

import pkgutil
from importlib import import_module

from pytest_dockerlab.report.formats.base import Context, Format, NoGrade


def _discover() -> dict[str, Format]:
    found: dict[str, Format] = {}
    for module in pkgutil.iter_modules(__path__):
        for form in getattr(import_module(f"{__name__}.{module.name}"), "FORMATS", ()):
            assert form.name not in found, f"two formats are called {form.name}"
            found[form.name] = form
    return dict(sorted(found.items()))


FORMATS: dict[str, Format] = _discover()

__all__ = ["FORMATS", "Context", "Format", "NoGrade"]
