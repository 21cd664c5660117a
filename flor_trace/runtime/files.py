"""Which files the script has written so far, and what is in them: files are state too.

An audit hook notes each path *before* it is opened for writing, renamed or removed, so that what was there before the
run can be kept; `FileTracker.state` then looks at the noted paths only. Content is kept as chunks named by their
hash: a log that grew by a line costs one small chunk.
"""

from __future__ import annotations

import _thread
import os
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal

from flor_trace.runtime.native import wrap_loaded, wrap_native
from flor_trace.store.device_paths import is_device

Kind = Literal["file", "dir", "link", "absent"]

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_EVENTS = frozenset(
    (
        "open", "os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.symlink", "os.link", "os.truncate",
        "sqlite3.connect", "mmap.__new__",
    )
)  # fmt: skip
_CHUNK = 1 << 20
_MAX_SMALL_CHUNKS = 64
_MAX_INPUTS = 10_000
_RACY_NS = 100_000_000
_RACY_COARSE_NS = 2_000_000_000


@dataclass(frozen=True, slots=True)
class FileState:
    """One path at one time. `chunks` holds (digest, length) in order; `lost` says why content is not kept."""

    kind: Kind
    size: int = 0
    mtime_ns: int = 0
    chunks: tuple[tuple[str, int], ...] = ()
    target: str | None = None
    lost: str | None = None

    def as_json(self) -> list[Any]:
        """Builtins that survive JSON; see `from_json`."""
        return [self.kind, self.size, self.mtime_ns, [list(c) for c in self.chunks], self.target, self.lost]

    @classmethod
    def from_json(cls, fields: list[Any]) -> FileState:
        """The state that `as_json` described."""
        kind, size, mtime_ns, chunks, target, lost = fields
        return cls(kind, size, mtime_ns, tuple((str(d), int(n)) for d, n in chunks), target, lost)


ABSENT = FileState("absent")


@dataclass(slots=True)
class _Tracked:
    state: FileState
    signature: tuple[int, int, int] | None = None
    dirty: bool = True
    mapped: bool = False
    """Opened as a memory map: the pages change without the file's times changing at once."""


