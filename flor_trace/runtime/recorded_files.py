"""Recorded files put into the scratch folder: what a snapshot knew of them, whatever is on disk today."""

from __future__ import annotations

import fcntl
import os
import posix
import stat
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from flor_trace.errors import NotRestorable
from flor_trace.runtime.files import FileState
from flor_trace.runtime.layers import Layers, is_dir, lexists, posix_open, signature, within


class RecordedFiles:
    """Installs recorded states into the layers of one overlay.

    A file is made with its recorded size and time at once, but gets its content when that is first asked for: most
    checkpoints are never read again.
    """

    def __init__(self, layers: Layers) -> None:
        self._layers = layers
        self._pending: dict[str, FileState] = {}
        self._lost: dict[str, str] = {}
        self._installed: dict[str, tuple[FileState, tuple[int, int, int]]] = {}
        self._writers: dict[str, list[weakref.ref[Any]]] = {}
        self._read_blob: Callable[[str], bytes] | None = None
        self.on_forget: Callable[[str], None] = lambda key: None
        self._lock = threading.RLock()
        os.register_at_fork(after_in_child=self._renew_lock)

    def _renew_lock(self) -> None:
        self._lock = threading.RLock()

    # -- what the overlay tells ---------------------------------------------------------------------------------------

    def add_writer(self, key: str, file: Any) -> None:
        """A file object that writes to `key` exists."""
        known = self._writers.setdefault(key, [])
        known[:] = [ref for ref in known if ref() is not None]
        known.append(weakref.ref(file))

    def open_writers(self, key: str | None = None) -> list[Any]:
        """All file objects that write, to `key` if that is given, and are still open."""
        lists = list(self._writers.values()) if key is None else [self._writers.get(key, [])]
        return [file for refs in lists for ref in refs if (file := ref()) is not None and not file.closed]

    def writers(self) -> Iterator[tuple[str, Any]]:
        """The file objects that write and are still open, each with its key."""
        for key in self._writers:
            for file in self.open_writers(key):
                yield key, file

    def view(self) -> tuple[Any, ...]:
        """What is known of the files in the scratch folder, for `set_view`."""
        return dict(self._pending), dict(self._lost), dict(self._installed), {key: list(refs) for key, refs in self._writers.items()}

    def set_view(self, view: tuple[Any, ...]) -> None:
        """Know again what was known when `view` was called."""
        self._pending, self._lost, self._installed, self._writers = view

    def forget(self, key: str) -> None:
        """What was installed at and below `key` is gone or overwritten."""
        for known in (self._pending, self._lost, self._installed):
            for path in [p for p in known if within(p, key)]:
                del known[path]
        self.on_forget(key)

    def is_lost(self, key: str) -> bool:
        """Whether the content that `key` should have was not kept."""
        return key in self._lost

    def lost_below(self, key: str) -> dict[str, str]:
        """The reasons of files at and below `key`, by the rest of their path."""
        return {path[len(key) :]: why for path, why in self._lost.items() if within(path, key)}

    def renamed(self, old: str, new: str, lost: dict[str, str]) -> None:
        """What was at `old` is at `new`; `lost` is what `lost_below(old)` said before."""
        self._lost |= {new + rest: why for rest, why in lost.items()}
        self._writers[new] = self._writers.pop(old, [])

    # -- content ------------------------------------------------------------------------------------------------------

    def materialise(self, key: str) -> None:
        """Have the recorded content in place before it is read; raises NotRestorable where it was not kept."""
        if key in self._lost:
            raise NotRestorable(key, f"its content at this point was not kept: {self._lost[key]}")
        if key in self._pending:
            with self._lock:
                state = self._pending.get(key)
                if state is not None:
                    self._fill(key, state)
                    del self._pending[key]

    def _fill(self, key: str, state: FileState) -> None:
        assert self._read_blob is not None
        upper = self._layers.upper(key)
        with open(upper, "r+b", opener=posix_open) as file:
            for digest, _ in state.chunks:
                file.write(self._read_blob(digest))
        posix.utime(upper, ns=(state.mtime_ns, state.mtime_ns))
        self._installed[key] = (state, signature(upper))

    # -- installing ---------------------------------------------------------------------------------------------------

    def install(
        self, state: Mapping[str, FileState], initial: Mapping[str, FileState], read_blob: Callable[[str], bytes]
    ) -> None:
        """Show the files as they were at a snapshot.

        `state` is the snapshot's. `initial` holds, for every path that the run touches at any time, what it was before
        the run: a path that `state` lacks had not been touched yet, and is shown so.
        """
        self._read_blob = read_blob
        mapped, descriptors = mapped_files(), writing_descriptors()
        for key in sorted({*state, *initial}):
            if not self._layers.passes(key):
                before = initial.get(key)
                now = state.get(key) or initial[key]
                if now.kind == "file":
                    self._install_file(key, now, mapped, descriptors)
                else:
                    self._install_other(key, now, before is not None and before.kind == "dir")
        self._layers.forget_links()

    def _install_other(self, key: str, state: FileState, was_folder: bool) -> None:
        upper = self._layers.upper(key)
        if state.kind == "absent" and not self._layers.is_own_folder(key.rpartition("/")[0] or "/"):
            # Its folder is absent, or a link by now: whatever is at that physical path belongs to another key.
            return
        if state.kind == "dir" and was_folder:
            self._layers.show(key)
            if self._layers.is_folder(key):
                return
        if not (state.kind == "dir" and is_dir(upper)):
            self._layers.erase(key)
        # A folder that the script made holds what the script put there, and nothing of what is there today.
        self._layers.hide(key)
        if state.kind == "absent":
            return
        self._layers.make_parents(key)
        if state.kind == "link":
            posix.symlink(state.target or "", upper)
        elif not lexists(upper):
            posix.mkdir(upper)

    def _install_file(
        self, key: str, state: FileState, mapped: frozenset[str], descriptors: Mapping[str, Sequence[int]]
    ) -> None:
        upper = self._layers.upper(key)
        if self._installed.get(key) == (state, signature(upper)):
            return
        writers = [w for ref in self._writers.get(key, ()) if (w := ref()) is not None and not w.closed]
        for file in writers:
            file.flush()
        # A file that is open or mapped must stay the same file; otherwise a new one leaves readers of the old alone.
        ends = [d for d in descriptors.get(upper, ()) if posix.lseek(d, 0, os.SEEK_CUR) == posix.fstat(d).st_size]
        in_place = bool(writers) or upper in mapped or upper in descriptors
        if in_place:
            self.forget(key)
        else:
            self._layers.erase(key)
        self._layers.make_parents(key)
        with open(upper, "ab", opener=posix_open) as file:
            file.truncate(state.size)
        if not in_place and self._was_lower(key):
            posix.chmod(upper, stat.S_IMODE(posix.lstat(key).st_mode))
        posix.utime(upper, ns=(state.mtime_ns, state.mtime_ns))
        self._installed[key] = (state, signature(upper))
        if state.lost is not None:
            self._lost[key] = state.lost
            return
        self._pending[key] = state
        if in_place:
            self.materialise(key)
        # One that stood elsewhere stays there: where it stood when recorded is not known.
        for descriptor in ends:
            posix.lseek(descriptor, 0, os.SEEK_END)
        for file in writers:
            file.seek(0, os.SEEK_END)

    def _was_lower(self, key: str) -> bool:
        return lexists(key) and stat.S_ISREG(posix.lstat(key).st_mode)


def mapped_files() -> frozenset[str]:
    """The files of which this process has shared mappings."""
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape", opener=posix_open) as maps:
        fields = (line.rstrip("\n").split(maxsplit=5) for line in maps)
        return frozenset(f[5] for f in fields if len(f) == 6 and f[1].endswith("s"))


def writing_descriptors() -> dict[str, list[int]]:
    """The descriptors of this process that a file can be written through, by its path: also those that no file object has."""
    found: dict[str, list[int]] = {}
    for name in posix.listdir("/proc/self/fd"):
        try:
            path = posix.readlink(f"/proc/self/fd/{name}")
            flags = fcntl.fcntl(int(name), fcntl.F_GETFL) if path.startswith("/") else os.O_RDONLY
            if flags & os.O_ACCMODE != os.O_RDONLY and stat.S_ISREG(posix.fstat(int(name)).st_mode):
                found.setdefault(path, []).append(int(name))
        except OSError:
            continue  # the one that the folder was listed through
    return found
