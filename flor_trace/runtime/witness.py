"""What a stretch of a program does that may give another result another time, seen while it runs.

For the divergence finder and `doctor --run` only: it slows the program down several times. Clock and entropy read by user code are
recorded and served, so only what is read behind our back is noted: by libraries, by native code, from devices.
"""

from __future__ import annotations

import gc
import os
import random
import sys
import threading
import time
from collections import Counter
from types import FrameType
from typing import Any, NamedTuple

from flor_trace.runtime.nondeterminism import why_nondeterministic

ENTROPY, CLOCK, OPERATION, PROCESS, NETWORK, IDENTITY, COLLECTOR = (
    "entropy", "clock", "operation", "process", "network", "identity", "collector"
)  # fmt: skip

_OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_STANDARD = os.path.dirname(os.path.abspath(os.__file__)) + os.sep
_DEVICES = frozenset(("/dev/urandom", "/dev/random", "/dev/hwrng"))
_NATIVE_ENTROPY = frozenset(("getrandom", "getentropy", "arc4random", "rand", "random", "drand48"))
_NATIVE_CLOCK = frozenset(("time", "clock_gettime", "gettimeofday"))
_EVENTS = {
    "subprocess.Popen": (PROCESS, "subprocess"), "os.fork": (PROCESS, "fork"), "os.posix_spawn": (PROCESS, "subprocess"),
    "_thread.start_new_thread": (PROCESS, "thread"), "socket.connect": (NETWORK, "socket"), "os.system": (PROCESS, "subprocess"),
}  # fmt: skip


class Seen(NamedTuple):
    """One thing seen: its kind, what it is, and the place (`file:line`) in the script or library that did it."""

    kind: str
    what: str
    where: str


class Witness:
    """Watches from `start` to `stop`; `seen` counts what there was."""

    def __init__(self) -> None:
        self.seen: Counter[Seen] = Counter()
        self._on = False
        self._mode: Any = None
        self._collecting = self._asked = False
        self._watched: dict[Any, tuple[str, str]] = {os.urandom: (ENTROPY, "os.urandom"), os.getrandom: (ENTROPY, "os.getrandom")}
        for name in ("time", "time_ns", "perf_counter", "perf_counter_ns", "monotonic", "monotonic_ns"):
            self._watched[getattr(time, name)] = (CLOCK, f"time.{name}")
        for function in (id, os.getpid, os.getppid, threading.get_ident):
            self._watched[function] = (IDENTITY, f"{function.__name__}()")
        self._watched[random.SystemRandom] = (ENTROPY, "random.SystemRandom")

    def start(self) -> None:
        """Begin to watch the calling thread, and what the interpreter audits."""
        self._on = True
        gc.callbacks.append(self._collects)
        _install_hook(self)
        sys.setprofile(self._profile)

    def stop(self) -> None:
        """Watch no more."""
        self._on = False
        sys.setprofile(None)
        gc.callbacks.remove(self._collects)
        if self._mode is not None:
            self._mode.__exit__(None, None, None)
            self._mode = None

    def torch_imported(self) -> None:
        """To be called right after torch's import: operations are watched from now on."""
        import torch
        from torch.utils._python_dispatch import TorchDispatchMode

        witness = self

        class Operations(TorchDispatchMode):  # type: ignore[misc, no-untyped-call, unused-ignore]
            def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
                name, _, overload = func.__name__.partition(".")
                why = why_nondeterministic(torch, name, overload, args, kwargs or {})
                if why is not None:
                    witness._note(OPERATION, why, sys._getframe(1))
                return func(*args, **(kwargs or {}))

        self._mode = Operations()  # type: ignore[no-untyped-call, unused-ignore]
        self._mode.__enter__()

    def as_json(self) -> list[dict[str, Any]]:
        """What was seen, most frequent first."""
        return [{"kind": s.kind, "what": s.what, "where": s.where, "times": n} for s, n in self.seen.most_common(200)]

    # -- what tells -----------------------------------------------------------------------------------------------------

    def _profile(self, frame: FrameType, event: str, function: Any) -> None:
        if function is gc.collect:
            self._asked = event == "c_call"
        elif event == "call" and self._collecting and not self._asked and _is_users(frame):
            self._note(COLLECTOR, f"{frame.f_code.co_qualname}()", frame)
        elif event == "c_call" and type(function) is _BUILTIN:
            found = self._watched.get(function)
            if found is not None and not frame.f_code.co_filename.startswith(_OURS) and (found[0] != IDENTITY or _is_users(frame)):
                self._note(*found, frame)

    def _collects(self, phase: str, info: dict[str, int]) -> None:
        self._collecting = phase == "start"

    def _audited(self, event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            if args[0] in _DEVICES:
                self._note(ENTROPY, f"reading {args[0]}", sys._getframe(2))
        elif event == "ctypes.dlsym":
            name = args[1]
            if name in _NATIVE_ENTROPY or name in _NATIVE_CLOCK:
                self._note(ENTROPY if name in _NATIVE_ENTROPY else CLOCK, f"C's {name} through ctypes", sys._getframe(2))
        elif event in _EVENTS:
            self._note(*_EVENTS[event], sys._getframe(2))

    def _note(self, kind: str, what: str, frame: FrameType | None) -> None:
        where = _place(frame)
        if where is not None:
            self.seen[Seen(kind, what, where)] += 1


_BUILTIN = type(len)


def _is_users(frame: FrameType) -> bool:
    """Whether the frame itself is of code that is not installed: libraries ask for addresses and process numbers all the time."""
    name = frame.f_code.co_filename
    return not ("site-packages" in name or "dist-packages" in name or name.startswith((_OURS, _STANDARD, "<")))


def _place(frame: FrameType | None) -> str | None:
    """The nearest place outside the standard library; None where only we are there, and where a module is being imported:
    what it draws then goes into generators whose states are recorded right after, or into names."""
    found: str | None = None
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith("<frozen importlib"):
            return None
        installed = "site-packages" in name or "dist-packages" in name
        if found is None and not name.startswith((_OURS, "<")) and (installed or not name.startswith(_STANDARD)):
            found = f"{name}:{frame.f_lineno}"
        frame = frame.f_back
    return found


_current: Witness | None = None


def _install_hook(witness: Witness) -> None:
    # Audit hooks cannot be removed, so there is one per process, which serves the current witness.
    global _current
    first, _current = _current is None, witness
    if not first:
        return

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if (event in _EVENTS or event in ("open", "ctypes.dlsym")) and _current is not None and _current._on:
            _current._audited(event, args)

    sys.addaudithook(hook)
