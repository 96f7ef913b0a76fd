"""The pytest entry point: options, and nothing else until `--dockerlab` is given.

Only pytest and the standard library are imported here: the plugin is installed for every pytest run of an environment,
and most of them are none of our business. `pytest_dockerlab.session` is the real plugin, registered on demand.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_dockerlab.settings import OPTIONS

if TYPE_CHECKING:
    from collections.abc import Sequence

MARKER = 'dockerlab(check="ID", points=N): the test judges the check ID of the assignment, worth N points'


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare `--dockerlab` and its family, each also as an ini setting."""
    group = parser.getgroup("dockerlab", "grade a container lab (pytest-dockerlab)")
    group.addoption(
        "--dockerlab",
        action="store_true",
        default=False,
        help="build, train, serve and predict on a real container engine, and grade. "
        "Example: pytest --dockerlab --dockerlab-results results.json",
    )
    for option in OPTIONS:
        told = f"{option.help} [env: {option.variable}, ini: dockerlab_{option.key}]"
        if option.flag:
            group.addoption(option.cli, action="store_true", default=None, dest=f"dockerlab_{option.key}", help=told)
        else:
            group.addoption(option.cli, metavar=option.metavar, default=None, dest=f"dockerlab_{option.key}", help=told)
        parser.addini(f"dockerlab_{option.key}", option.help, default=None)


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config, args: Sequence[str]) -> None:
    """Under `--dockerlab`, keep the lab repository's own conftest.py out: no student Python runs on the host."""
    if "--dockerlab" in args:
        early_config.known_args_namespace.noconftest = True


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker; under `--dockerlab`, register the real plugin."""
    config.addinivalue_line("markers", MARKER)
    if not config.getoption("dockerlab") or config.getoption("help") or config.getoption("markers"):
        return  # whoever asks for help has no assignment to name
    from pytest_dockerlab.session import register

    register(config)
