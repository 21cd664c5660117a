"""Which files hindsight statements write, unit by unit: the overlay tells, and what a unit has added is put aside at its end.

A worker executes some parts of the run only, so it can say what a unit adds to a file and not what the file holds. A *piece* is that:
the file whole, where the unit has made it anew, or what has been appended. What a statement reads of a file before that is
noted beside it, for another unit may have written the file by then (see `replay.hindsight_files`, which puts the pieces together).
"""

from __future__ import annotations

import json
import os
import posix
import stat
import sys
import weakref
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from threading import get_ident
from types import FrameType
from typing import Any

from flor_trace.runtime.engine import Runtime
from flor_trace.runtime.inserted import Insertions, Mark
from flor_trace.runtime.layers import posix_open
from flor_trace.runtime.overlay import Overlay
from flor_trace.runtime.recorded_files import writing_descriptors

FOLDER = "pieces"
"""Where a worker puts its pieces aside, in its scratch folder: a folder for each unit."""
MANIFEST = "manifest.json"
WHOLE, APPENDED, FOLDER_MADE, ABSENT, MIXED, OTHER = "whole", "appended", "folder", "absent", "mixed", "other"
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# The functions that lie between whoever asks whether a file exists and the overlay.
_STANDARD = ("genericpath.py", "posixpath.py", "os.py", "pathlib.py", "pathlib" + os.sep, "contextlib.py", "shutil.py", "glob.py")
_BETWEEN = (
    os.path.dirname(os.path.dirname(__file__)) + os.sep,
    *(os.path.join(os.path.dirname(os.__file__), name) for name in _STANDARD),
    "<frozen ",
)


@dataclass(slots=True)
class _Touched:
    """What a unit has done to one file: `size` and `digest` are of what was there before (-1: nothing), `whole` that it has been
    made anew since, `other` that something was done which cannot be put together from pieces."""

    size: int
    digest: str
    whole: bool = False
    other: bool = False


@dataclass(slots=True)
class _Unit:
    """What the present unit has done. `seen` are paths that a statement has looked at or read, `asked` those where a library has, and
    `listed` folders."""

    whole_run: bool
    touched: dict[str, _Touched] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)
    asked: set[str] = field(default_factory=set)
    listed: set[str] = field(default_factory=set)


