from __future__ import annotations

import ast
import importlib.machinery
import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("exploding_gradients", "learning_rate", "overfitting")


def runner() -> ModuleType:
    loader = importlib.machinery.SourceFileLoader("scenarios", str(ROOT / "scripts" / "scenarios"))
    spec = importlib.util.spec_from_loader("scenarios", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["scenarios"] = module
    loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", NAMES)
def test_the_missing_statement_has_its_place(name: str, tmp_path: Path) -> None:
    scenarios = runner()
    assert tuple(scenarios.SCENARIOS) == NAMES
    source = (ROOT / "workloads" / "scenarios" / f"{name}.py").read_text()
    script = tmp_path / "train.py"
    script.write_text(source)
    scenario = scenarios.SCENARIOS[name]
    scenarios.insert(script, scenario.anchor, scenario.statement)
    added = [line for line in script.read_text().splitlines() if line not in source.splitlines()]
    assert [line.strip() for line in added] == [scenario.statement]
    ast.parse(script.read_text())


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_whole_story(name: str, tmp_path: Path) -> None:
    told = subprocess.run([ROOT / "scripts" / "scenarios", name, "--out", tmp_path], capture_output=True, text=True, timeout=600)
    assert told.returncode == 0, told.stderr
    assert "replay exact" in told.stderr
    assert (tmp_path / name / f"{name}.png").read_bytes().startswith(b"\x89PNG")
