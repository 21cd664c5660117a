from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path

import psutil
import pytest

from flor_trace.replay.engines import local
from flor_trace.replay.engines.local import LocalEngine


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def wait_until_gone(pid: int) -> bool:
    for _ in range(600):
        if gone(pid):
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_a_worker_dies_with_the_process_that_started_it(end: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A worker that never talks to anybody.
    boot = local._BOOT[: local._BOOT.index("from {entry}")] + "import time\nopen({spec!r}, 'w').close()\ntime.sleep(60)\n"
    monkeypatch.setattr(local, "_BOOT", boot)
    spec = tmp_path / "started"
    told, tell = socket.socketpair()
    coordinator = os.fork()
    if coordinator == 0:
        worker = LocalEngine(tmp_path, str(tmp_path), dict(os.environ), []).start(spec, 0)
        tell.send(str(worker._process.pid).encode())
        time.sleep(60)
        os._exit(0)
    pid = int(told.recv(20))
    for _ in range(600):
        if spec.exists():
            break
        time.sleep(0.05)
    assert spec.exists() and not gone(pid)
    os.kill(coordinator, end)
    os.waitpid(coordinator, 0)
    assert wait_until_gone(pid)