class HindsightFiles:
    """Follows the files that hindsight statements write.

    Args:
        runtime: tells whether a hindsight statement is being executed.
        overlay: through which it writes.
        recorded: the paths that the recorded run has written.
        first: the number of the plan's first unit.
    """

    def __init__(self, runtime: Runtime, overlay: NotedOverlay, recorded: Collection[str], first: int = 0) -> None:
        self._runtime = runtime
        self._overlay = overlay
        self._recorded = recorded
        self._process = os.getpid()
        self._known: set[str] = set()
        self._unit: _Unit | None = None
        self._next = first
        self._executed = 0
        self._beside: frozenset[int] = frozenset()
        self._insertions = Insertions(overlay, lambda key: key in recorded and key not in self._known)
        overlay.files = self

    # -- units --------------------------------------------------------------------------------------------------------

    def begin(self, unit: int) -> None:
        """From here on what is written belongs to a unit. Files are shown as they lie on disk, and as one worker that has replayed all
        units up to this one has left them."""
        whole_run = unit == self._next and self._runtime.executed == self._executed
        self._next = unit + 1 if whole_run else -1
        self._unit = _Unit(whole_run)
        self._insertions.begin(self._folder(unit))
        if not self._known:
            return
        held = writing_descriptors()
        for key in self._known:
            if self._overlay.is_folder(key):
                continue  # what makes it in another unit finds it there, as it did
            if self._overlay.upper(key) in held:
                self._unit.touched[key] = self._before(key)
            elif not whole_run and key not in self._recorded:
                self._overlay.unwrite(key)

    def end(self, unit: int) -> None:
        """Put aside what the unit has added."""
        done, self._unit = self._unit, None
        self._executed = self._runtime.executed
        if done is None:
            return
        folder = self._folder(unit)
        pieces: dict[str, dict[str, Any]] = {}
        for key in sorted(done.touched):
            piece = self._piece(key, done, os.path.join(folder, str(len(pieces))))
            if piece is not None:
                pieces[key] = piece
        seen = set() if done.whole_run else done.seen | done.asked
        inserted = self._insertions.end()
        if pieces or seen or done.listed or inserted:
            os.makedirs(folder, exist_ok=True)
            listed = [] if done.whole_run else sorted(done.listed)
            manifest = {"pieces": pieces, "seen": sorted(seen), "listed": listed, "inserted": inserted}
            Path(folder, MANIFEST).write_text(json.dumps(manifest))

    def _folder(self, unit: int) -> str:
        return os.path.join(self._overlay.scratch, FOLDER, str(unit))

    def _piece(self, key: str, unit: _Unit, place: str) -> dict[str, Any] | None:
        about = unit.touched[key]
        self._flush(key)
        entry = self._overlay.entry(key)
        if key in self._recorded:
            return {"kind": MIXED} if entry is None or self._digest(entry) != (about.size, about.digest) or about.whole else None
        if entry is None:
            return {"kind": ABSENT}
        mode = posix.lstat(entry).st_mode
        if about.other or not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            return {"kind": OTHER}
        if stat.S_ISDIR(mode):
            return {"kind": FOLDER_MADE}
        size = posix.lstat(entry).st_size
        appended = not about.whole and self._digest(entry, about.size) == (about.size, about.digest)
        if appended and size == about.size:
            return None
        if not appended and not about.whole and about.size >= 0:
            unit.seen.add(key)  # something in the middle of it has been changed
        if not appended and not about.whole and about.size < 0:
            appended = True
        os.makedirs(os.path.dirname(place), exist_ok=True)
        _copy(entry, max(about.size, 0) if appended else 0, place)
        return {"kind": APPENDED if appended else WHOLE, "file": os.path.basename(place)}

    # -- statements ---------------------------------------------------------------------------------------------------

    def before_statement(self) -> list[Mark]:
        """A hindsight statement begins; the result is for `after_statement`."""
        if self._runtime.hindsight or os.getpid() != self._process:
            return []
        self._beside = frozenset(sys._current_frames()) - {get_ident()}
        return self._insertions.before()

    def after_statement(self, marks: list[Mark], statement: int) -> None:
        """The hindsight statement of that number has ended."""
        if marks and os.getpid() == self._process:
            self._insertions.after(marks, statement)

    # -- what the overlay tells ---------------------------------------------------------------------------------------

    def writes(self, path: str, *, whole: bool, other: bool = False, follow: bool = True, perhaps: bool = False) -> None:
        """A file is about to be written: `whole` anew, or from what is there; `perhaps`: it is opened for both, as databases are that are
        only asked."""
        if not (self._runtime.hindsight or self._known or whole):
            return
        key = self._noted(path, follow)
        if key is None:
            return
        by_statement = bool(self._runtime.hindsight) and not self._goes_on_beside(key)
        if whole and not by_statement:
            self._insertions.made_anew(key)
        if not (by_statement or key in self._known) or (perhaps and key in self._recorded):
            return
        self._known.add(key)
        unit = self._unit
        if unit is None:
            return
        about = unit.touched.get(key)
        if about is None:
            about = unit.touched[key] = self._before(key)
        if whole:
            about.whole = True
            unit.asked.discard(key)
        about.other = about.other or other

    def reads(self, path: str, follow: bool = True) -> None:
        """The content of a file is asked for."""
        if not self._runtime.hindsight or self._unit is None:
            return
        key = self._noted(path, follow)
        if key is not None and not self._is_whole(key):
            self._unit.seen.add(key)

    def looks(self, path: str, follow: bool = True) -> None:
        """It is asked whether a file is there, or about its size or time."""
        if not self._runtime.hindsight or self._unit is None:
            return
        key = self._noted(path, follow)
        if key is not None and not self._is_whole(key):
            # A library often looks before it writes a file anew, and writes the same whatever it has seen.
            by_script = _asking(sys._getframe(1)) in self._runtime.user_files
            (self._unit.seen if by_script else self._unit.asked).add(key)

    def lists(self, path: str) -> None:
        """The names in a folder are asked for."""
        if not self._runtime.hindsight or self._unit is None:
            return
        key = self._noted(path, True)
        if key is not None:
            self._unit.listed.add(key)

    def opened(self, path: str, file: Any) -> None:
        """A file object writes. Where it stands at first tells how much others have written."""
        if not self._runtime.hindsight or not hasattr(file, "__dict__"):
            return
        held = weakref.ref(file)  # it has to be closed when the script drops it, and not when a cycle is collected

        def noting() -> int:
            self.reads(path)
            asked: Any = held()
            return int(type(asked).tell(asked))

        file.tell = noting

    def _noted(self, path: str, follow: bool) -> str | None:
        """The key of a path that matters; None in a child process, which tells nobody."""
        if os.getpid() != self._process:
            return None
        try:
            key = self._overlay.key(path, follow)
        except (OSError, ValueError):
            return None  # whoever uses the path meets the error
        return None if self._overlay.passes(key) or "/__pycache__" in key else key

    def _goes_on_beside(self, key: str) -> bool:
        """Whether a thread that was there before the statement writes on to a file that recorded code has made in this replay, as the
        threads of trackers do. Any other file may be one that the statement has asked it to write."""
        return get_ident() in self._beside and key not in self._known and self._overlay.entry(key) == self._overlay.upper(key)

    def _is_whole(self, key: str) -> bool:
        about = self._unit.touched.get(key) if self._unit is not None else None
        return about is not None and about.whole

    def _before(self, key: str) -> _Touched:
        self._flush(key)
        entry = self._overlay.entry(key)
        return _Touched(*self._digest(entry))

    def _flush(self, key: str) -> None:
        for file in self._overlay.recorded.open_writers(key):
            file.flush()

    def _digest(self, entry: str | None, size: int | None = None) -> tuple[int, str]:
        """The size and digest of what lies at a physical path, or of its first `size` bytes."""
        from xxhash import xxh3_128

        if entry is None or not stat.S_ISREG(posix.lstat(entry).st_mode):
            return (-1, "")
        digest, read = xxh3_128(), 0
        with open(entry, "rb", buffering=0, opener=posix_open) as file:
            while data := file.read(1 << 20 if size is None else min(1 << 20, max(size - read, 0))):
                digest.update(data)
                read += len(data)
        return read, str(digest.hexdigest())