class FileTracker:
    """Notes what the script writes, from `start` to `stop`, and tells the content through `put_blob(digest, bytes)`."""

    def __init__(
        self,
        put_blob: Callable[[str, bytes], None],
        *,
        ignore: tuple[str, ...] = (),
        max_file: int = 256 << 20,
        max_total: int = 8 << 30,
        to_user: Callable[[str], str] | None = None,
    ) -> None:
        """`to_user` gives the script's name for a path, where its writes are redirected (see `runtime.overlay`)."""
        self.inputs: dict[str, tuple[int, int]] = {}
        """Files opened for reading: path → (size, mtime_ns) when first opened."""
        self.inputs_left_out = 0
        self.losses: dict[str, str] = {}
        """Paths whose content could not be kept at some time, with the reason."""
        self._put_blob = put_blob
        self._to_user = to_user
        self._ignore = tuple(os.path.realpath(p).rstrip("/") + "/" for p in ignore)
        self._not_inputs = (*self._ignore, *(os.path.join(p, "lib") for p in {sys.prefix, sys.base_prefix}))
        self._max_file = max_file
        self._left = max_total
        self._paths: dict[str, _Tracked] = {}
        self._initial: dict[str, FileState] = {}
        self._stored: set[str] = set()
        self._busy: set[int] = set()
        self._seen: set[Any] = set()
        self._undo: list[Callable[[], None]] = []
        self._on = False

    # -- switching ----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to note; in a forked child noting stops by itself."""
        self._on = True
        os.register_at_fork(after_in_child=self._stop_noting)
        _install_hook(self)
        self._undo = wrap_loaded(self._noted)

    def stop(self) -> None:
        """Note nothing any more; what was noted stays."""
        self._stop_noting()
        while self._undo:
            self._undo.pop()()

    def _stop_noting(self) -> None:
        self._on = False

    def imported(self, library: str) -> None:
        """To be called after the import of each of `native.LIBRARIES`: their native writers raise no audit event."""
        self._undo += wrap_native(library, self._noted)

    # -- what a snapshot takes ----------------------------------------------------------------------------------------

    def state(self) -> dict[str, FileState]:
        """Every path noted so far as it is on disk now; files that have not changed since the last call are not read."""
        with self._quiet():
            now = {path: self._refreshed(path, entry) for path, entry in list(self._paths.items())}
        spent = [path for path, state in now.items() if state.kind == "absent" and self._is_spent(path)]
        for path in spent:
            del now[path], self._paths[path], self._initial[path]
        return now

    def initial(self) -> dict[str, FileState]:
        """Every path noted so far as it was right before the script first touched it."""
        return dict(self._initial)

    def _is_spent(self, path: str) -> bool:
        """Whether an absent path was a temporary file of random name: no later run can meet it again."""
        module = sys.modules.get("tempfile")
        if module is None or self._initial[path].kind != "absent":
            return False
        folder = os.path.realpath(module.gettempdir()) + "/"
        if not path.startswith(folder):
            return False
        first = folder + path[len(folder) :].partition("/")[0]
        # A folder of this kind that the script did not make is where the script itself lives.
        made_by_script = first in self._initial and self._initial[first].kind == "absent"
        return made_by_script and os.path.basename(first).startswith(("tmp", "pymp-"))

    def _refreshed(self, path: str, entry: _Tracked) -> FileState:
        if entry.state.kind == "absent" and not entry.dirty:
            return entry.state
        try:
            found = os.lstat(path)
        except OSError:
            entry.dirty, entry.signature, entry.state = False, None, ABSENT
            return ABSENT
        signature = (found.st_mtime_ns, found.st_size, found.st_ino)
        if signature == entry.signature and not entry.dirty and not entry.mapped:
            return entry.state
        entry.state = self._look(path, found, entry.state)
        # A file changed twice within one tick of the file system's clock looks unchanged: read it again next time.
        racy = _RACY_COARSE_NS if found.st_mtime_ns % 1_000_000_000 == 0 else _RACY_NS
        entry.dirty = time.time_ns() - found.st_mtime_ns < racy
        entry.signature = signature
        return entry.state

    def _look(self, path: str, found: os.stat_result, before: FileState) -> FileState:
        if stat.S_ISDIR(found.st_mode):
            return FileState("dir", mtime_ns=found.st_mtime_ns)
        if stat.S_ISLNK(found.st_mode):
            return FileState("link", mtime_ns=found.st_mtime_ns, target=os.readlink(path))
        if not stat.S_ISREG(found.st_mode):
            return ABSENT
        if found.st_size > self._max_file:
            return self._loss(path, found, f"larger than the cap of {self._max_file} bytes per file")
        try:
            chunks = self._store(path, before.chunks)
        except OSError as error:
            return self._loss(path, found, f"could not be read: {error.strerror}")
        if chunks is None:
            return self._loss(path, found, "over the cap of bytes kept of files in one run")
        return FileState("file", sum(n for _, n in chunks), found.st_mtime_ns, chunks)

    def _loss(self, path: str, found: os.stat_result, reason: str) -> FileState:
        self.losses[path] = reason
        return FileState("file", found.st_size, found.st_mtime_ns, lost=reason)

    def _store(self, path: str, before: tuple[tuple[str, int], ...]) -> tuple[tuple[str, int], ...] | None:
        """The file's chunks, those of `before` kept as long as they fit; None where the run's cap is reached."""
        from xxhash import xxh3_128_hexdigest

        if sum(n < _CHUNK for _, n in before) > _MAX_SMALL_CHUNKS:
            before = tuple(c for c in before if c[1] == _CHUNK)
        chunks: list[tuple[str, int]] = []
        with open(path, "rb", buffering=0) as file:
            left = os.fstat(file.fileno()).st_size
            while left:
                kept = before[len(chunks)][1] if len(chunks) < len(before) else 0
                data = _read(file.fileno(), min(kept or _CHUNK, left))
                if not data:
                    break
                digest: str = xxh3_128_hexdigest(data)
                if kept and (digest, len(data)) != before[len(chunks)]:
                    # From here on it is another content: cut the rest evenly.
                    before = ()
                    more = _read(file.fileno(), min(_CHUNK - len(data), left - len(data)))
                    data, digest = data + more, xxh3_128_hexdigest(data + more)
                if not self._keep(digest, data):
                    return None
                chunks.append((digest, len(data)))
                left -= len(data)
        return tuple(chunks)

    def _keep(self, digest: str, data: bytes) -> bool:
        if digest not in self._stored:
            if len(data) > self._left:
                return False
            self._left -= len(data)
            self._put_blob(digest, data)
            self._stored.add(digest)
        return True

    # -- what the hook tells ------------------------------------------------------------------------------------------

    def _event(self, event: str, args: tuple[Any, ...]) -> None:
        """Note what `event` is about to do. An exception here would make the user's call fail, so it becomes a loss."""
        me = _thread.get_ident()
        if not self._on or me in self._busy:
            return
        self._busy.add(me)
        try:
            if self._to_user is not None:
                args = tuple(self._to_user(arg) if isinstance(arg, str) else arg for arg in args)
            self._dispatch(event, args)
        except Exception as error:
            self.losses[str(args[0])] = f"{event} could not be followed: {error}"
        finally:
            self._busy.discard(me)

    def _dispatch(self, event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            path, mode, flags = args
            if not isinstance(path, (str, bytes)):
                return
            if flags & _WRITES:
                self._note(os.path.realpath(os.fsdecode(path)), opened=True)
                if mode is None and not os.path.isabs(path):
                    # `os.open`, whose `dir_fd` the event does not tell
                    for folder in _open_folders():
                        self._note(os.path.realpath(os.path.join(folder, os.fsdecode(path))), opened=True)
            elif path not in self._seen:
                self._read(path)
        elif event == "mmap.__new__":
            self._map(args[0])
        elif event == "os.truncate":
            target = f"/proc/self/fd/{args[0]}" if isinstance(args[0], int) else os.fsdecode(args[0])
            self._note(os.path.realpath(target))
        elif event == "os.rename":
            self._rename(_entry(args[0], args[2]), _entry(args[1], args[3]))
        elif event == "os.link":
            self._note(_entry(args[1], args[3]))
        elif event == "os.symlink":
            self._note(_entry(args[1], args[2]))
        elif event == "os.mkdir":
            self._note(_entry(args[0], args[2]))
        elif event == "sqlite3.connect":
            self._database(args[0])
        else:
            self._note(_entry(args[0], args[1]))

    def _noted(self, path: str) -> str:
        """Note a path that native code is about to write; gives it back unchanged."""
        self._event("open", (path, None, os.O_WRONLY))
        return path

    def _note(self, path: str, opened: bool = False) -> None:
        entry = self._paths.get(path)
        if entry is not None:
            entry.dirty = True
            return
        if path.startswith(self._ignore) or is_device(path) or "/__pycache__" in path:
            return
        try:
            found = os.lstat(path)
        except OSError:
            before = ABSENT
        else:
            if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode) or stat.S_ISLNK(found.st_mode)):
                return
            if opened and stat.S_ISDIR(found.st_mode):
                return  # `open` with an opener, as tempfile uses it, names the folder
            before = self._look(path, found, ABSENT)
        self._initial[path] = before
        self._paths[path] = _Tracked(before)

    def _rename(self, source: str, target: str) -> None:
        self._note(source)
        self._note(target)
        if os.path.isdir(source) and not os.path.islink(source):
            for folder, folders, files in os.walk(source):
                for name in folders + files:
                    below = os.path.join(folder, name)
                    self._note(below)
                    self._note(target + below[len(source) :])

    def _database(self, name: Any) -> None:
        path = os.fsdecode(name)
        if path.startswith("file:"):
            from urllib.parse import unquote, urlsplit

            parts = urlsplit(path)
            path = "" if "mode=memory" in parts.query else unquote(parts.path)
        if path and path != ":memory:":
            path = os.path.realpath(path)
            for suffix in ("", "-journal", "-wal", "-shm"):
                self._note(path + suffix)

    def _map(self, descriptor: int) -> None:
        if descriptor >= 0:
            entry = self._paths.get(os.readlink(f"/proc/self/fd/{descriptor}"))
            if entry is not None:
                entry.mapped = True

    def _read(self, path: str | bytes) -> None:
        self._seen.add(path)
        name = os.path.abspath(os.fsdecode(path))
        if name.startswith(self._not_inputs) or is_device(name) or name.endswith(".pyc") or name in self._paths:
            return
        if len(self.inputs) >= _MAX_INPUTS:
            self.inputs_left_out += 1
            return
        try:
            found = os.stat(name)
        except OSError:
            return
        if stat.S_ISREG(found.st_mode):
            self.inputs[name] = (found.st_size, found.st_mtime_ns)

    @contextmanager
    def _quiet(self) -> Iterator[None]:
        me = _thread.get_ident()
        self._busy.add(me)
        try:
            yield
        finally:
            self._busy.discard(me)


