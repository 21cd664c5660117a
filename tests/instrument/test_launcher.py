"""The launcher's seams: the interpreter's options, the hash seed, and when `finish` is called."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flor_trace.instrument.interpreter import interpreter_options


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("python train.py -u", ""),
        ("python -u -W error -Xdev train.py -O", "-u -W error -Xdev"),
        ("python -uB -m flor_trace record", "-uB"),
        ("python -Bm flor_trace record -c x", "-B"),
        ("python -Bc pass x", "-B"),
        ("python -Werror -X importtime -c pass -u", "-Werror -X importtime"),
        ("python -BW error train.py", "-BW error"),
        ("python --check-hash-based-pycs always -I x.py", "--check-hash-based-pycs always -I"),
        ("python - x", ""),
        ("python", ""),
    ],
)
def test_interpreter_options(command: str, options: str) -> None:
    assert interpreter_options(command.split()) == options.split()


SEED = """
import os, sys
from flor_trace.instrument.launcher import ensure_hash_seed
print(ensure_hash_seed(), hash("a"), os.environ.get("PYTHONHASHSEED"), [k for k in os.environ if "FLOR" in k], sys.argv)
"""


def seed_line(tmp_path: Path, *options: str, **environment: str) -> list[str]:
    script = tmp_path / "seed.py"
    script.write_text(SEED)
    full = {name: value for name, value in os.environ.items() if name != "PYTHONHASHSEED"} | environment
    command = [sys.executable, *options, str(script), "x"]
    return subprocess.run(command, env=full, capture_output=True, text=True, check=True).stdout.split(maxsplit=2)


@pytest.mark.parametrize("given", [{}, {"PYTHONHASHSEED": "random"}])
def test_a_hash_seed_is_chosen_and_the_environment_restored(tmp_path: Path, given: dict[str, str]) -> None:
    seed, hashed, rest = seed_line(tmp_path, **given)
    assert seed_line(tmp_path, PYTHONHASHSEED=seed)[:2] == [seed, hashed]
    assert rest.startswith(f"{given.get('PYTHONHASHSEED')} []")
    assert rest.rstrip().endswith("seed.py', 'x']")


def test_a_given_hash_seed_stays(tmp_path: Path) -> None:
    assert seed_line(tmp_path, PYTHONHASHSEED="5")[2].startswith("5 []")


def test_no_hash_seed_where_the_environment_is_ignored(tmp_path: Path) -> None:
    assert seed_line(tmp_path, "-E")[0] == "None"


FINISH = """
import sys
sys.path.insert(0, {tests!r})
from fakes import FakeHooks
from flor_trace.instrument.launcher import Target, run_target
run_target(Target("code", sys.argv[1]), FakeHooks(), finish=lambda status: print("finish", status, flush=True))
"""


@pytest.mark.parametrize(
    ("code", "output"),
    [
        ("print(1)", ["1", "finish 0"]),
        ("import atexit; atexit.register(print, 'end')", ["end", "finish 0"]),
        ("import threading, time; threading.Timer(.2, lambda: print('late')).start()", ["late", "finish 0"]),
        ("1/0", ["finish 1"]),
        ("import sys; sys.exit(7)", ["finish 7"]),
        ("import sys; sys.exit('text')", ["finish 1"]),
        ("raise KeyboardInterrupt", ["finish 130"]),
        ("import os\nif not os.fork(): raise SystemExit\nos.wait(); print(1)", ["1", "finish 0"]),
        ("for for", ["finish 1"]),
    ],
)
def test_finish_is_called_once_and_last(tmp_path: Path, code: str, output: list[str]) -> None:
    driver = tmp_path / "driver.py"
    driver.write_text(FINISH.format(tests=str(Path(__file__).parent)))
    result = subprocess.run([sys.executable, str(driver), code], capture_output=True, text=True, timeout=60)
    assert result.stdout.split("\n")[:-1] == output


@pytest.mark.slow
def test_data_loader_workers_are_unharmed(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    script = tmp_path / "loader.py"
    script.write_text(
        "import torch\n"
        "class Data(torch.utils.data.Dataset):\n"
        "    def __len__(self): return 8\n"
        "    def __getitem__(self, i):\n"
        "        for k in range(i): pass\n"
        "        return i * torch.rand(1)\n"
        "if __name__ == '__main__':\n"
        "    for method in ('fork', 'spawn', 'forkserver'):\n"
        "        torch.manual_seed(0)\n"
        "        loader = torch.utils.data.DataLoader(Data(), 2, num_workers=2, multiprocessing_context=method)\n"
        "        print(method, [batch.tolist() for epoch in range(2) for batch in loader])\n"
    )
    driver = str(Path(__file__).with_name("drive.py"))
    plain, ours = (
        subprocess.run([sys.executable, *before, str(script)], capture_output=True, text=True, timeout=200)
        for before in ([], [driver])
    )
    assert plain.returncode == 0, plain.stderr
    assert (ours.stdout, ours.stderr, ours.returncode) == (plain.stdout, plain.stderr, plain.returncode)


CONSOLE_SCRIPT = "import sys\nfrom flor_trace.cli import main\nsys.exit(main())\n"
INTERRUPTED = "import os, signal\nfor e in range(4):\n    if e == 3:\n        os.kill(os.getpid(), signal.SIGINT)\n"


def test_an_interrupted_script_ends_by_the_signal_under_the_console_script(tmp_path: Path) -> None:
    (tmp_path / "console.py").write_text(CONSOLE_SCRIPT)
    (tmp_path / "train.py").write_text(INTERRUPTED)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    for _ in range(3):  # the segmentation fault that this once ended in did not come every time
        done = subprocess.run(
            [sys.executable, "console.py", "record", "--every", "1", "train.py"],
            cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == -signal.SIGINT, done.stderr
        assert done.stderr.count("KeyboardInterrupt") == 1
