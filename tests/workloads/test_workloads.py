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
    "rte.py": ("--scale", "tiny"),
    "cola.py": ("--scale", "tiny"),
    "cifr.py": ("--scale", "tiny"),
    "rsnt.py": ("--scale", "tiny"),
    "wiki.py": ("--scale", "tiny"),
    "jasp.py": ("--scale", "tiny"),
    "imgn.py": ("--scale", "tiny"),
    "rnnt.py": ("--scale", "tiny"),
}
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
# The clock is shown in these lines, and a replay serves the recorded one.
CLOCK = {"imgn.py": r"Time", "jasp.py": r" s\)$"}
PROBES = {
    "digits_cnn.py": {
        "outer": (
            "scheduler.step()",
            "print('@@', epoch, repr(train_loss), scheduler.get_last_lr(), repr(model.bn1.running_var.sum().item()))",
        ),
        "inner": ("loss.backward()", "print('@@', epoch, step, repr(loss.item()), repr(model.fc2.weight.grad.norm().item()))"),
    },
    "rte.py": {
        "outer": ("rate = scheduler.get_last_lr()[0]", "print('@@', epoch, repr(total), accuracy)"),
        "inner": ("loss.backward()", "print('@@', epoch, step, repr(loss.item()), repr(model.classifier[0].weight.grad.norm().item()))"),
    },
    "cola.py": {
        "outer": ("random.shuffle(train)", "print('@@', epoch, train[0][0].tolist(), repr(model.embed.weight.norm().item()))"),
        "inner": ("running += loss.item()", "print('@@', index, repr(running), repr(model.embed.weight.grad.norm().item()))"),
    },
    "cifr.py": {
        "outer": ("acc = test(model, args.device, test_loader)", "print('@@', epoch, repr(train_loss), acc, best_acc)"),
        "inner": ("loss.backward()", "print('@@', epoch, batch_idx, repr(loss.item()), repr(model[0].weight.grad.norm().item()))"),
    },
    "rsnt.py": {
        "outer": ("callback.on_epoch_end(self)", "print('@@', self.epoch, self.history['val_loss'], self.scheduler.get_last_lr())"),
        "inner": ("loss.backward()", "print('@@', self.epoch, repr(loss.item()), repr(self.model.fc.weight.grad.norm().item()))"),
    },
    "wiki.py": {
        "outer": ("best = min(best, valid_loss)", "print('@@', step, repr(valid_loss), repr(best))"),
        "inner": ("scaler.unscale_(optimizer)", "print('@@', step, repr(loss.item()), repr(model.norm.weight.grad.norm().item()))"),
    },
    "jasp.py": {
        "outer": ("scheduler.step()", "print('@@', epoch, repr(model.epilogue.weight.norm().item()), scheduler.get_last_lr())"),
        "inner": ("loss.backward()", "print('@@', epoch, batch, repr(loss.item()), lengths.tolist()[:3])"),
    },
    "imgn.py": {
        "outer": ("best_acc1 = max(acc1, best_acc1)", "print('@@', epoch, acc1, best_acc1, is_best)"),
        "inner": ("loss.backward()", "print('@@', epoch, i, repr(loss.item()), target.tolist(), repr(model[0].weight.grad.norm().item()))"),
    },
    "rnnt.py": {
        "outer": ("scheduler.step(score)", "print('@@', epoch, repr(score), waited, optimizer.param_groups[0]['lr'])"),
        "inner": ("loss.backward()", "print('@@', epoch, start, repr(loss.item()), repr(decoder.out.weight.grad.norm().item()))"),
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
    return Case(WORKLOADS, name, SMALL[name], probes, clock=CLOCK.get(name))


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


@pytest.mark.slow
@pytest.mark.parametrize("name", LEARNS)
def test_learns(name: str, tmp_path: Path) -> None:
    pattern, far_enough = LEARNS[name]
    outcome = run_plainly(case_from_marks(WORKLOADS, name), tmp_path, SMALL[name])
    figures = [float(value) for value in re.findall(pattern, outcome.stdout.decode())]
    assert outcome.status == 0 and len(figures) >= 2 and far_enough(figures[0], figures[-1]), outcome.stdout.decode()


@pytest.mark.parametrize("name", [name if name == "digits_cnn.py" else pytest.param(name, marks=pytest.mark.slow) for name in SMALL])
def test_replays_exactly(name: str) -> None:
    report = compare(_case(name), workers=(2,))
    assert not report.failures, "\n".join(report.failures)


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("every", ["1", "auto"])
def test_replays_exactly_with_any_number_of_workers(name: str, every: str) -> None:
    report = compare(_case(name), workers=(1, 2, 3), every=every, show_all=True)
    assert not report.failures, "\n".join(report.failures)
