"""HDF5 files, which h5py opens in native code: replay shows them as they were, and leaves the user's alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("h5py")
ROOT = Path(__file__).resolve().parent.parent.parent
SCRIPT = """\
import h5py, numpy as np, os
rng, w = np.random.default_rng(0), np.zeros(50)
for epoch in range(5):
    for step in range(20):
        w += rng.normal(size=50) * 0.01
    with h5py.File("log.h5", "a") as file:
        file[f"w{epoch}"] = w
        print(len(file), file.filename)
    with h5py.File("last.h5", "w") as file:
        file["w"] = w
    with h5py.File("last.h5") as file:
        print(file["w"][:].sum(), h5py.is_hdf5("last.h5"), h5py.is_hdf5("none.h5"))
    try:
        h5py.File("last.h5", "x")
    except FileExistsError:
        print("there")
    #HERE
"""
OPEN = SCRIPT.replace("for epoch", 'kept = h5py.File("kept.h5", "w")\nfor epoch')
OPEN = OPEN.replace("    #HERE", '    kept[f"{epoch}"] = w\n    #HERE')


@pytest.mark.parametrize("script", [SCRIPT, OPEN], ids=["closed", "kept open"])
def test_appended_read_and_made_anew(tmp_path: Path, script: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run([sys.executable, *words], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return done

    path = tmp_path / "x.py"
    path.write_text(script.replace("#HERE", 'print("new", np.abs(w).sum())'))
    truth = [line for line in run("x.py").stdout.splitlines() if line.startswith("new")]
    assert len(truth) == 5
    for left in tmp_path.glob("*.h5"):
        left.unlink()
    path.write_text(script)
    run("-m", "flor_trace", "record", "-q", "--every", "1", "x.py")
    before = {left.name: left.read_bytes() for left in tmp_path.glob("*.h5")}
    path.write_text(script.replace("#HERE", 'print("new", np.abs(w).sum())'))
    for workers in ("1", "2"):
        done = run("-m", "flor_trace", "replay", "--workers", workers, "x.py")
        assert done.stdout.splitlines() == truth
        assert "replay exact" in done.stderr
    assert {left.name: left.read_bytes() for left in tmp_path.glob("*.h5")} == before