class NotedOverlay(Overlay):
    """An overlay that tells `HindsightFiles` what is done to files."""

    def __init__(self, scratch: Path, allow: Iterable[Path] = ()) -> None:
        super().__init__(scratch, allow)
        self.files: HindsightFiles | None = None

    def opened(self, path: str, file: Any) -> None:
        """See `Overlay`."""
        super().opened(path, file)
        if self.files is not None:
            self.files.opened(path, file)

    def open_path(self, path: str, flags: int) -> str:
        """See `Overlay`."""
        if self.files is not None and flags & _WRITES:
            both = bool(flags & os.O_RDWR and not flags & os.O_TRUNC)
            if flags & os.O_EXCL or both:
                self.files.reads(path)
            self.files.writes(path, whole=bool(flags & (os.O_TRUNC | os.O_EXCL)), perhaps=both and not flags & os.O_APPEND)
        return super().open_path(path, flags)

    def resolve_read(self, path: str) -> str:
        """See `Overlay`."""
        if self.files is not None:
            self.files.reads(path)
        return super().resolve_read(path)

    def look(self, path: str, follow: bool = True) -> str:
        """See `Layers`."""
        if self.files is not None:
            self.files.looks(path, follow)
        return super().look(path, follow)

    def names(self, path: str) -> list[str]:
        """See `Layers`."""
        if self.files is not None:
            self.files.lists(path)
        return super().names(path)

    def is_plain(self, key: str) -> bool:
        """See `Layers`; asked of a folder that is about to be listed."""
        if self.files is not None:
            self.files.lists(key)
        return super().is_plain(key)

    def mkdir(self, path: str, mode: int = 0o777) -> None:
        """See `Overlay`."""
        if self.files is not None:
            self.files.writes(path, whole=False, follow=False)
        super().mkdir(path, mode)

    def remove(self, path: str) -> None:
        """See `Overlay`."""
        self._replaces(path)
        super().remove(path)

    def rmdir(self, path: str) -> None:
        """See `Overlay`."""
        self._replaces(path)
        super().rmdir(path)

    def rename(self, source: str, target: str) -> None:
        """See `Overlay`."""
        if self.files is not None:
            is_folder = self.is_folder(self.key(source, follow=False))
            self.files.reads(source, follow=False)
            for path in (source, target):
                self.files.writes(path, whole=True, other=is_folder, follow=False)
        super().rename(source, target)

    def symlink(self, target: str, path: str) -> None:
        """See `Overlay`."""
        self._replaces(path)
        super().symlink(target, path)

    def link(self, source: str, path: str, follow: bool = True) -> None:
        """See `Overlay`."""
        if self.files is not None:
            for each in (source, path):
                self.files.reads(each, follow=False)
                self.files.writes(each, whole=False, other=True, follow=False)
        super().link(source, path, follow)

    def _replaces(self, path: str) -> None:
        """What is at a path comes to another state, provided that there is, or is not, something now."""
        if self.files is not None:
            self.files.reads(path, follow=False)
            self.files.writes(path, whole=True, follow=False)


def _asking(frame: FrameType | None) -> str:
    """The file of the code that looks, behind the functions that look for it."""
    while frame is not None and frame.f_code.co_filename.startswith(_BETWEEN):
        frame = frame.f_back
    return "" if frame is None else frame.f_code.co_filename


def _copy(source: str, start: int, target: str) -> None:
    with open(source, "rb", opener=posix_open) as reader, open(target, "wb", opener=posix_open) as writer:
        reader.seek(start)
        while data := reader.read(1 << 20):
            writer.write(data)
