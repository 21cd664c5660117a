"""Every script in tests/scripts, recorded and replayed, prints what a plain run of it would print.

The quick run replays each probe once, with two workers (scripts without torch with one, two and three); `--slow` adds one and three
workers everywhere, the snapshots that the budget chooses by itself, and the whole log (`--show all`).
"""

from __future__ import annotations

from pathlib import Path

import pytest
from exactness import Case, case_from_marks, compare

SCRIPTS = Path(__file__).parent / "scripts"


def _cases() -> dict[str, Case]:
    scripts = {path.stem: case_from_marks(SCRIPTS, path.name) for path in sorted(SCRIPTS.glob("*.py"))}
    folders = {path.parent.name: case_from_marks(path.parent, path.name) for path in sorted(SCRIPTS.glob("*/main.py"))}
    return scripts | folders


CASES = _cases()
PROBES = [(name, probe) for name, case in CASES.items() for probe in case.probes]


def _imports_torch(case: Case) -> bool:
    return "import torch" in (case.folder / case.script).read_text()


def _quick(name: str) -> object:
    return pytest.param(name, marks=[pytest.mark.slow] if CASES[name].quick == () else [])


@pytest.mark.parametrize("name", [_quick(name) for name in CASES])
def test_recorded_and_replayed_as_plain(name: str) -> None:
    case = CASES[name]
    report = compare(case, workers=(2,) if _imports_torch(case) else (1, 2, 3), probes=case.quick or None)
    assert not report.failures, "\n".join(report.failures)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "probe"), PROBES)
def test_any_number_of_workers(name: str, probe: str) -> None:
    report = compare(CASES[name], workers=(1, 2, 3), probes=[probe], show_all=True)
    assert not report.failures, "\n".join(report.failures)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_snapshots_chosen_by_the_budget(name: str) -> None:
    report = compare(CASES[name], workers=(2,), every="auto")
    assert not report.failures, "\n".join(report.failures)
