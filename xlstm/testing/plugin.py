"""The pytest plugin: the fixtures `parity` and `xlstm_framework`, and a report of the suite.

    def test_mine(parity):
        parity("model.keras", Mine())

    pytest --xlstm-report=parity.html

pytest loads this module in every session, so it imports nothing of xlstm until something is used.
The results of a test travel with its own report. So they reach the process that writes the page
from the workers of pytest-xdist too.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from xlstm.testing.results import ParityResult

MARKER = "xlstm_framework"
"""The marker and the fixture of tests that belong to a framework."""

ROWS = "xlstm_parity"
"""The attribute of a test's report with its comparisons."""

LONGEST = 20_000
"""Most characters of a text in the page."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the options and the setting of the time limit."""
    group = parser.getgroup("xlstm", "parity of models (xlstm)")
    group.addoption(
        "--xlstm-frameworks",
        metavar="NAMES",
        help="frameworks to test, separated by commas: torch,nnx. Default: all that are installed.",
    )
    group.addoption(
        "--xlstm-report",
        metavar="FILE",
        help="writes the comparisons of all tests to one HTML page",
    )
    help_ = "seconds of one comparison of `parity`, which then runs in a process of its own"
    parser.addini("xlstm_timeout", help_, default="0")


def pytest_configure(config: pytest.Config) -> None:
    """Registers the marker; checks the options where they are used."""
    line = f"{MARKER}(*names): the test needs these frameworks; their tests share one worker"
    config.addinivalue_line("markers", line)
    if config.getoption("--xlstm-frameworks"):
        selected_frameworks(config)
    if target := config.getoption("--xlstm-report"):
        path = Path(config.invocation_params.dir, target)
        worker = hasattr(config, "workerinput")
        config.pluginmanager.register(SuiteReport(None if worker else _checked(path)), "xlstm-page")


def selected_frameworks(config: pytest.Config) -> list[str]:
    """Returns the frameworks that a session tests: those named, or all that are installed.

    Raises:
        pytest.UsageError: an unknown name, or a framework that is not installed.
    """
    from xlstm.errors import XlstmError
    from xlstm.frameworks import registry

    words = config.getoption("--xlstm-frameworks")
    if not words:
        return [name for name in registry.frameworks() if registry.adapter(name).installed]
    try:
        names = registry.canonicals(filter(None, map(str.strip, words.split(","))))
        for name in names:
            registry.adapter(name).check_installed()
    except XlstmError as error:
        raise pytest.UsageError(f"--xlstm-frameworks: {error}") from None
    return names


def _checked(path: Path) -> Path:
    """The path of a page that can be written.

    Raises:
        pytest.UsageError: it cannot.
    """
    folder, wrong = path.parent, ""
    if path.is_dir():
        wrong = "a folder"
    elif not folder.is_dir():
        wrong = f"no folder {folder}"
    elif not os.access(path if path.exists() else folder, os.W_OK):
        wrong = "one that is read-only"
    if wrong:
        text = f"--xlstm-report {path}: expected a file that can be written, got {wrong}"
        raise pytest.UsageError(f"{text}; name another path")
    return path


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Runs a test with the fixture `xlstm_framework` once for each framework."""
    if MARKER in metafunc.fixturenames:
        names = selected_frameworks(metafunc.config)
        mark = getattr(pytest.mark, MARKER)
        cases = [pytest.param(name, marks=mark(name)) for name in names]
        metafunc.parametrize(MARKER, cases, indirect=True, scope="session")


@pytest.hookimpl(tryfirst=True)  # pytest-xdist reads the groups in the same hook
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out tests of other frameworks, and groups those of one for `--dist loadgroup`."""
    marked = [(item, names) for item in items if (names := _names(item))]
    if not marked:
        return
    if config.getoption("--xlstm-frameworks"):
        selected = {*selected_frameworks(config)}
        dropped = [item for item, names in marked if not {*names} <= selected]
        config.hook.pytest_deselected(items=dropped)
        items[:] = [item for item in items if item not in dropped]
    if config.pluginmanager.hasplugin("xdist"):
        for item, names in marked:
            if item.get_closest_marker("xdist_group") is None:
                item.add_marker(pytest.mark.xdist_group("+".join(names)))


