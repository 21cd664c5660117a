"""The interpreter's own command line: what it was, what it would have been for the script alone, and starting it again."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

_MARK = "_FLOR_TRACE_HASH_SEED"
"""Carries `seed:former value of PYTHONHASHSEED` over the one re-exec; taken out of the environment right after."""


def interpreter_options(orig_argv: Sequence[str]) -> list[str]:
    """The interpreter's own options in its command line: what stands before FILE, `-m` or `-c`."""
    options: list[str] = []
    index = 1
    while index < len(orig_argv):
        argument = orig_argv[index]
        if argument == "--check-hash-based-pycs":
            options += orig_argv[index : index + 2]
            index += 2
            continue
        if not argument.startswith("-") or argument in ("-", "--"):
            return options
        taken = 1
        if not argument.startswith("--"):
            for place, letter in enumerate(argument[1:], 1):
                if letter in "cm":
                    return options if place == 1 else [*options, argument[:place]]
                if letter in "WX":
                    taken = 2 if place == len(argument) - 1 else 1
                    break
        options += orig_argv[index : index + taken]
        index += taken
    return options


def ensure_hash_seed() -> int | None:
    """Make string hashing repeatable, and return its seed; None where the interpreter ignores its environment (-E, -I).

    The seed in use cannot be read back, so the interpreter is started once more with one of our choice, unless the user
    has set PYTHONHASHSEED. Afterwards the script and its children find the environment as the user had it.
    """
    if sys.flags.ignore_environment or not sys.orig_argv or not sys.executable:
        return None
    given = os.environ.get("PYTHONHASHSEED")
    mark = os.environ.pop(_MARK, None)
    if mark is not None:
        seed, _, former = mark.partition(":")
        if given == seed:
            if former:
                os.environ["PYTHONHASHSEED"] = former
            else:
                del os.environ["PYTHONHASHSEED"]
            return int(seed)
    if given and given != "random":
        return int(given)
    # never 0, which would switch sys.flags.hash_randomization off
    chosen = int.from_bytes(os.urandom(4), "little") or 1
    environment = {**os.environ, "PYTHONHASHSEED": str(chosen), _MARK: f"{chosen}:{given or ''}"}
    _flush()
    os.execve(sys.executable, sys.orig_argv, environment)


def become_plain(command: Sequence[str]) -> NoReturn:
    """Let plain Python take this process's place: for a script that it will refuse in its own words."""
    _flush()
    os.execv(sys.executable, list(command))


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
