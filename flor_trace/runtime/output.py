"""Standard streams that behave as Python's own and tell a listener what the script writes."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Callable
from types import FrameType
from typing import Protocol, TextIO

Listener = Callable[[str, str], None]
"""Called with the stream's name (`stdout`, `stderr`) and the text of one write."""


class StreamTraits(Protocol):
    """What a script can ask of a standard stream."""

    encoding: str
    errors: str | None


class RecordedStream(io.TextIOWrapper):
    """Writes through to the real stream and tells the listener."""

    mode = "w"
    listener: Listener | None = None
    label = ""

    def write(self, text: str, /) -> int:
        """As `TextIOWrapper.write`."""
        count = super().write(text)
        if self.listener is not None:
            self.listener(self.label, text)
        return count


class ReplayedStream(io.TextIOWrapper):
    """Gives everything to the listener and nothing to the terminal; `isatty` answers as recorded."""

    mode = "w"
    listener: Listener | None = None
    label = ""
    was_a_tty = False

    def write(self, text: str, /) -> int:
        """Hand `text` to the listener."""
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        if self.listener is not None:
            self.listener(self.label, text)
        return len(text)

    def isatty(self) -> bool:
        """As it was when recorded."""
        return self.was_a_tty


class ListeningRaw(io.RawIOBase):
    """Behind a replayed stream's `.buffer`: bytes written past the text layer reach the listener too."""

    def __init__(self, label: str, encoding: str, listener: Listener, descriptor: int) -> None:
        self.name = f"<{label}>"
        self.mode = "wb"
        self._label = label
        self._encoding = encoding
        self._listener = listener
        self._descriptor = descriptor

    def writable(self) -> bool:
        """Always."""
        return True

    def fileno(self) -> int:
        """The descriptor of the real stream (in a worker: a file in its scratch folder)."""
        return self._descriptor

    def write(self, data: object, /) -> int:
        """Hand the bytes, decoded, to the listener."""
        view = memoryview(data)  # type: ignore[arg-type]
        self._listener(self._label, bytes(view).decode(self._encoding, "replace"))
        return view.nbytes


def record_streams(listener: Listener) -> None:
    """Replace `sys.stdout` and `sys.stderr` by streams that tell the listener.

    The old wrapper is detached, so that one object alone owns (and finally flushes) the buffer.
    """
    for label in ("stdout", "stderr"):
        plain = getattr(sys, label)
        if type(plain) is not io.TextIOWrapper:
            continue
        traits = dict(
            encoding=plain.encoding,
            errors=plain.errors,
            newline="\n",
            line_buffering=plain.line_buffering,
            write_through=plain.write_through,
        )
        stream = RecordedStream(plain.detach(), **traits)  # type: ignore[arg-type]
        stream.label = label
        stream.listener = listener
        _install(label, stream)


def replay_streams(listener: Listener, tty: dict[str, bool]) -> None:
    """Replace `sys.stdout` and `sys.stderr` by streams whose text goes to the listener only."""
    for descriptor, label in ((1, "stdout"), (2, "stderr")):
        plain = getattr(sys, label)
        raw = ListeningRaw(label, plain.encoding, listener, descriptor)
        stream = ReplayedStream(
            io.BufferedWriter(raw), encoding=plain.encoding, errors=plain.errors, newline="\n", line_buffering=True
        )
        stream.label = label
        stream.listener = listener
        stream.was_a_tty = tty.get(label, False)
        _install(label, stream)


def serve_terminal_size(recorded: list[int] | None) -> None:
    """Let `os.get_terminal_size` answer as it did when recorded; `[columns, lines]`, None where there was no terminal."""

    def get_terminal_size(fd: int = 1, /) -> os.terminal_size:
        if recorded is None:
            raise OSError(errno.ENOTTY, os.strerror(errno.ENOTTY))
        return os.terminal_size((recorded[0], recorded[1]))

    os.get_terminal_size = get_terminal_size


def silence_streams() -> None:
    """Stop telling the listener (a forked child, or recording that has ended)."""
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        if isinstance(stream, RecordedStream | ReplayedStream):
            stream.listener = None


def calling_line(frame: FrameType | None, user_files: set[str]) -> str:
    """`file:line` of the innermost user code in the stack of `frame`, "" if there is none."""
    while frame is not None:
        if frame.f_code.co_filename in user_files:
            return f"{frame.f_code.co_filename}:{frame.f_lineno}"
        frame = frame.f_back
    return ""


def _install(label: str, stream: TextIO) -> None:
    setattr(sys, label, stream)
    setattr(sys, f"__{label}__", stream)
