"""The command line. Each command imports what it needs, so that `record` reaches the script soon."""

from __future__ import annotations

import sys

from flor_trace.errors import FlorTraceError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from typing import Any, Literal, NoReturn

USAGE = """\
usage: flor_trace record [OPTIONS] [--] (FILE | -m MODULE | -c CODE) [ARGS...]
       flor_trace replay [OPTIONS] [--] [FILE]
       flor_trace doctor [OPTIONS] [--] FILE [ARGS...]
       flor_trace plot [OPTIONS] [RUN] [NAME...]
       flor_trace runs | show | logs | verify | rm | gc | compact | config [--store DIR] [--json] [RUN...]

record   run a script as python would, and record it
replay   print what log statements added since would have printed in the recorded run
runs     list the recorded runs
show     tell one run's details
logs     print a run's recorded output, and what replays have added to it
plot     draw numbers that a run or its replays printed
verify   check every stored byte of a run; with --deep execute a part of it again
doctor   tell what of a script will not be captured exactly
rm       delete runs
gc       delete what crashed recordings left, and the runs that --keep, --older-than and --max-size do not keep
compact  write finished runs anew in less space
config   tell every setting and where its value comes from

flor_trace COMMAND --help tells a command's options.
"""

RECORD_USAGE = """\
usage: flor_trace record [OPTIONS] [--] (FILE | -m MODULE | -c CODE) [ARGS...]

Runs the script as python would and records it. Everything after FILE, MODULE or CODE belongs to the script.
The exit status is the script's own; 2 if nothing could be run.

  --store DIR        where runs are kept (.flor)
  --name S           a name for the run
  --tag K=V          a label for the run; may be repeated
  --overhead SHARE   what recording may cost, as a share of the run's time (0.01)
  --every N|auto     a snapshot at every N-th iteration of the outermost loops, whatever it costs (auto)
  --max-disk SIZE    what the run's snapshots may take, such as 20GB; they get further apart as it fills (no limit)
  --replay-latency TIME
                     a snapshot inside long inner loops so often, as far as --overhead allows (a tenth of an epoch, or 60s)
  --instrument PKG   instrument this installed package too; may be repeated
  -q, --quiet        no summary line

  flor_trace record train.py --lr 0.1
  flor_trace record --name baseline --tag lr=0.1 --overhead 0.02 -m trainer.main --config a.yaml
"""

EXAMPLES = {
    "replay": """\
  flor_trace replay                                   the last run, with all cores
  flor_trace replay --workers 4 --run baseline train.py
  flor_trace replay --iterations 7 --show all         one epoch, the recorded lines around the new ones
  flor_trace replay --dry-run                         what it would do, and how long that takes
""",
    "doctor": """\
  flor_trace doctor train.py
  flor_trace doctor --run --seconds 60 train.py --lr 0.1
""",
    "runs": """\
  flor_trace runs
  flor_trace runs --json | jq -r '.[] | select(.exit_status == 0) | .id'
""",
    "show": """\
  flor_trace show                                     the last run
  flor_trace show baseline --json
  flor_trace show --budget                            why there are snapshots where they are
""",
    "logs": """\
  flor_trace logs                                     all lines, those of replays in their places
  flor_trace logs baseline --replay none | grep loss
""",
    "plot": """\
  flor_trace plot                                     the words that numbers follow
  flor_trace plot loss                                of the last run
  flor_trace plot baseline "train loss" "test loss" --to loss.png
""",
    "verify": """\
  flor_trace verify
  flor_trace verify --deep --sample 8 baseline
""",
    "rm": """\
  flor_trace rm baseline 20261123-0908
""",
    "gc": """\
  flor_trace gc --dry-run --older-than 30d
  flor_trace gc --keep 10 --max-size 50GB             the ten newest, and of the others as many as fit
""",
    "compact": """\
  flor_trace compact                                  all runs that have ended
  flor_trace compact baseline
""",
    "config": """\
  flor_trace config
  FLOR_TRACE_OVERHEAD=0.05 flor_trace config --json
""",
}

STATUSES = {
    "replay": """\
  0  exact, or within tolerance
  1  a worker failed, for instance because a new statement raised an error
  2  this cannot be done, and nothing was executed: no such run, or the source changed by more than log statements
  3  the replay diverged from the record
  130  interrupted; --resume goes on
""",
    "doctor": """\
  0  nothing will be inexact, or only where a branch is taken that may not be
  2  this cannot be done: no such script
  3  something will be inexact; it is listed, and nothing else is wrong
""",
    "runs": """\
  0  also where no run is recorded, for an empty list is an answer; stderr says so
  2  the store cannot be read
""",
    "verify": """\
  0  intact
  1  stored bytes are damaged, or with --deep a worker failed
  2  this cannot be done: no such run
  3  with --deep: executed again, the run diverged
""",
}

