"""The `record` command: put a recording together around a script and run it."""

from __future__ import annotations

import os
import sys
from time import perf_counter
from typing import TYPE_CHECKING, Any

from flor_trace.instrument.cache import CodeCache, default_folder
from flor_trace.instrument.compiling import Compiler
from flor_trace.instrument.importer import Importer
from flor_trace.instrument.interpreter import become_plain, interpreter_options
from flor_trace.instrument.launcher import Target, ensure_hash_seed, run_target
from flor_trace.instrument.policy import Policy
from flor_trace.record.budget import Budget
from flor_trace.record.hooks import RecordHooks
from flor_trace.record.session import RecordSession
from flor_trace.record.stillborn import discard, why_nothing_was_run
from flor_trace.runtime import initial
from flor_trace.runtime.engine import Runtime
from flor_trace.runtime.files import FileTracker
from flor_trace.runtime.headroom import RoomyDriver, with_room
from flor_trace.runtime.native import LIBRARIES as NATIVE_LIBRARIES
from flor_trace.runtime.output import Streams
from flor_trace.runtime.probes import ProbeFactory
from flor_trace.runtime.sources import Sources
from flor_trace.runtime.tracker_reads import keep_reads
from flor_trace.store import writer as store

if TYPE_CHECKING:
    from collections.abc import Callable

    from flor_trace.config import RecordOptions

# Only their memory is ever staged, so a script without them needs no process that writes.
_OF_LARGE_STATE = ("numpy", "torch")


def record(
    kind: str, name: str, args: list[str], options: RecordOptions, to_user: Callable[[str], str] | None = None,
    guard: Callable[[Importer], None] | None = None,
) -> int:  # fmt: skip
    """Run a script as `python` would, and record it.

    Args:
        kind, name, args: what to run (see `Target`).
        options: how to record.
        to_user: the script's name for a file's path, where its writes are redirected.
        guard: prepares the importer for redirecting what libraries write.

    Returns:
        0; the script's other statuses are raised, as the interpreter expects them.

    Raises:
        UsageError: the store cannot be written.
    """
    seed = ensure_hash_seed()
    environment = dict(os.environ)
    target = Target(kind, name, args)
    if kind == "file" and not os.path.exists(name):
        become_plain(target.command())  # says so in the interpreter's own words, and there is no run to keep
    runtime = Runtime()
    writer = store.create(
        options.store,
        script=name if kind != "code" else "-c",
        argv=args,
        name=options.name,
        tags=dict(options.tag),
        on_failure=lambda reason: _warn(f"recording stopped, the script goes on: {reason}"),
        **_circumstances(kind, name, args, options, seed, environment),
    )
    sources = Sources("record")
    files = FileTracker(writer.put_blob, ignore=(os.path.abspath(options.store), default_folder()), to_user=to_user)
    streams = Streams()
    budget = Budget(options.overhead, options.every, perf_counter, options.replay_latency)
    session = RecordSession(runtime, writer, budget, sources, files, streams, _warn, options.max_disk)
    hooks = RecordHooks(runtime, ProbeFactory(runtime, sources.clock), writer)
    importer = _importer(hooks, options)
    importer.on_import("random", sources.watch_libraries)  # which takes 3 ms of a start
    keep_reads(importer.on_import, runtime, sources)
    for library in initial.LIBRARIES:
        importer.on_import(library, lambda library=library: _note_initial(writer, library))  # type: ignore[misc]
    for library in NATIVE_LIBRARIES:
        importer.on_import(library, lambda library=library: files.imported(library))  # type: ignore[misc]
    if guard is not None:
        guard(importer)
    for library in _OF_LARGE_STATE:
        importer.before_import(library, writer.stand_by)
    os.register_at_fork(after_in_child=session.forked)
    streams.record(with_room(runtime, session.wrote))
    files.start()
    runtime.driver = RoomyDriver(runtime, session)

    def finish(status: int) -> None:
        session.finish(status)
        why = why_nothing_was_run(session, status)
        said = discard(writer, options.store, why) if why else session.summary()
        if not options.quiet:
            _warn(said)

    return run_target(target, hooks, importer=importer, finish=finish, interrupted=session.interrupted)


def _importer(hooks: RecordHooks, options: RecordOptions) -> Importer:
    folder = None if sys.dont_write_bytecode else default_folder()
    return Importer(Compiler(hooks, Policy(options.instrument), CodeCache(folder)))


def _circumstances(
    kind: str, name: str, args: list[str], options: RecordOptions, seed: int | None, environment: dict[str, str]
) -> dict[str, Any]:
    """What replay has to set up again before the script starts."""
    return {
        "target_kind": kind,
        "target": name,
        "args": args,
        "cwd": os.getcwd(),
        "python": list(sys.version_info[:3]),
        "executable": sys.executable,
        "interpreter_flags": interpreter_options(sys.orig_argv),
        "hash_seed": seed,
        "env": environment,
        "instrument": list(options.instrument),
        "tty": {label: _is_a_tty(label) for label in ("stdin", "stdout", "stderr")},
        "terminal": _terminal_size(),
        "options": {"overhead": options.overhead, "every": options.every, "max_disk": options.max_disk},
    }


def _is_a_tty(label: str) -> bool:
    stream = getattr(sys, label)
    return stream is not None and bool(stream.isatty())


def _terminal_size() -> list[int] | None:
    try:
        return list(os.get_terminal_size(1))
    except OSError:
        return None


def _note_initial(writer: store.RunWriter, library: str) -> None:
    writer.event("initial_rng", library=library, value=initial.capture_initial_rng(library))


def _warn(text: str) -> None:
    # The script may have closed or replaced its streams; the descriptor is what the user sees.
    message = f"flor_trace: {text}\n".encode()
    try:
        sys.stderr.flush()
        os.write(2, message)
    except (OSError, ValueError, AttributeError):
        return  # nobody is listening
