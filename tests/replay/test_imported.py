"""A library that a hindsight statement imports first changes nothing that the recorded program sees."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import types
import warnings
from pathlib import Path

import pytest

from flor_trace.replay.imported import Imported

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """\
import os, random, warnings
import numpy as np
random.seed(0)
np.random.seed(0)
rng, w = np.random.default_rng(0), np.zeros(20)
for epoch in range(4):
    for step in range(30):
        w += rng.normal(size=20) * 0.1 + np.random.rand() + random.random()
    #HERE
    print(epoch, w.sum(), "FROM_LIBRARY" in os.environ, len(warnings.filters))
"""
LIBRARY = """\
import logging, os, random, warnings
os.environ["FROM_LIBRARY"] = "1"
warnings.filterwarnings("ignore", message="from library")
logger = logging.getLogger("unrelated_name")
logger.setLevel(logging.DEBUG)
logger.addHandler(logging.NullHandler())
number = random.getrandbits(24)
"""


def replayed(path: Path, statements: str, workers: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """A recording without the statements, replayed with them."""

    def flor(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "flor_trace", *words, "x.py"]
        return subprocess.run(command, cwd=path, env=environment, capture_output=True, text=True, timeout=300)

    (path / "x.py").write_text(SCRIPT)
    assert flor("record", "-q", "--every", "1").returncode == 0
    (path / "x.py").write_text((path / "x.py").read_text().replace("    #HERE\n", statements))
    return flor("replay", "--workers", workers)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_what_an_import_sets_and_draws_is_put_back(tmp_path: Path, workers: str) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "work").mkdir()
    (tmp_path / "site" / "some_library.py").write_text(LIBRARY)
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path / 'site'}"}
    statements = "    import some_library\n    print('new', some_library.number >= 0)\n"
    done = replayed(tmp_path / "work", statements, workers, environment)
    assert "replay exact" in done.stderr, done.stderr
    assert [line.split()[:2] for line in done.stdout.splitlines()] == [["new", "True"]] * 4


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize(
    ("library", "value"),
    [
        ("import torch", "torch.tensor(w).norm().item()"), ("import scipy.stats", "scipy.stats.skew(w)"),
        ("import sklearn.metrics", "sklearn.metrics.mean_squared_error(w, w * 2)"), ("import rich.console", "w.max()"),
        ("from matplotlib import pyplot", "pyplot.plot(w)[0].get_ydata().sum()"), ("import pandas", "pandas.Series(w).mean()"),
    ],
)  # fmt: skip
def test_real_libraries(tmp_path: Path, library: str, value: str, workers: str) -> None:
    pytest.importorskip(library.split()[1].partition(".")[0])
    statements = f"    {library}\n    print('new', {value})\n"
    done = replayed(tmp_path, statements, workers, {**os.environ, "PYTHONPATH": str(ROOT)})
    assert "replay exact" in done.stderr, done.stderr
    plain = f"import random\n{library}\n" + (tmp_path / "x.py").read_text().replace(f"    {library}\n", "")
    truth = subprocess.run([sys.executable, "-c", plain], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout.splitlines() == [line for line in truth.stdout.splitlines() if line.startswith("new")]


def test_nothing_is_touched_where_nothing_was_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    imported, filters = Imported(), list(warnings.filters)
    before = imported.before()
    monkeypatch.setenv("FROM_STATEMENT", "1")
    imported.after(before)
    assert os.environ["FROM_STATEMENT"] == "1"
    before = imported.before()
    monkeypatch.setitem(sys.modules, "imported_by_a_test", types.ModuleType("imported_by_a_test"))
    monkeypatch.setenv("FROM_LIBRARY", "1")
    monkeypatch.delenv("FROM_STATEMENT")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger("made_by_a_test")
        imported.after(before)
        assert list(warnings.filters) == filters
    assert ("FROM_LIBRARY" in os.environ, os.environ["FROM_STATEMENT"]) == (False, "1")
    assert "logging:made_by_a_test" in imported.roots
