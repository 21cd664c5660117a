"""The workloads learn, are deterministic, know nothing of flor_trace, and replay exactly."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from exactness import Case, Insertion, case_from_marks, compare, run_plainly

WORKLOADS = Path(__file__).parents[2] / "workloads"

SMALL = {
    "digits_cnn.py": ("--epochs", "3", "--width", "4"),
    "char_lm.py": ("--max-iters", "30", "--eval-interval", "10", "--eval-iters", "2", "--n-embd", "16", "--block-size", "32"),
}
PROBES = {
    "digits_cnn.py": {
        "outer": (
            "scheduler.step()",
            "print('@@', epoch, repr(train_loss), scheduler.get_last_lr(), repr(model.bn1.running_var.sum().item()))",
        ),
        "inner": ("loss.backward()", "print('@@', epoch, step, repr(loss.item()), repr(model.fc2.weight.grad.norm().item()))"),
    },
    "char_lm.py": {
        "outer": ("losses = estimate_loss()", "print('@@', step, {k: repr(v) for k, v in losses.items()}, lr)"),
        "inner": ("loss.backward()", "print('@@', step, repr(loss.item()), repr(model.ln_f.weight.grad.norm().item()))"),
    },
}


def _case(name: str) -> Case:
    lines = (WORKLOADS / name).read_text().splitlines()
    probes = {}
    for probe, (anchor, statement) in PROBES[name].items():
        (number,) = [i for i, line in enumerate(lines, start=1) if line.strip() == anchor]
        indent = lines[number - 1][: len(lines[number - 1]) - len(anchor)]
        probes[probe] = [Insertion(name, number, indent, statement)]
    return Case(WORKLOADS, name, SMALL[name], probes)


@pytest.mark.parametrize("name", SMALL)
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


@pytest.mark.parametrize("name", SMALL)
def test_replays_exactly(name: str) -> None:
    report = compare(_case(name), workers=(2,))
    assert not report.failures, "\n".join(report.failures)


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("every", ["1", "auto"])
def test_replays_exactly_with_any_number_of_workers(name: str, every: str) -> None:
    report = compare(_case(name), workers=(1, 2, 3), every=every, show_all=True)
    assert not report.failures, "\n".join(report.failures)
