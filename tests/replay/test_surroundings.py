"""Thread counts and instruction sets are in replay what they were when recorded, and what cannot be so is named in the verdict."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flor_trace.runtime import machine
from flor_trace.store import journal

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """\
import numpy as np
import torch
torch.manual_seed(0)
rng = np.random.RandomState(0)
model = torch.nn.Sequential(torch.nn.Linear(300, 300), torch.nn.ReLU(), torch.nn.Linear(300, 10))
optimizer = torch.optim.Adam(model.parameters())
a = rng.randn(400, 400)
for epoch in range(3):
    loss = (model(torch.randn(256, 300)) ** 2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    a = a @ a
    a /= np.abs(a).max()
    print(epoch, loss.item(), a.sum(), torch.get_num_threads(), torch.backends.cpu.get_cpu_capability())
"""
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
NARROW = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}
# Records with variables that only C code sees, which is like another machine.
RECORD = """\
import sys
from flor_trace import cli
from flor_trace.runtime import machine
machine.set_for_c(eval(sys.argv[1]))
sys.exit(cli.main(["record", "--every", "1", "train.py"]))
"""


class Run:
    """A recorded run whose journal can be made another machine's."""

    def __init__(self, folder: Path, for_c: dict[str, str] | None = None, threads: dict[str, str] | None = None) -> None:
        self.folder = folder
        self.threads = threads or {}
        (folder / "train.py").write_text(SCRIPT)
        done = self.python("-c", RECORD, repr(for_c or {}))
        assert done.returncode == 0 and "recording stopped" not in done.stderr, done.stderr
        [self.run] = (folder / ".flor" / "runs").iterdir()

    def flor(self, *words: str, cpus: int = 0) -> subprocess.CompletedProcess[str]:
        return self.python("-m", "flor_trace", *words, cpus=cpus)

    def python(self, *words: str, cpus: int = 0) -> subprocess.CompletedProcess[str]:
        environment = {k: v for k, v in os.environ.items() if k not in THREADS}
        environment |= {"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(self.folder / "cache"), "PYTHONHASHSEED": "1", **self.threads}
        restrict = (lambda: os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cpus])) if cpus else None
        return subprocess.run(
            [sys.executable, *words], cwd=self.folder, env=environment, capture_output=True, text=True,
            timeout=120, preexec_fn=restrict,
        )  # fmt: skip

    def forge(self, change: Callable[[dict[str, Any]], None]) -> None:
        """Rewrite the recorded facts about the machine, and the manifest."""
        path = self.run / "journal"
        records = [journal.decode(payload) for payload in journal.read(str(path), [])]
        for record in records:
            if record["kind"] == "machine":
                change(record["facts"])
        path.write_bytes(b"".join(journal.frame(record) for record in records))


@pytest.mark.slow  # two threads that wait for each other on one processor
def test_fewer_processors(tmp_path: Path) -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("one processor only")
    done = Run(tmp_path).flor("replay", "--workers", "1", cpus=1)
    assert done.returncode == 0 and "replay exact" in done.stderr, done.stderr


@pytest.mark.slow
def test_what_this_machine_does_not_have(tmp_path: Path) -> None:
    run = Run(tmp_path, threads={"OMP_NUM_THREADS": "1"})

    def another_machine(facts: dict[str, Any]) -> None:
        facts["torch"]["capability"] = "AVX1024"
        facts["versions"]["torch"] += ".99"

    run.forge(another_machine)
    done = run.flor("replay", "--workers", "1")
    assert done.returncode == 0 and "replay within tolerance" in done.stderr and "exact" not in done.stderr, done.stderr
    assert "torch's instruction set AVX1024" in done.stderr and ".99 and here it is" in done.stderr


