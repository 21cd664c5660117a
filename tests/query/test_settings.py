from __future__ import annotations

import json
from pathlib import Path

import pytest

from flor_trace.cli import EXAMPLES, main


def test_config_tells_where_values_come_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").write_text("[tool.flor_trace]\noverhead = 0.02\nworkers = 3\n")
    (tmp_path / "setup.cfg").write_text("[flor_trace]\nworkers = 5\ntag = a=1, b=2\n")
    monkeypatch.setenv("FLOR_TRACE_EVERY", "4")
    assert main(["config", "--json"]) == 0
    found = {one["name"]: (one["value"], one["origin"]) for one in json.loads(capsys.readouterr().out)}
    assert found["overhead"] == (0.02, "pyproject.toml")
    assert found["workers"] == (3, "pyproject.toml")
    assert found["tag"] == ({"a": "1", "b": "2"}, "setup.cfg")
    assert found["every"] == (4, "FLOR_TRACE_EVERY")
    assert found["show"] == ("new", "default")
    assert "run" not in found and "dry-run" not in found
    assert main(["config"]) == 0
    rows = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines()}
    assert rows["tag"] == ["a=1,b=2", "setup.cfg", "record", "FLOR_TRACE_TAG"]
    assert rows["instrument"] == ["-", "default", "record", "FLOR_TRACE_INSTRUMENT"]


def test_a_value_that_cannot_be_used_is_an_error(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FLOR_TRACE_OVERHEAD", "lots")
    assert main(["config"]) == 2
    assert "overhead in FLOR_TRACE_OVERHEAD" in capsys.readouterr().err


@pytest.mark.parametrize("command", sorted(EXAMPLES))
def test_help_has_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    out = capsys.readouterr().out
    assert f"examples:\n  flor_trace {command}" in out or f"{command} --json" in out
