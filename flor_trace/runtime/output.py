"""What the script writes to its standard streams, overheard."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import FrameType
from typing import Any

Listener = Callable[[str, str], None]
"""Called with the stream's name (`stdout`, `stderr`) and the text of one write."""


_Undo = Callable[[], None]


class Streams:
    """`sys.stdout` and `sys.stderr`, overheard.

    Each stays the very object that Python made: only its `write` gets a stand-in, as an attribute of the instance, which
    `print`, `writelines` and handlers that hold the stream all find. So its type, buffering, descriptor and end are
    Python's own.
    """

    def __init__(self) -> None:
        self._undo: list[_Undo] = []

    def record(self, listener: Listener) -> None:
        """Tell `listener` what is written, beside writing it."""
        for label, stream in _plain_streams():
            self._set(stream, "write", _overheard(stream.write, label, listener))

    def replay(self, listener: Listener, tty: Mapping[str, bool]) -> None:
        """Tell `listener` what is written, instead of writing it; `isatty` answers as recorded."""
        for label, stream in _plain_streams():
            self._set(stream, "write", _diverted(label, listener))
            self._set(stream, "isatty", partial(bool, tty.get(label, False)))
            self._set(stream.buffer, "write", _diverted_bytes(label, stream.encoding, listener))

    def release(self) -> None:
        """Let the streams be plain again (the end of the run, or a forked child)."""
        while self._undo:
            self._undo.pop()()

    def _set(self, owner: Any, name: str, value: object) -> None:
        setattr(owner, name, value)
        self._undo.append(lambda: vars(owner).pop(name, None) and None)


def _plain_streams() -> Iterator[tuple[str, io.TextIOWrapper]]:
    for label in ("stdout", "stderr"):
        stream = getattr(sys, label)
        if type(stream) is io.TextIOWrapper:
            yield label, stream


def _overheard(write: Callable[[str], int], label: str, listener: Listener) -> Callable[[str], int]:
    def overheard_write(text: str, /) -> int:
        count = write(text)
        listener(label, text)
        return count

    return overheard_write


def _diverted(label: str, listener: Listener) -> Callable[[str], int]:
    def diverted_write(text: str, /) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        listener(label, text)
        return len(text)

    return diverted_write


def _diverted_bytes(label: str, encoding: str, listener: Listener) -> Callable[[Any], int]:
    def diverted_write(data: Any, /) -> int:
        view = memoryview(data)
        listener(label, bytes(view).decode(encoding, "replace"))
        return view.nbytes

    return diverted_write


MOST_JOINED_WRITES = 1000


class Joiner:
    """Makes one record of successive writes that come from the same place: `print` alone makes two.

    Args:
        emit: called with a finished record: its fields, and `text`.
    """

    def __init__(self, emit: Callable[[dict[str, Any]], None]) -> None:
        self._emit = emit
        self._fields: dict[str, Any] | None = None
        self._texts: list[str] = []

    def add(self, text: str, **fields: Any) -> None:
        """A write; `fields` tell where it comes from."""
        if fields != self._fields or len(self._texts) >= MOST_JOINED_WRITES:
            self.flush()
            self._fields = fields
        self._texts.append(text)

    def flush(self) -> None:
        """Emit what is pending."""
        fields, self._fields = self._fields, None
        texts, self._texts = self._texts, []
        if fields is not None:
            self._emit({**fields, "text": "".join(texts)})


def serve_terminal_size(recorded: list[int] | None) -> None:
    """Let `os.get_terminal_size` answer as it did when recorded; `[columns, lines]`, None where there was no terminal."""

    def get_terminal_size(fd: int = 1, /) -> os.terminal_size:
        if recorded is None:
            raise OSError(errno.ENOTTY, os.strerror(errno.ENOTTY))
        return os.terminal_size((recorded[0], recorded[1]))

    os.get_terminal_size = get_terminal_size


def calling_line(frame: FrameType | None, user_files: set[str]) -> str:
    """`file:line` of the innermost user code in the stack of `frame`, "" if there is none."""
    while frame is not None:
        if frame.f_code.co_filename in user_files:
            return f"{frame.f_code.co_filename}:{frame.f_lineno}"
        frame = frame.f_back
    return ""


def calling_lines(frame: FrameType | None, user_files: set[str]) -> list[str]:
    """`file:line` of all user code in the stack of `frame`, outermost first."""
    found: list[str] = []
    while frame is not None:
        if frame.f_code.co_filename in user_files:
            found.append(f"{frame.f_code.co_filename}:{frame.f_lineno}")
        frame = frame.f_back
    return found[::-1]
