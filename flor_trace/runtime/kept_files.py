"""The replay's view of files, kept and put back around a statement that must not matter.

The scratch folder's files are linked into a second tree. A file that is about to be changed is exchanged for a copy first
(`Layers.part`), so that the linked one stays what it was. What is written through a file that was open before reaches the linked
one; it is cut off again.
"""

from __future__ import annotations

import os
import posix
import stat
from dataclasses import dataclass
from typing import Any

from flor_trace.errors import NotRestorable
from flor_trace.runtime.layers import remove_tree
from flor_trace.runtime.overlay import Overlay
from flor_trace.runtime.recorded_files import mapped_files
from flor_trace.state.kinds.files import standing


@dataclass(frozen=True, slots=True)
class _Writer:
    """A file that was open for writing: where it stood, how much of it waited, and the size and time of what lies on disk."""

    file: Any
    at: int
    waiting: int
    size: int
    mtime_ns: int


class KeptFiles:
    """The files as the script sees them at the time of construction; `put_back` shows them so again.

    Files that lie where the user allows writing (`--allow-writes`) are not kept.
    """

    def __init__(self, overlay: Overlay) -> None:
        self._overlay = overlay
        self._root = os.path.join(overlay.scratch, "kept")
        self._view = overlay.view()
        self._writers = [found for file in overlay.recorded.open_writers() if (found := _look(file)) is not None]
        self._tree = self._linked()
        overlay.kept_root = self._root

    def put_back(self) -> None:
        """Undo all changes since; raises NotRestorable where something was changed that cannot be kept."""
        overlay = self._overlay
        overlay.kept_root = None
        for writer in self._writers:
            _cut(writer)
        mapped = mapped_files()
        present = _tree(overlay.upper_root)
        for name in sorted(present.keys() - self._tree.keys(), reverse=True):
            remove_tree(overlay.upper_root + name)
        for name, before in sorted(self._tree.items()):
            upper, now = overlay.upper_root + name, present.get(name)
            if now == before or (now is not None and stat.S_ISDIR(before[0]) and stat.S_ISDIR(now[0])):
                continue
            if now is not None and now[1] == before[1] and upper not in mapped:
                raise NotRestorable(name, "it has been written to through what had opened it before")
            if now is None or now[1] != before[1]:
                remove_tree(upper)
                self._relink(name, before)
        overlay.set_view(self._view)
        remove_tree(self._root)

    def _linked(self) -> dict[str, tuple[int, int, int, int]]:
        """Link the upper layer's files into a tree of their own."""
        tree = _tree(self._overlay.upper_root)
        remove_tree(self._root)
        posix.mkdir(self._root)
        for name, (mode, *_) in sorted(tree.items()):
            if stat.S_ISDIR(mode):
                posix.mkdir(self._root + name)
            else:
                posix.link(self._overlay.upper_root + name, self._root + name, follow_symlinks=False)
        return tree

    def _relink(self, name: str, before: tuple[int, int, int, int]) -> None:
        upper = self._overlay.upper_root + name
        if stat.S_ISDIR(before[0]):
            posix.mkdir(upper, stat.S_IMODE(before[0]))
        else:
            posix.link(self._root + name, upper, follow_symlinks=False)


def _tree(root: str) -> dict[str, tuple[int, int, int, int]]:
    """Everything below a folder: mode, inode, size and time, by the rest of its path."""
    found: dict[str, tuple[int, int, int, int]] = {}
    todo = [""]
    while todo:
        folder = todo.pop()
        for entry in posix.scandir(root + folder):
            about = entry.stat(follow_symlinks=False)
            name = f"{folder}/{entry.name}"
            is_folder = stat.S_ISDIR(about.st_mode)
            # a folder's own size and time follow from what is in it
            found[name] = (about.st_mode, about.st_ino, *((0, 0) if is_folder else (about.st_size, about.st_mtime_ns)))
            if is_folder:
                todo.append(name)
    return found


def _look(file: Any) -> _Writer | None:
    where = standing(file)
    if where is None:
        return None
    about = os.fstat(file.fileno())
    return _Writer(file, *where, about.st_size, about.st_mtime_ns)


def _cut(writer: _Writer) -> None:
    """Take back what has been written at the end of a file. What was overwritten, or waited before, is not known any more."""
    now = _look(writer.file)
    if now == writer or now is None or writer.waiting:
        return  # a file that had something waiting is compared with the rest of the state
    if writer.at != writer.size:
        raise NotRestorable(str(getattr(writer.file, "name", "a file")), "something in the middle of it may have been overwritten")
    writer.file.flush()
    descriptor = writer.file.fileno()
    os.ftruncate(descriptor, writer.size)
    writer.file.seek(0, os.SEEK_END)
    os.utime(descriptor, ns=(writer.mtime_ns, writer.mtime_ns))