BROKEN_PIPE_STATUS = 141
"""What a shell reports of a command that SIGPIPE ended: 128 + 13."""

_RECORD_VALUES = {
    f"--{name.replace('_', '-')}": name
    for name in ("store", "name", "tag", "overhead", "every", "max_disk", "replay_latency", "instrument")
}
_REPEATED = {"tag", "instrument"}
_FLAGS = {"-q": "quiet", "--quiet": "quiet"}


def main(argv: list[str] | None = None) -> int:
    """Carry out a command line; returns the exit status."""
    words = sys.argv[1:] if argv is None else argv
    if words and words[0] == "record":
        return _guarded(words)  # what becomes of a closed pipe is the script's affair there
    try:
        status = _guarded(words)
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        if not _reader_is_gone():
            raise
        return BROKEN_PIPE_STATUS
    return status


def _guarded(words: list[str]) -> int:
    try:
        return _dispatch(words)
    except FlorTraceError as error:
        print(f"flor_trace: {error}", file=sys.stderr)
        return error.exit_status


def _reader_is_gone() -> bool:
    """Whether nobody reads our output any more (`flor_trace logs | head`); if so, silences the interpreter's last flush."""
    import os
    import select

    gone = False
    for stream in filter(None, (sys.stdout, sys.stderr)):
        poll = select.poll()
        poll.register(stream.fileno(), 0)
        if any(event & select.POLLERR for _, event in poll.poll(0)):
            gone = True
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return gone


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(USAGE, end="", file=sys.stdout if words else sys.stderr)
        return 0 if words else UsageError.exit_status
    command, rest = words[0], words[1:]
    if command == "record":
        return _record(rest)
    if command == "replay":
        return _replay(rest)
    if command in ("-V", "--version"):
        import flor_trace

        print(flor_trace.__version__)
        return 0
    if command == "doctor":
        return _doctor(rest)
    if command in _QUERIES:
        return _query(command, rest)
    import difflib

    known = ("record", "replay", "doctor", *_QUERIES)
    if command.endswith(".py"):
        raise UsageError(f"there is no command {command!r}: write `flor_trace record {command}` to run and record it")
    if close := difflib.get_close_matches(command, known, 1):
        raise UsageError(f"there is no command {command!r}: did you mean {close[0]}?")
    raise UsageError(f"there is no command {command!r}: write record, replay, doctor, {', '.join(_QUERIES)}")


# -- record -------------------------------------------------------------------------------------------------------------


def _record(words: list[str]) -> int:
    if words and words[0] in ("-h", "--help"):
        print(RECORD_USAGE, end="")
        return 0
    given, kind, target, args = parse_record(words)
    from flor_trace.config import RecordOptions
    from flor_trace.record.command import record

    return record(kind, target, args, RecordOptions(given))


def parse_record(words: list[str]) -> tuple[dict[str, Any], Literal["file", "module", "code"], str, list[str]]:
    """The options before the target, the target's kind, the target, and the script's own arguments, untouched."""
    given: dict[str, Any] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "--":
            break
        if word[:2] in ("-m", "-c"):
            # As python has it: the value may be joined to the letter, and ends our options either way.
            value = word[2:] or (rest.pop(0) if rest else "")
            if not value:
                raise UsageError(f"record {word} needs {'a module' if word == '-m' else 'code'}")
            return given, "module" if word[1] == "m" else "code", value, rest
        if word in _FLAGS:
            given[_FLAGS[word]] = True
            continue
        option, equals, value = word.partition("=")
        if option in _RECORD_VALUES:
            if not equals:
                if not rest:
                    raise UsageError(f"record {option} needs a value")
                value = rest.pop(0)
            name = _RECORD_VALUES[option]
            if name in _REPEATED:
                given.setdefault(name, []).append(value)
            else:
                given[name] = value
            continue
        if word.startswith("-") and word != "-":
            raise UsageError(f"record knows no option {word}; the script's own options go after its name")
        rest.insert(0, word)
        break
    if not rest:
        raise UsageError("record needs a script: FILE, -m MODULE or -c CODE")
    if word == "--" and rest[0] in ("-m", "-c"):
        if len(rest) < 2:
            raise UsageError(f"record {rest[0]} needs {'a module' if rest[0] == '-m' else 'code'}")
        return given, "module" if rest[0] == "-m" else "code", rest[1], rest[2:]
    return given, "file", rest[0], rest[1:]


# -- replay -------------------------------------------------------------------------------------------------------------


