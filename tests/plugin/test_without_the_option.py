"""Without `--dockerlab`, pytest is as if the plugin were not installed."""

from __future__ import annotations

import json
import subprocess
import sys

OURS = ("pytest_dockerlab", "pytest_dockerlab.errors", "pytest_dockerlab.plugin", "pytest_dockerlab.settings")
PROGRAM = """
import json, sys
import pytest
before = set(sys.modules)
status = pytest.main(["-p", "no:cacheprovider", "-q", sys.argv[1]])
standard = set(sys.stdlib_module_names) | {"pytest", "_pytest", "pluggy", "iniconfig", "packaging", "test_plain"}
new = sorted(name for name in set(sys.modules) - before if name.partition(".")[0] not in standard)
print("LOADED", json.dumps([int(status), new]))
"""


def test_nothing_but_the_standard_library_is_imported(pytester):
    pytester.makepyfile(test_plain="def test_one(): pass")
    # Only our plugin: others of the environment bring their own modules.
    environment = {"PATH": "/usr/bin:/bin", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_PLUGINS": OURS[2]}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(pytester.path)],
        capture_output=True,
        text=True,
        cwd=pytester.path,
        env=environment,
        timeout=60,
        check=True,
    )
    [line] = [line for line in done.stdout.splitlines() if line.startswith("LOADED")]
    status, loaded = json.loads(line.removeprefix("LOADED"))
    assert status == 0
    assert set(loaded) <= set(OURS)


def test_no_header_no_summary_no_fixtures(pytester):
    pytester.makepyfile("def test_one(): pass")
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*dockerlab:*")
    assert "dockerlab_engine" not in pytester.runpytest_inprocess("--fixtures").stdout.str()


def test_the_conftest_is_imported_as_ever(pytester):
    pytester.makeconftest("import pytest\n@pytest.fixture\ndef one(): return 1\n")
    pytester.makepyfile("def test_one(one): assert one == 1")
    pytester.runpytest_inprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)


def test_the_marker_is_known(pytester):
    pytester.makepyfile('import pytest\n@pytest.mark.dockerlab(check="loss")\ndef test_one(): pass')
    pytester.runpytest_inprocess("-p", "no:cacheprovider", "--strict-markers").assert_outcomes(passed=1)


def test_help_names_every_option(pytester):
    from pytest_dockerlab.settings import OPTIONS

    shown = pytester.runpytest_inprocess("--help").stdout.str()
    for option in OPTIONS:
        assert option.cli in shown
        assert option.variable in shown
