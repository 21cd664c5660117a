"""Workers as processes of this machine."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import flor_trace
from flor_trace.replay.cores import DEVICE_VARIABLE
from flor_trace.replay.engines import WORKER

# Before anything is imported the working directory leaves the path: it may hold the user's own `copy.py` or `json.py`.
_BOOT = """\
import sys
if sys.flags.safe_path: sys.path.insert(0, {root!r})
else: sys.path[0] = {root!r}
from flor_trace.replay.engines.orphans import die_with
die_with({parent})
from {entry} import main
if sys.flags.safe_path: del sys.path[0]
main({spec!r}, {fd})
"""


class LocalWorker:
    """One process, the leader of a group of its own so that its children can be ended with it."""

    def __init__(self, process: subprocess.Popen[bytes], connection: socket.socket, errors: Path) -> None:
        self.connection = connection
        self._process = process
        self._errors = errors

    def wait(self) -> int:
        """See `WorkerHandle`."""
        status = self._process.wait()
        self._kill_group()  # data-loading children of a worker that ended early
        return status

    def kill(self) -> None:
        """See `WorkerHandle`."""
        self._kill_group()
        self._process.wait()

    def errors(self) -> str:
        """See `WorkerHandle`."""
        with self._errors.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 8000))
            return file.read().decode(errors="replace")[-2000:]

    def _kill_group(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)


class LocalEngine:
    """Starts one Python process per worker.

    Args:
        scratch: a folder for what the workers write to their descriptors.
        cwd: the recorded working directory.
        environment: the environment of the recorded run, with its hash seed.
        interpreter_flags: such as `-O`, as recorded.
        gpus: names of GPUs of which every worker gets one; none: they see those that the environment names.
        entry: the module whose `main(spec, descriptor)` a worker runs.
    """

    def __init__(
        self, scratch: Path, cwd: str, environment: Mapping[str, str], interpreter_flags: list[str], gpus: Sequence[str] = (),
        entry: str = WORKER,
    ) -> None:  # fmt: skip
        self._entry = entry
        self._scratch = scratch
        self._cwd = cwd
        self._environment = dict(environment)
        self._flags = interpreter_flags
        self._gpus: dict[str, list[subprocess.Popen[bytes]]] = {gpu: [] for gpu in gpus}

    def start(self, spec: Path, number: int) -> LocalWorker:
        """See `Engine`."""
        ours, theirs = socket.socketpair()
        root = str(Path(flor_trace.__file__).resolve().parent.parent)
        boot = _BOOT.format(root=root, entry=self._entry, spec=str(spec), fd=theirs.fileno(), parent=os.getpid())
        errors = self._scratch / f"worker-{number}.err"
        gpu = self._free_gpu()
        with theirs, errors.open("wb") as stderr, (self._scratch / f"worker-{number}.out").open("wb") as stdout:
            process = subprocess.Popen(
                [sys.executable, *self._flags, "-c", boot],
                cwd=self._cwd,
                env=self._environment if gpu is None else {**self._environment, DEVICE_VARIABLE: gpu},
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        if gpu is not None:
            self._gpus[gpu].append(process)
        return LocalWorker(process, ours, errors)

    def _free_gpu(self) -> str | None:
        """The GPU with the fewest live workers."""
        return min(self._gpus, key=lambda gpu: sum(p.poll() is None for p in self._gpus[gpu]), default=None)
