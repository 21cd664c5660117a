"""Writes a finished run anew in less space, in the same place.

All blobs are written to new packs, shuffled and squeezed by zstd (see `shuffled`), and made durable; then the manifest is replaced by
one that names the newer format, then the journal by one whose index tells the new places. Replacing the journal is the step that
counts: up to it the old packs are the run's, from it on the new ones, so that a crash at any moment leaves the whole run and
perhaps packs that nothing needs, which `gc` deletes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from flor_trace.errors import UsageError
from flor_trace.store import journal, layout, shuffled
from flor_trace.store.blobs import LIST, Entry, PackReader, PackWriter, pack_number
from flor_trace.store.files import sync_file, sync_folder, write_atomically
from flor_trace.store.locks import Hold
from flor_trace.store.reader import Run

_ENTRIES_AT_ONCE = 256


def compact(folder: str) -> tuple[int, int]:
    """Compact a run; returns its bytes before and after, which are the same where nothing was left to do.

    Raises:
        UsageError: the run is still being recorded or used, or the library is not installed.
        CorruptRecord: a part of the run is damaged; the run stays as it is.
    """
    shuffled.check_library("compacting")
    with Hold(folder, alone=True):
        run = Run(folder)
        _check_compactable(run)
        before = run.disk_bytes()
        if not _is_compact(run):
            old = _packs(folder)
            try:
                entries = _rewrite_blobs(run, first=max(old, default=-1) + 1)
            except BaseException:
                _delete_packs(folder, sorted(set(_packs(folder)) - set(old)))
                raise
            _replace_index(run, entries)
            _delete_packs(folder, old)
        return before, Run(folder).disk_bytes()


def _check_compactable(run: Run) -> None:
    if run.status == "running":
        raise UsageError(f"run {run.id} is being recorded: compact it when its script has ended")
    if run.status == "unknown":
        raise UsageError(f"run {run.id} was recorded on another machine, where it may still be running: compact it there")
    damaged = [damage for damage in run.damage if not damage.cut]
    if damaged:
        raise UsageError(f"run {run.id} is damaged and stays as it is: {damaged[0]}")


def _is_compact(run: Run) -> bool:
    """Whether an earlier call has done the work: what zstd could not make smaller is stored raw then, too."""
    # Not the manifest's file: that is replaced before the journal.
    return next(run.events("manifest"), {}).get("compacted") is True


def _packs(folder: str) -> list[int]:
    numbers = (pack_number(name) for name in os.listdir(os.path.join(folder, layout.PACKS)))
    return [number for number in numbers if number is not None]


def _rewrite_blobs(run: Run, first: int) -> list[Entry]:
    """Write every blob that something needs into new packs; returns the new index entries."""
    folder = os.path.join(run.folder, layout.PACKS)
    reader, writer = PackReader(folder), PackWriter(folder, first, dense=True)
    entries: list[Entry] = []
    try:
        for digest in sorted(_needed(run, reader), key=lambda digest: run.index[digest][1:3]):
            entry = run.index[digest]
            if entry[5] == LIST:
                run.blob(digest)  # or a damaged list would be copied as a good one
                entries.append(writer.append_list(digest, entry[3], reader.parts(entry)))
            else:
                entries.append(_written(writer, digest, run.blob(digest)))
        writer.sync()
    finally:
        writer.close()
    return entries


def _written(writer: PackWriter, digest: str, data: bytes) -> Entry:
    steps = writer.append(digest, data)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            entry: Entry = end.value
            return entry


def _needed(run: Run, reader: PackReader) -> set[str]:
    """The blobs that any record of the journal names, and their chunks. A killed run also holds those of a snapshot that was
    never committed."""
    waiting = {digest for record in run.events() if record["kind"] != "blobs" for digest in _digests(record) if digest in run.index}
    needed: set[str] = set()
    while waiting:
        digest = waiting.pop()
        needed.add(digest)
        if run.index[digest][5] == LIST:
            waiting.update(part for part in reader.parts(run.index[digest]) if part not in needed)
    return needed


def _digests(value: object) -> Iterator[str]:
    """Every text in a JSON value that could be a digest, wherever it stands: kinds of records that are yet to come count, too."""
    if isinstance(value, str):
        if len(value) == 32:
            yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _digests(key)
            yield from _digests(item)
    elif isinstance(value, list):
        for item in value:
            yield from _digests(item)


def _replace_index(run: Run, entries: list[Entry]) -> None:
    """Replace manifest and journal; what the index tells stands in front, where a cut journal still has it."""
    manifest = {**run.manifest, "format": layout.COMPACTED_FORMAT, "compacted": True}
    path = os.path.join(run.folder, layout.JOURNAL)
    times = os.stat(path)
    frames = [journal.frame({"kind": "manifest", **manifest})]
    for start in range(0, len(entries), _ENTRIES_AT_ONCE):
        frames.append(journal.frame({"kind": "blobs", "entries": entries[start : start + _ENTRIES_AT_ONCE]}))
    frames += [journal.framed(payload) for payload in run.payloads() if journal.kind_of(payload) not in ("manifest", "blobs")]
    # Readers of the old format must refuse the run before they find their packs gone.
    layout.write_manifest(run.folder, manifest)
    sync_file(os.path.join(run.folder, layout.MANIFEST))
    sync_folder(run.folder)
    write_atomically(path, b"".join(frames), durable=True)
    # `gc --older-than` goes by when something happened last.
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def _delete_packs(folder: str, numbers: list[int]) -> None:
    packs = os.path.join(folder, layout.PACKS)
    for name in os.listdir(packs):
        if pack_number(name) in numbers:
            os.unlink(os.path.join(packs, name))
    sync_folder(packs)
