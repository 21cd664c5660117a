"""The workloads learn, are deterministic, know nothing of flor_trace, and replay exactly."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest
from exactness import Case, Insertion, case_from_marks, compare, run_plainly

WORKLOADS = Path(__file__).parents[2] / "workloads"
sys.path.insert(0, str(WORKLOADS.parent / "scripts"))
from workload_cases import CASES  # noqa: E402

BY_SCRIPT = {case.script: case for case in CASES.values()}
# What a run at the smallest scale prints of its progress, and how far it must come: the last number against the first, or a bound.
LEARNS = {
    "rte.py": (r"dev accuracy ([\d.]+)", lambda first, last: last > 0.8),
    "cola.py": (r"matthews ([\d.]+)", lambda first, last: last > 0.35),
    "cifr.py": (r"\(([\d.]+)%\)", lambda first, last: last > 80),
    "rsnt.py": (r"val_accuracy ([\d.]+)", lambda first, last: last > 0.6),
    "wiki.py": (r"valid loss ([\d.]+)", lambda first, last: last < 0.8 * first),
    "jasp.py": (r"word error rate ([\d.]+)", lambda first, last: last < 0.5 * first),
    "imgn.py": (r"\* Acc@1 ([\d.]+)", lambda first, last: last > first + 15),
    "rnnt.py": (r"BLEU ([\d.]+)", lambda first, last: last > 80),
}


def _case(name: str) -> Case:
    lines = (WORKLOADS / name).read_text().splitlines()
    case = BY_SCRIPT[name]
    probes = {}
    for probe in ("outer", "inner"):
        anchor, statement = case.statement(probe)
        (number,) = [i for i, line in enumerate(lines, start=1) if line.strip() == anchor]
        indent = lines[number - 1][: len(lines[number - 1]) - len(anchor)]
        probes[probe] = [Insertion(name, number, indent, statement)]
    return Case(WORKLOADS, name, case.tiny, probes, clock=case.clock)


@pytest.mark.parametrize("name", BY_SCRIPT)
def test_imports_nothing_of_ours(name: str) -> None:
    tree = ast.parse((WORKLOADS / name).read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported and not any(module.startswith("flor") for module in imported)


def test_digits_cnn_learns(tmp_path: Path) -> None:
    outcome = run_plainly(case_from_marks(WORKLOADS, "digits_cnn.py"), tmp_path, ("--epochs", "5"))
    accuracy = float(re.findall(rb"accuracy ([\d.]+)", outcome.stdout)[-1])
    assert outcome.status == 0 and accuracy > 0.8
    assert (tmp_path / "digits_out" / "best.pt").exists()


def test_char_lm_learns(tmp_path: Path) -> None:
    outcome = run_plainly(case_from_marks(WORKLOADS, "char_lm.py"), tmp_path, ("--max-iters", "100", "--eval-interval", "50"))
    losses = [float(value) for value in re.findall(rb"val loss ([\d.]+)", outcome.stdout)]
    assert outcome.status == 0 and losses[-1] < 0.75 * losses[0]
    assert (tmp_path / "char_lm_out" / "ckpt.pt").exists()


@pytest.mark.parametrize("name", LEARNS)
def test_learns_and_replays_exactly(name: str) -> None:
    # The outer statement alone lets the loops over steps be skipped; with both nothing can be.
    report = compare(_case(name), replays=[("outer", 1), ("outer+inner", 1), ("outer+inner", 2)])
    assert not report.failures, "\n".join(report.failures)
    pattern, far_enough = LEARNS[name]
    figures = [float(value) for value in re.findall(pattern, report.stdout.decode())]
    assert len(figures) >= 2 and far_enough(figures[0], figures[-1]), report.stdout.decode()


@pytest.mark.slow
@pytest.mark.parametrize("name", BY_SCRIPT)
@pytest.mark.parametrize("every", ["1", "auto"])
def test_replays_exactly_with_any_number_of_workers(name: str, every: str) -> None:
    report = compare(_case(name), workers=(1, 2, 3), every=every, show_all=True)
    assert not report.failures, "\n".join(report.failures)
