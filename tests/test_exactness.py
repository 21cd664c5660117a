"""Every script in tests/scripts, recorded and replayed, prints what a plain run of it would print.

The quick run replays the outermost probe alone, so that all loops are skipped that can be, and all probes at once; the one with one
worker and the other with two, scripts without torch with two, one and three. `--slow` replays each probe alone with one, two and three
workers, and adds the snapshots that the budget chooses by itself, and the whole log (`--show all`).
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


def _quick_replays(case: Case) -> list[tuple[str, int]]:
    torch = _imports_torch(case)
    if case.quick:
        return [(name, number) for name in case.quick for number in ((2,) if torch else (1, 2, 3))]
    # The outermost is the one that is called so, or else stands last.
    outermost = "outer" if "outer" in case.probes else list(case.probes)[-1]
    together = "+".join(case.probes)
    if outermost == together:
        return [(outermost, number) for number in ((2,) if torch else (1, 2, 3))]
    # Importing torch is what costs most, in each worker.
    return [(outermost, 1), (together, 2)] if torch else [(outermost, 2), (together, 1), (together, 3)]


@pytest.mark.parametrize("name", [_quick(name) for name in CASES])
def test_recorded_and_replayed_as_plain(name: str) -> None:
    report = compare(CASES[name], replays=_quick_replays(CASES[name]))
    assert not report.failures, "\n".join(report.failures)


def test_what_differs_is_seen(tmp_path: Path) -> None:
    script = "import os\nfor epoch in range(2):\n    #+inner print('@@', epoch, __import__('os').getpid())\n    print(os.getpid())\n"
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "train.py").write_text(f'"""Prints a number that no other run prints."""\n{script}')
    report = compare(case_from_marks(tmp_path / "scripts", "train.py"))
    assert {failure.split(":")[0] for failure in report.failures} == {"record, stdout", "inner --workers 2"}


def test_a_script_that_reads_its_own_source_is_compared_with_a_run_without_probes(tmp_path: Path) -> None:
    script = "for epoch in range(2):\n    #+outer print('@@', epoch)\n    print(epoch)\nprint(len(open(__file__).readlines()))\n"
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "train.py").write_text(f'"""Counts its lines."""\n{script}')
    report = compare(case_from_marks(tmp_path / "scripts", "train.py"), workers=(1,))
    assert "plain" in report.seconds and not [failure for failure in report.failures if failure.startswith("record")]


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