def _entry(path: Any, dir_fd: int = -1) -> str:
    """The absolute path of a directory entry: links in its folder resolved, the entry itself not followed."""
    name = os.fsdecode(path)
    if dir_fd >= 0 and not os.path.isabs(name):
        name = os.path.join(os.readlink(f"/proc/self/fd/{dir_fd}"), name)
    folder, last = os.path.split(os.path.abspath(name))
    return os.path.join(os.path.realpath(folder), last)


def _open_folders() -> set[str]:
    """The folders that this process has descriptors of."""
    found: set[str] = set()
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # the one that the folder was listed through
            path = os.readlink(f"/proc/self/fd/{name}")
            if path.startswith("/") and os.path.isdir(path):
                found.add(path)
    return found


def _read(descriptor: int, size: int) -> bytes:
    """Up to `size` bytes; fewer only at the end of the file."""
    data = os.read(descriptor, size)
    while len(data) < size and (more := os.read(descriptor, size - len(data))):
        data += more
    return data


_current: FileTracker | None = None


def _install_hook(tracker: FileTracker) -> None:
    # Audit hooks cannot be removed, so there is one per process, which serves the current tracker.
    global _current
    first = _current is None
    _current = tracker
    if not first:
        return
    events = _EVENTS

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event in events and _current is not None and _current._on:
            _current._event(event, args)

    sys.addaudithook(hook)