@pytest.mark.slow
def test_a_machine_that_can_do_more_is_held_to_what_the_recording_one_could(tmp_path: Path) -> None:
    if "avx512f" not in machine.cpu()["flags"]:
        pytest.skip("this machine can do no more than AVX2")
    run = Run(tmp_path, {**NARROW, "OPENBLAS_CORETYPE": "Haswell"})

    def an_older_machine(facts: dict[str, Any]) -> None:
        facts["cpu"]["flags"] = [flag for flag in facts["cpu"]["flags"] if not flag.startswith("avx512")]

    unaware = run.flor("replay", "--workers", "1")
    assert "replay exact" not in unaware.stderr, "the instruction set should matter to this script"
    assert "instruction set AVX2 and here it is" in unaware.stderr
    run.forge(an_older_machine)
    done = run.flor("replay", "--workers", "1")
    assert done.returncode == 0 and "replay exact" in done.stderr, done.stderr


def test_what_c_code_is_told() -> None:
    here = {"cpu": {"vendor": "X", "flags": ["avx2", "avx512f", "fma"]}, "cpus": 2}
    facts = {
        "cpu": {"vendor": "X", "flags": ["avx2", "fma"]}, "cpus": 8, "torch": {"capability": "AVX2", "threads": 4, "interop": 8},
        "numpy": {"dispatch": ["X86_V3", "X86_V4"], "active": ["X86_V3"], "blas": "OpenBLAS for Zen", "blas_threads": 8},
    }  # fmt: skip
    assert machine.variables(facts, {}, here) == {
        **NARROW, "OMP_NUM_THREADS": "8", "NPY_DISABLE_CPU_FEATURES": "X86_V4", "OPENBLAS_CORETYPE": "Zen",
    }  # fmt: skip
    assert machine.variables(facts, {"OMP_NUM_THREADS": "1", **NARROW}, here).keys() == {"NPY_DISABLE_CPU_FEATURES", "OPENBLAS_CORETYPE"}
    assert machine.variables({**facts, **here}, {}, here) == {}
    weaker = {"cpu": {"vendor": "X", "flags": ["sse4_2"]}, "cpus": 8}
    assert machine.variables(facts, {"ATEN_CPU_CAPABILITY": "avx2"}, weaker) == {"ATEN_CPU_CAPABILITY": "default"}


def test_variables_for_c_code_are_not_the_scripts() -> None:
    code = "import os; from flor_trace.runtime import machine; machine.set_for_c({'FLOR_PROBE': 'seen'}); " \
           "import ctypes; get = ctypes.CDLL(None).getenv; get.restype = ctypes.c_char_p; " \
           "print(os.environ.get('FLOR_PROBE'), get(b'FLOR_PROBE'))"  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.stdout == "None b'seen'\n", done.stderr


def test_what_differs_is_told_in_one_clause_each() -> None:
    now = machine.capture()
    assert machine.mismatches(now, now) == []
    then = {**now, "python": "3.11.0rc1", "cpu": {**now["cpu"], "vendor": "Another"}, "versions": {"torch": "0.1", "numpy": "0.1"}}
    told = machine.mismatches(then, {**now, "versions": {"numpy": "0.2"}})
    assert [clause.split(" and here")[0] for clause in told] == [
        "recorded with Python 3.11.0rc1", "recorded with numpy 0.1", "recorded with a processor by Another",
    ]  # fmt: skip


CAPTURE = """
import os, sys, warnings
def flags():
    return (torch.get_num_interop_threads(), torch.is_grad_enabled(), torch.get_default_dtype(),
            torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark,
            torch.backends.cuda.matmul.allow_tf32, torch.get_float32_matmul_precision(),
            torch.backends.mkldnn.enabled, torch.get_num_threads(), torch.cuda.is_initialized(), dict(os.environ))
import torch, numpy
before = flags()
from flor_trace.runtime import machine
state = torch.get_rng_state()
machine.capture()
assert flags() == before and torch.equal(state, torch.get_rng_state())
torch.set_num_interop_threads(3)  # fails if anything has started the pool
print("same")
"""


def test_looking_changes_no_flag() -> None:
    done = subprocess.run([sys.executable, "-c", CAPTURE], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.stdout == "same\n", done.stderr