def _replay(words: list[str]) -> int:
    given = parse_replay(words)
    from flor_trace.config import ReplayOptions
    from flor_trace.replay.command import replay

    return replay(ReplayOptions(given))


def parse_replay(words: list[str]) -> dict[str, Any]:
    """What replay was told, by option name."""
    parser = _parser("replay", "Prints what log statements added since would have printed in the recorded run.")
    parser.add_argument("--run", metavar="ID", help="the run: an id, the beginning of one, a name, or @last (the last run of FILE)")
    parser.add_argument("--workers", metavar="N|auto", help="how many processes (auto: as many as the cores allow)")
    parser.add_argument("--iterations", metavar="A:B", help="only iterations A to B - 1 of the main loop, counted from 0; or one: A")
    parser.add_argument("--where", metavar="CONDITION", help="only where this is true of the loop variables: 'epoch == 7 and step < 100'")
    parser.add_argument("--resume", action="store_const", const=True, help="go on with the run's last replay that was interrupted")
    parser.add_argument("--show", metavar="new|all", help="the new output alone, or all of it (new)")
    parser.add_argument("--init", metavar="jump|weak|strong", help="how a worker gets to its first iteration (jump)")
    parser.add_argument("--dry-run", action="store_const", const=True, help="print the plan and its estimate only")
    parser.add_argument("--json", action="store_const", const=True, help="print JSON")
    parser.add_argument("--accept-changes", action="store_const", const=True, help="replay although more than log statements changed")
    parser.add_argument(
        "--allow-writes", metavar="PATH", action="append", help="let the script change this file or folder; may be repeated (none)"
    )
    parser.add_argument(
        "--isolate", action="store_const", const=True, help="undo whatever each hindsight statement changes, so that none can matter"
    )
    parser.add_argument("file", metavar="FILE", nargs="?", help="replay the last run of this script, as it is today")
    namespace, extra = parser.parse_known_args(words)
    if extra:
        if namespace.file is not None and words.index(namespace.file) < words.index(extra[0]):
            others = "(others are another run: record it)"
            raise UsageError(f"replay takes the script's arguments from the record: leave out {' '.join(extra)} {others}")
        raise UsageError(f"replay knows no option {extra[0]}")
    return vars(namespace)


# -- doctor -------------------------------------------------------------------------------------------------------------


