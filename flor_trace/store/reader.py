"""Reads recorded runs. Whatever is damaged is left out and named in `Run.damage`, never handed on."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator
from typing import Any, Literal

from flor_trace.errors import CorruptRecord, FormatTooNew, RunNotFound, StoreUnreadable
from flor_trace.store import journal, layout, liveness, shuffled
from flor_trace.store.blobs import LIST, ZSTD, Entry, PackReader, digest_of
from flor_trace.store.files import read_bytes
from flor_trace.store.journal import Damage

Status = Literal["running", "finished", "killed", "stopped", "unknown"]


def open_run(store: str, reference: str = "@last") -> Run:
    """The run that a reference means: `@last`, `@last~N`, an id, a beginning of one, or a name."""
    return Run(layout.run_folder(store, layout.resolve(store, reference)))


def find_run(store: str, script: str) -> Run:
    """The last run of a script, given by its path."""
    wanted = os.path.realpath(script)
    elsewhere = ""
    ids = layout.run_ids(store)
    for run_id in reversed(ids):
        manifest = _manifest_of(layout.run_folder(store, run_id))
        recorded = os.path.realpath(os.path.join(str(manifest.get("cwd", "")), str(manifest.get("script", ""))))
        if recorded == wanted:
            return Run(layout.run_folder(store, run_id))
        if not elsewhere and os.path.basename(recorded) == os.path.basename(wanted):
            elsewhere = f"run {run_id} is of {recorded}: give --run {run_id} to replay that one"
    if not ids:
        raise RunNotFound(layout.nothing_recorded(store, script))
    others = f"; {elsewhere}" if elsewhere else f", which holds {len(ids)} run{'s' * (len(ids) > 1)} of other scripts"
    missing = "" if os.path.exists(script) else f"there is no file {script}, and "
    raise RunNotFound(f"{missing}no run of {script} is recorded in {store}{others}{_elsewhere(store, script)}")


def _elsewhere(store: str, script: str) -> str:
    """Which other store near the script holds a run of it, as a clause."""
    wanted = os.path.realpath(script)
    for other in layout.stores_nearby(store, script):
        for run_id in layout.run_ids(other):
            manifest = _manifest_of(layout.run_folder(other, run_id))
            if os.path.realpath(os.path.join(str(manifest.get("cwd", "")), str(manifest.get("script", "")))) == wanted:
                return f"; {other} holds one: give --store {other}"
    return ""


def _manifest_of(folder: str) -> dict[str, Any]:
    try:
        return layout.read_manifest(folder)
    except FormatTooNew:
        return {}
    except CorruptRecord:
        pass  # the journal may hold a copy
    try:
        return Run(folder).manifest
    except (CorruptRecord, FormatTooNew):
        return {}  # whose run it is cannot be told; `runs` lists it, and an id opens it as far as that goes


class Run:
    """One recorded run, as it was when opened.

    Attributes:
        manifest: what was known when the run began.
        damage: what could not be read so far; grows when blobs turn out to be damaged.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.damage: list[Damage] = []
        self._read_from = self._journal_file()
        self._payloads = self._read_journal()
        self.manifest = self._read_manifest()
        self._packs = PackReader(os.path.join(folder, layout.PACKS))
        self._index: dict[str, Entry] | None = None
        self._bad: set[str] = set()
        self._outputs: array[int] | None = None

    def current(self) -> Run:
        """This run, or if it has been compacted since it was opened the run as it is now."""
        return self if self._journal_file() == self._read_from else Run(self.folder)

    # -- what the run was -----------------------------------------------------------------------------------------------

    @property
    def id(self) -> str:
        """The run's id."""
        return os.path.basename(self.folder)

    @property
    def name(self) -> str | None:
        """The name that the user gave."""
        name = self.manifest.get("name")
        return name if isinstance(name, str) else None

    @property
    def script(self) -> str:
        """The recorded script, as it was given."""
        return str(self.manifest.get("script", ""))

    @property
    def end(self) -> dict[str, Any] | None:
        """The `end` record, if the run came to one."""
        return next(self.events("end"), None)

    @property
    def status(self) -> Status:
        """How the run stands: `stopped` means that the recording ended before the script did."""
        if self.has("stopped"):
            return "stopped"
        if self.has("end"):
            return "finished"
        process = self.manifest.get("process")
        alive = liveness.is_alive(process) if isinstance(process, dict) else None
        if alive is None:
            return "unknown"
        return "running" if alive else "killed"

    # -- what happened --------------------------------------------------------------------------------------------------

    def events(self, kind: str | None = None) -> Iterator[dict[str, Any]]:
        """The journal's records in order, or those of one kind."""
        for payload in self._payloads:
            if kind is None or journal.kind_of(payload) == kind:
                yield journal.decode(payload)

    def payloads(self) -> list[bytes]:
        """The journal's intact records in order, as they are stored."""
        return list(self._payloads)

    def outputs(self, first: int = 0, last: int | None = None) -> Iterator[dict[str, Any]]:
        """The recorded output records number `first` to `last` - 1, from 0 on (None: to the end), read one at a time."""
        if self._outputs is None:
            self._outputs = array("Q", (n for n, p in enumerate(self._payloads) if journal.kind_of(p) == "output"))
        for number in range(first, len(self._outputs) if last is None else min(last, len(self._outputs))):
            yield journal.decode(self._payloads[self._outputs[number]])

    def last_event(self) -> dict[str, Any] | None:
        """The journal's last intact record."""
        return journal.decode(self._payloads[-1]) if self._payloads else None

    def has(self, kind: str) -> bool:
        """Whether there is a record of this kind."""
        return any(journal.kind_of(payload) == kind for payload in self._payloads)

    def count(self, kind: str) -> int:
        """How many records of this kind there are."""
        return sum(journal.kind_of(payload) == kind for payload in self._payloads)

    def snapshots(self, *, verify: bool = False) -> list[dict[str, Any]]:
        """The committed snapshots whose blobs are there; with `verify` every blob is read and hashed.

        Without it only lengths and headers are looked at; a blob that `blob()` found damaged counts from then on.
        """
        good: list[dict[str, Any]] = []
        seen: dict[str, bool] = {}
        for record in self.events("snapshot"):
            for digest in record["blobs"]:
                if digest not in seen:
                    seen[digest] = self._is_there(digest, verify)
            if all(seen[digest] for digest in record["blobs"]):
                good.append(record)
        return good

    def blob(self, digest: str) -> bytes:
        """The bytes with this digest, verified; raises CorruptRecord."""
        entry = self._entry(digest)
        try:
            if entry[5] != LIST:
                return self._packs.read(entry)
            data = b"".join(map(self.blob, self._packs.parts(entry)))
            self._packs.check_list(entry, data)
            return data
        except CorruptRecord as error:
            self._note_bad(digest, entry, str(error))
            raise

    def blob_into(self, digest: str, target: memoryview) -> None:
        """Read the bytes with this digest to where they are wanted, verified; raises CorruptRecord, after which `target` holds anything."""
        entry = self._entry(digest)
        try:
            if entry[5] != LIST:
                self._packs.read_into(entry, target)
                return
            done = 0
            for part in self._packs.parts(entry):
                size = self._entry(part)[3]
                self.blob_into(part, target[done : done + size])
                done += size
            self._packs.check_list(entry, target)
        except CorruptRecord as error:
            self._note_bad(digest, entry, str(error))
            raise

    def _entry(self, digest: str) -> Entry:
        entry = self.index.get(digest)
        if entry is None:
            raise CorruptRecord(f"blob {digest} is not in run {self.id}")
        return entry

    @property
    def index(self) -> dict[str, Entry]:
        """Where each blob lies; raises UsageError where the library is missing that reads them."""
        if self._index is None:
            self._index = {}
            for record in self.events("blobs"):
                for digest, pack, offset, size, stored, codec in record["entries"]:
                    self._index[digest] = (digest, pack, offset, size, stored, codec)
            if any(entry[5] == ZSTD for entry in self._index.values()):
                shuffled.check_library(f"reading run {self.id}, which is compacted,")
        return self._index

    @property
    def sources(self) -> dict[str, str]:
        """The digest of each recorded source file, by path."""
        return {record["path"]: record["digest"] for record in self.events("source")}

    def source(self, path_or_digest: str) -> bytes:
        """A recorded source file, verified; raises CorruptRecord."""
        digest = self.sources.get(path_or_digest, path_or_digest)
        file = f"{layout.SOURCES}/{digest}"
        try:
            data = read_bytes(os.path.join(self.folder, file))
        except OSError as error:
            raise CorruptRecord(f"the recorded source {path_or_digest} of run {self.id} cannot be read: {error.strerror}") from error
        if digest_of(data) != digest:
            damage = Damage(file, 0, len(data), f"the recorded source {path_or_digest} is damaged")
            self.damage.append(damage)
            raise CorruptRecord(f"run {self.id}: {damage}")
        return data

    def disk_bytes(self) -> int:
        """How much the run takes on the disk, replays included."""
        return sum(os.lstat(os.path.join(folder, name)).st_size for folder, _, names in os.walk(self.folder) for name in names)

    def new_replay_folder(self) -> str:
        """Make a new folder for what a replay leaves."""
        parent = os.path.join(self.folder, layout.REPLAYS)
        try:
            os.makedirs(parent, exist_ok=True)
            number = max((int(name) for name in os.listdir(parent) if name.isdigit()), default=0)
            while True:
                number += 1
                folder = os.path.join(parent, str(number))
                try:
                    os.mkdir(folder)
                except FileExistsError:
                    continue  # another replay took this number
                return folder
        except OSError as error:
            raise StoreUnreadable(f"cannot write into {parent}: {error.strerror or error}") from error

    # -- reading --------------------------------------------------------------------------------------------------------

    def _journal_file(self) -> int:
        """Which file the journal is: compacting puts another one in its place."""
        try:
            return os.stat(os.path.join(self.folder, layout.JOURNAL)).st_ino
        except OSError:
            return -1

    def _read_journal(self) -> list[bytes]:
        path = os.path.join(self.folder, layout.JOURNAL)
        try:
            return journal.read(path, self.damage)
        except FileNotFoundError:
            self.damage.append(Damage(layout.JOURNAL, 0, 0, "the journal is missing"))
            return []
        except OSError as error:
            raise StoreUnreadable(f"cannot read {path}: {error.strerror or error}") from error

    def _read_manifest(self) -> dict[str, Any]:
        try:
            return layout.read_manifest(self.folder)
        except CorruptRecord as error:
            copy = next(self.events("manifest"), None)
            if copy is None:
                raise
            layout.check_format(int(copy["format"]), self.folder)
            # The journal comes first, so a recording that was killed then has no manifest yet.
            missing = not os.path.exists(os.path.join(self.folder, layout.MANIFEST))
            self.damage.append(Damage(layout.MANIFEST, 0, 0, f"{error}; the copy in the journal is used", cut=missing))
            del copy["kind"]
            return copy

    def _is_there(self, digest: str, verify: bool) -> bool:
        entry = self.index.get(digest)
        if entry is None or digest in self._bad:
            return False
        if verify:
            try:
                self.blob(digest)
            except CorruptRecord:
                return False
            return True
        if self._packs.looks_whole(entry) and (entry[5] != LIST or self._parts_are_there(entry)):
            return True
        self._note_bad(digest, entry, f"blob {digest} is damaged or missing")
        return False

    def _parts_are_there(self, entry: Entry) -> bool:
        try:
            return all(self._is_there(part, False) for part in self._packs.parts(entry))
        except CorruptRecord:
            return False

    def _note_bad(self, digest: str, entry: Entry, reason: str) -> None:
        if digest not in self._bad:
            self._bad.add(digest)
            self.damage.append(Damage(self._packs.name(entry), entry[2], entry[4], reason))
