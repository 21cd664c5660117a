"""A script that cannot be read, or whose imports fail, leaves no run that would hide the last good one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NOTHING_RUN = {
    "text.py": "x = (\n",
    "imports.py": '"""Trains."""\nimport os\nimport not_there\nfor i in range(3): print(i)\n',
    "module.py": "import text\n",
}
SOMETHING_RUN = {
    "prints.py": "print(1)\nimport not_there\n",
    "writes.py": "open('made', 'w').close()\nimport not_there\n",
    "loops.py": "for i in range(3): pass\nimport not_there\n",
    "raises.py": "raise ValueError\n",
    "ends.py": "raise SystemExit(1)\n",
}


def flor(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "flor_trace", *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)


def runs(folder: Path) -> list[str]:
    return sorted(run["script"] for run in json.loads(flor(folder, "runs", "--json").stdout))


def test_runs_in_which_nothing_was_run_are_not_kept(tmp_path: Path) -> None:
    (tmp_path / "good.py").write_text("for i in range(3): print(i)\n")
    assert flor(tmp_path, "record", "good.py").returncode == 0
    for name, text in (NOTHING_RUN | SOMETHING_RUN).items():
        (tmp_path / name).write_text(text)
        said = flor(tmp_path, "record", name)
        assert said.returncode == 1
        assert ("so no run of it is kept" in said.stderr) == (name in NOTHING_RUN), name
        assert ("Error" in said.stderr) == (name != "ends.py")
    said = flor(tmp_path, "record", "-m", "not_there")
    assert (said.returncode, "Python could not start the script, so no run of it is kept" in said.stderr) == (1, True)
    assert runs(tmp_path) == sorted(["good.py", *SOMETHING_RUN])
    assert list((tmp_path / ".flor" / "trash").iterdir()) == []