def _doctor(words: list[str]) -> int:
    import argparse

    about = "Tells what of a script will not be captured exactly, and what to do about it; without --run the script is only read."
    parser = _parser("doctor", about)
    parser.add_argument("--run", action="store_true", help="also record its first seconds and replay a sample; its writes are kept away")
    parser.add_argument("--seconds", metavar="N", type=float, help="with --run: how many (20)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("-m", dest="module", action="store_true", help="FILE is the name of a module, as with python -m")
    parser.add_argument("file", metavar="FILE", help="the script")
    parser.add_argument("args", metavar="ARGS", nargs=argparse.REMAINDER, help="its arguments, for --run")
    namespace = parser.parse_args(words)
    if namespace.seconds is not None and namespace.seconds <= 0:
        raise UsageError("doctor: --seconds takes a number above 0")
    from flor_trace.config import Options
    from flor_trace.doctor.command import doctor

    store, kind = Options({"store": namespace.store}).store, "module" if namespace.module else "file"
    return doctor(
        kind, namespace.file, namespace.args, store=store, run=namespace.run, seconds=namespace.seconds, as_json=namespace.json
    )


# -- the rest -----------------------------------------------------------------------------------------------------------

_QUERIES = ("runs", "show", "logs", "plot", "verify", "rm", "gc", "compact", "config")
_ABOUT = {
    "runs": "Lists the recorded runs.",
    "show": "Tells one run's details.",
    "logs": "Prints a run's recorded output, with the lines that replays have added in their places.",
    "plot": "Draws numbers that a run or its replays printed, each by the words before it; without a name it lists these words. That takes "
    "the extra plot: pip install 'flor_trace[plot]'.",
    "config": "Tells every setting's value, and where it came from: a variable, pyproject.toml ([tool.flor_trace]), setup.cfg "
    "([flor_trace]), or the default. The command line goes before all of these.",
    "verify": "Checks every stored byte of a run. With --deep it executes a part of it again.",
    "rm": "Deletes runs.",
    "gc": "Deletes what crashed recordings and replays left behind, and the runs that the options do not keep; never one that is "
    "being recorded or used.",
    "compact": "Writes finished runs anew in less space (shuffled and zstd). Everything reads them as before; that takes the package "
    "zstandard.",
}


def _query(command: str, words: list[str]) -> int:
    parser = _parser(command, _ABOUT[command])
    parser.add_argument("--json", action="store_true", help="print JSON")
    if command in ("show", "logs", "plot", "verify"):
        parser.add_argument("run", metavar="RUN", nargs="?", default="@last", help="an id, the beginning of one, a name, or @last")
        if command == "show":
            parser.add_argument("--budget", action="store_true", help="tell which boundaries got a snapshot, its cost, and why not")
        if command == "verify":
            parser.add_argument("--deep", action="store_true", help="execute a sample of the run again")
            parser.add_argument("--sample", metavar="N", type=int, default=4, help="with --deep: how many segments (4)")
            parser.add_argument("--workers", metavar="N", type=int, help="with --deep: how many processes (one per processor)")
    elif command == "rm":
        parser.add_argument("runs", metavar="RUN", nargs="+", help="ids, beginnings of ids, or names")
    elif command == "gc":
        parser.add_argument("--keep", metavar="N", help="keep the N newest runs; alone: delete all others")
        parser.add_argument("--older-than", metavar="TIME", help="delete runs in which nothing happened for so long, such as 30d or 12h")
        parser.add_argument("--max-size", metavar="SIZE", help="delete the oldest runs until all take at most this much, such as 10GB")
        parser.add_argument("--dry-run", action="store_const", const=True, help="delete nothing, tell what would be")
    elif command == "compact":
        parser.add_argument("runs", metavar="RUN", nargs="*", help="ids, beginnings of ids, or names; none: all that have ended")
    if command == "plot":
        parser.add_argument("names", metavar="NAME", nargs="*", help='such as "train loss" or loss; none: list them')
        parser.add_argument("--to", metavar="FILE", help="draw into a picture (.png, .svg, .pdf) instead of the terminal")
    if command in ("logs", "plot"):
        parser.add_argument("--replay", metavar="ID|all|none", default="all", help="whose new lines to show in their places (all)")
    namespace = parser.parse_args(words)
    from flor_trace.config import CleanupOptions, Options
    from flor_trace.query import commands

    if command == "config":
        return _tolerating_closed_pipe(lambda: commands.config(as_json=namespace.json))
    store = Options({"store": namespace.store}).store
    if command == "plot":
        picked, target = namespace.replay, namespace.to
        return _tolerating_closed_pipe(
            lambda: commands.plot(store, namespace.run, namespace.names, replay=picked, to=target, as_json=namespace.json)
        )
    if command == "rm":
        return commands.remove(store, namespace.runs, as_json=namespace.json)
    if command == "compact":
        return commands.compact(store, namespace.runs, as_json=namespace.json)
    if command == "gc":
        from flor_trace.store.retention import Rules

        told = CleanupOptions(vars(namespace))
        rules = Rules(told.keep, told.older_than, told.max_size)
        return commands.collect_garbage(store, rules, dry_run=told.dry_run, as_json=namespace.json)
    if command == "runs":
        return _tolerating_closed_pipe(lambda: commands.list_runs(store, as_json=namespace.json))
    if command == "logs":
        return _tolerating_closed_pipe(lambda: commands.logs(store, namespace.run, replay=namespace.replay, as_json=namespace.json))
    if command == "verify" and namespace.deep:
        if namespace.sample < 1 or (namespace.workers or 1) < 1:
            raise UsageError("verify: --sample and --workers take whole numbers from 1 on")
        return commands.verify_deep(store, namespace.run, namespace.sample, namespace.workers, as_json=namespace.json)
    if command == "show" and namespace.budget:
        return _tolerating_closed_pipe(lambda: commands.show_budget(store, namespace.run, as_json=namespace.json))
    about: Callable[..., int] = {"show": commands.show, "verify": commands.verify}[command]
    return _tolerating_closed_pipe(lambda: about(store, namespace.run, as_json=namespace.json))


def _tolerating_closed_pipe(action: Callable[[], int]) -> int:
    import os

    try:
        status = action()
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # `flor_trace logs | head`: the interpreter would complain again when it flushes stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parser(command: str, about: str) -> argparse.ArgumentParser:
    import argparse
    import textwrap

    class Parser(argparse.ArgumentParser):
        def error(self, message: str) -> NoReturn:
            needed = message.replace("the following arguments are required: ", "it needs ").removesuffix(", ARGS")
            raise UsageError(f"{command}: {needed}")

    epilog = "examples:\n" + EXAMPLES[command] + ("\nexit statuses:\n" + STATUSES[command] if command in STATUSES else "")
    parser = Parser(
        prog=f"flor_trace {command}", description="\n".join(textwrap.wrap(about, 100)), epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
    )  # fmt: skip
    parser.add_argument("--store", metavar="DIR", help="where runs are kept (.flor)")
    return parser
