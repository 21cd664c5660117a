"""Where things lie: the store's folder, run ids, run folders and their manifests.

    .flor/
      .gitignore         "*"
      catalog.sqlite     an index that can be deleted at any time
      runs/<id>/
        manifest.json    who, what and when; its copy is the first record of the journal
        journal          everything that happened, in order
        packs/           blobs
        sources/         the recorded source files, named by digest
        replays/<n>/     what replays leave; recording files are never modified
"""

from __future__ import annotations

import json
import os
import time
import zlib

from flor_trace.errors import CorruptRecord, FormatTooNew, RunNotFound, StoreUnreadable
from flor_trace.store import journal
from flor_trace.store.files import make_folder, read_bytes, sync_folder, write_atomically

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FORMAT = 3
"""The format of new runs, and the oldest whose snapshots can be restored; what earlier ones printed can be shown."""
COMPACTED_FORMAT = 4
"""The format of compacted runs, and the newest that can be read. It grows by one when readers of today would misread what is written;
records of new kinds and new fields are no reason."""
DEFAULT_STORE = ".flor"
MANIFEST = "manifest.json"
JOURNAL = "journal"
PACKS = "packs"
SOURCES = "sources"
REPLAYS = "replays"
CATALOG = "catalog.sqlite"


def runs_folder(store: str) -> str:
    """The folder that holds a store's runs."""
    return os.path.join(store, "runs")


def run_folder(store: str, run_id: str) -> str:
    """The folder of one run."""
    return os.path.join(store, "runs", run_id)