def _names(item: pytest.Item) -> list[str]:
    """The frameworks of a test's markers, sorted.

    Raises:
        pytest.UsageError: an unknown name.
    """
    words = {str(word) for mark in item.iter_markers(MARKER) for word in mark.args}
    if not words:
        return []
    from xlstm.errors import XlstmError
    from xlstm.frameworks import registry

    try:
        return sorted(registry.canonicals(words))
    except XlstmError as error:
        raise pytest.UsageError(f"{item.nodeid}, marker {MARKER}: {error}") from None


@pytest.fixture(scope="session")
def xlstm_framework(request: pytest.FixtureRequest) -> str:
    """Returns the name of a framework; the test runs once for each (`--xlstm-frameworks`)."""
    return str(request.param)


@pytest.fixture(scope="session")
def parity(pytestconfig: pytest.Config) -> Callable[..., ParityResult]:
    """Returns `xlstm.testing.assert_parity`, with the time limit of the setting `xlstm_timeout`."""
    from xlstm.errors import UsageError
    from xlstm.testing.assertion import assert_parity

    said = pytestconfig.getini("xlstm_timeout")
    try:
        limit = float(said)
    except ValueError:
        do = "write 30 for half a minute"
        raise UsageError("xlstm_timeout", "a number of seconds", repr(said), do) from None

    def parity(truth: Any, suspect: Any, **options: Any) -> ParityResult:
        __tracebackhide__ = True
        return assert_parity(truth, suspect, **{"timeout": limit, **options})

    return parity


def pytest_unconfigure() -> None:
    """Forgets the files that the session has read."""
    import sys

    if "xlstm.testing.comparison" in sys.modules:
        sys.modules["xlstm.testing.comparison"].FILES.clear()


class SuiteReport:
    """Collects the comparisons of a session, and writes the page at its end.

    Args:
        path: of the page; None in a worker of pytest-xdist, which only passes its results on.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._found: list[ParityResult] = []
        self._rows: list[dict[str, Any]] = []
        self._said = ""

    def pytest_sessionstart(self) -> None:
        """Listens to all comparisons from now on."""
        from xlstm.testing.results import listen

        listen(self._found.append)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, Any, Any]:
        """Adds the comparisons of a test to its report."""
        report: Any = yield
        rows = [{**found.to_json(), "causes": [*found.causes]} for found in self._found]
        self._found.clear()
        wrong = call.excinfo is not None and report.failed
        uses = "parity" in getattr(item, "fixturenames", ())
        if wrong and uses and all(row["outcome"] == "equal" for row in rows):
            assert call.excinfo is not None
            rows.append(failed_row(f"{call.excinfo.typename}: {call.excinfo.value}"))
        for row in rows:
            row["text"] = row["text"][:LONGEST]
        if rows:
            setattr(report, ROWS, rows)
        return report

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Keeps the comparisons of a test, and the tests whose worker has crashed."""
        rows = [*getattr(report, ROWS, ())]
        if report.when == "???" and report.failed:  # of pytest-xdist
            rows.append(failed_row(str(report.longrepr)))
        where = {"test": report.nodeid, "result": report.outcome}
        self._rows += [{**row, **where} for row in rows]

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Writes the page; a session whose page cannot be written fails."""
        from xlstm.testing.results import stop_listening

        stop_listening(self._found.append)
        if self._path is None:
            return
        from xlstm.files.atomic import write_file
        from xlstm.testing.suite_page import page

        try:
            write_file(self._path, page(self._rows).encode("utf-8", "backslashreplace"))
            self._said = f"xlstm: wrote {self._path}"
        except OSError as error:
            self._said = f"xlstm: cannot write {self._path}: {error.strerror or error}"
            session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Names the page, or the reason why there is none."""
        if self._said:
            terminalreporter.write_line(self._said)


def failed_row(text: str) -> dict[str, Any]:
    """Returns the row of a test that ended before its comparison did."""
    return {
        "outcome": "failed",
        "truth": "",
        "suspect": "",
        "text": text,
        "ratio": None,
        "causes": [],
        "seconds": 0.0,
    }
