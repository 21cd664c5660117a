"""The ways in which a training can end, and what is recorded of it then."""

from __future__ import annotations

from pathlib import Path

from faults.world import MARK, PURE, Findings, Trial, learn

AT_EPOCH_SEVEN = {
    "os._exit": "import os; os._exit(3)",
    "SIGTERM": "import os, signal; os.kill(os.getpid(), signal.SIGTERM)",
    "SIGINT": "import os, signal; os.kill(os.getpid(), signal.SIGINT); import time; time.sleep(5)",
    "SIGSEGV": "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
    "SIGKILL": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    "exception": "raise RuntimeError('loss is nan')",
    "sys.exit": "sys.exit('stopped early')",
    "exec": "import os; os.execv(sys.executable, [sys.executable, '-c', 'print(1)'])",
}
AT_START = {
    "exception at exit": "import atexit; atexit.register(lambda: 1 / 0)",
    "os._exit at exit": "import atexit, os; atexit.register(lambda: os._exit(4))",
    "thread at exit": "import threading, time; threading.Thread(target=lambda: (time.sleep(0.3), print('late', flush=True))).start()",
    "daemon at exit": "import threading, time; threading.Thread(target=lambda: time.sleep(99), daemon=True).start()",
    "closed descriptors": "import os; os.closerange(3, 4096)",
    "fork": "import os; os.waitpid(os.fork() or os._exit(0), 0)",
}
NAMES = (*AT_EPOCH_SEVEN, *AT_START, "full queue")


def source_of(name: str) -> str:
    """The training that ends so."""
    if name in AT_EPOCH_SEVEN:
        return PURE.replace(f"    {MARK}", f"    if epoch == 7:\n        {AT_EPOCH_SEVEN[name]}\n    {MARK}")
    if name in AT_START:
        return PURE.replace("random.seed(3)\n", f"{AT_START[name]}\nrandom.seed(3)\n")
    # The last snapshots are large, and the disk is slow (see `check`).
    return PURE.replace(f"    {MARK}", f"    if epoch > 12:\n        model.buffer = bytearray(random.randbytes(6_000_000))\n    {MARK}")


def check(name: str, folder: Path, findings: Findings) -> None:
    """Let a training end so, plainly and recorded."""
    truth = learn(folder / "truth", source_of(name))
    trial = Trial(folder / "trial", truth)
    done = trial.wait(trial.start("write pack 1 after slow" if name == "full queue" else ""))
    trial.check_training(done, findings, name)
    trial.check_store(findings, name)
    findings.count("ways to end")