def new_run_id() -> str:
    """An id that sorts by time and is never given twice."""
    seconds, rest = divmod(time.time_ns(), 1_000_000_000)
    return f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime(seconds))}-{rest // 1000:06d}-{os.urandom(2).hex()}"


def create_run_folder(store: str) -> tuple[str, str]:
    """Make the folder of a new run; returns its id and path. Two processes never get the same one."""
    try:
        make_folder(runs_folder(store))
        ignore = os.path.join(store, ".gitignore")
        if not os.path.exists(ignore):
            write_atomically(ignore, b"*\n")
        while True:
            run_id = new_run_id()
            folder = run_folder(store, run_id)
            try:
                os.mkdir(folder, 0o700)  # the recorded environment may hold passwords
            except FileExistsError:
                continue
            break
        os.mkdir(os.path.join(folder, PACKS))
        os.mkdir(os.path.join(folder, SOURCES))
        sync_folder(runs_folder(store))
    except OSError as error:
        raise StoreUnreadable(f"cannot record into {store}: {error.strerror or error}") from error
    return run_id, folder


def write_manifest(folder: str, manifest: dict[str, Any]) -> None:
    """Write a run's manifest, checksummed."""
    body = json.dumps(manifest, indent=1, sort_keys=True)
    check = f"{zlib.crc32(body.encode()):08x}"
    write_atomically(os.path.join(folder, MANIFEST), f'{{"check": "{check}", "manifest":\n{body}\n}}\n'.encode())


def read_manifest(folder: str) -> dict[str, Any]:
    """A run's manifest; raises CorruptRecord where it is damaged and FormatTooNew where a later version wrote it."""
    path = os.path.join(folder, MANIFEST)
    try:
        outer = json.loads(read_bytes(path))
        manifest, check = outer["manifest"], outer["check"]
        written_by = int(manifest["format"])
    except OSError as error:
        raise CorruptRecord(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptRecord(f"{path} is damaged") from error
    intact = f"{zlib.crc32(json.dumps(manifest, indent=1, sort_keys=True).encode()):08x}" == check
    if intact:
        check_format(written_by, path)
        return dict(manifest)
    raise CorruptRecord(f"{path} is damaged")


def check_format(written_by: int, path: str) -> None:
    """Refuse what a later version of flor_trace wrote."""
    if written_by > COMPACTED_FORMAT:
        raise FormatTooNew(f"{path} has format {written_by}, this version of flor_trace reads up to format {COMPACTED_FORMAT}: upgrade it")


def run_ids(store: str) -> list[str]:
    """The ids of all runs in a store, oldest first; none where there is no store."""
    try:
        names = os.listdir(runs_folder(store))
    except (FileNotFoundError, NotADirectoryError):
        if os.path.exists(store) and not os.path.isdir(store):
            raise StoreUnreadable(f"{store} is a file, not a store's folder") from None
        return []
    except OSError as error:
        raise StoreUnreadable(f"cannot read the store {store}: {error.strerror or error}") from error
    return sorted(name for name in names if is_complete(run_folder(store, name)))


def is_complete(folder: str) -> bool:
    """Whether a run was begun to the end; a folder without a manifest whose journal ends within its first record (or is not there)
    was left by a crash, or is being made."""
    return os.path.exists(os.path.join(folder, MANIFEST)) or journal.has_begun(os.path.join(folder, JOURNAL))


def nothing_recorded(store: str, script: str | None = None) -> str:
    """What to tell the user where a store holds no run (of `script`, a path): where it was looked for, and what to do."""
    what = "no run" if script is None else f"no run of {script}"
    where = store if os.path.exists(store) else f"{store}, which does not exist"
    found = stores_nearby(store, script)
    if found:
        folder = os.path.dirname(found[0])
        return f"{what} is recorded in {where}: {found[0]} holds runs, so give --store {found[0]}, or work in {folder}"
    return f"{what} is recorded in {where}: work in the folder that the script was recorded from, or give --store DIR"


def stores_nearby(store: str, script: str | None = None) -> list[str]:
    """Other stores that hold runs: inside the folder given as the store, in the script's folder, and in the folders above both."""
    name = os.path.basename(store) or DEFAULT_STORE
    here = os.path.dirname(os.path.abspath(store))
    candidates = [os.path.join(store, DEFAULT_STORE)]
    for folder in ([] if script is None else [os.path.dirname(os.path.realpath(script))]) + [here]:
        while True:
            candidates.append(os.path.join(folder, name))
            if folder == os.path.dirname(folder):
                break
            folder = os.path.dirname(folder)
    others = [each for each in dict.fromkeys(candidates) if os.path.realpath(each) != os.path.realpath(store)]
    return [each for each in others if _holds_runs(each)]


def _holds_runs(store: str) -> bool:
    try:
        return bool(run_ids(store))
    except StoreUnreadable:
        return False  # somebody else's, or a file of that name


def resolve(store: str, reference: str) -> str:
    """The id that a reference means: `@last`, `@last~N`, an id, an unambiguous beginning of one, or a name (the last run of it)."""
    ids = run_ids(store)
    if not ids:
        raise RunNotFound(nothing_recorded(store))
    if reference.startswith("@last"):
        back = reference[len("@last~") :] if reference.startswith("@last~") else "0" if reference == "@last" else ""
        if not back.isdigit():
            raise RunNotFound(f"{reference} means no run: write @last or @last~N")
        if int(back) >= len(ids):
            raise RunNotFound(f"{reference} means no run: {store} holds {len(ids)}")
        return ids[-1 - int(back)]
    if reference in ids:
        return reference
    for run_id in reversed(ids):
        if _name_of(store, run_id) == reference:
            return run_id
    fitting = [run_id for run_id in ids if reference and run_id.startswith(reference)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise RunNotFound(f"{len(fitting)} runs begin with {reference}: {', '.join(fitting[:4])}{', …' if len(fitting) > 4 else ''}")
    raise RunNotFound(f"no run in {store} has the id or name {reference} (`flor_trace runs` lists them)")


def _name_of(store: str, run_id: str) -> str | None:
    try:
        name = read_manifest(run_folder(store, run_id)).get("name")
    except (CorruptRecord, FormatTooNew):
        return None  # such a run is found by its id only
    return name if isinstance(name, str) else None
