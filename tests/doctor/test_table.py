"""What CAPTURED.md calls approximate or refused is found by doctor before a long training, or replay itself says it at once."""

from __future__ import annotations

import pytest
from doctor.test_static import FOUND
from test_captured_table import rows

# What each row begins with, and the static rules that find it in a script; or how a user comes to know it otherwise.
STATIC: dict[str, tuple[str, ...]] = {
    "torch operations that add": ("operations",),
    "entropy read by native code": ("entropy",),
    "threads, processes": ("threads", "processes", "network", "signals", "foreign-random"),
    "globals of installed packages": ("package-state",),
    "addresses": ("identity",),
    "when finalizers run": ("finalizers",),
    "an object that hides its state in C and was born": ("hidden-state", "threads", "network"),
    "an object that hides its state in C and lives": ("hidden-state",),
    "a lock that another thread holds": ("threads",),
    "items waiting in a `SimpleQueue`": ("hidden-state",),
    "keys of a new dict": ("user-hash",),
    "a pass of a loader": ("persistent-workers",),
    "a loader with `persistent_workers`": ("persistent-workers",),
    "what other programs write": ("processes",),
    "one of several processes": ("distributed",),
}
BY_TRYING = "doctor --run replays the first seconds, and shows what replay notes"
IN_REPLAY = "it does not depend on the script, or comes about after the recording; replay says it"
OTHERWISE: dict[str, str] = {
    "memory that was allocated": BY_TRYING,
    "sets of objects that hash by their addresses": BY_TRYING,
    "a clock called by C code": BY_TRYING,
    "files that processes beside the script write": BY_TRYING,
    "a loader's iterator with worker processes": BY_TRYING,
    "values of the clock or of entropy that are damaged": IN_REPLAY,
    "a hindsight statement under `--isolate`": IN_REPLAY,
    "another processor": IN_REPLAY,
    "data files that have changed": IN_REPLAY,
    "printed lines that depend on a clock": BY_TRYING,
    "another tracker's objects": BY_TRYING,
    "warnings shown once": BY_TRYING,
    "a run that was ended by Ctrl-C": IN_REPLAY,
    "a damaged recording": IN_REPLAY,
    "files over the caps": BY_TRYING,
    "a text file in the middle": BY_TRYING,
    "a parameter that changes within": BY_TRYING,
    "a class that was made": BY_TRYING,
    "a local variable that was unbound": BY_TRYING,
    "a set whose recorded order": BY_TRYING,
    "`backward()` through a graph": BY_TRYING,
    "another minor release": IN_REPLAY,
    "edits of more than log statements": IN_REPLAY,
}


@pytest.mark.parametrize("what", [row[0] for section in ("Approximate", "Refused") for row in rows(section)])
def test_each_row_is_found_by_a_rule_or_told_otherwise(what: str) -> None:
    found = [beginning for beginning in (*STATIC, *OTHERWISE) if what.startswith(beginning)]
    assert len(found) == 1, f"no rule of doctor is named for the row {what!r}: {found}"
    assert all(rule in FOUND for rule in STATIC.get(found[0], ()))


def test_nothing_is_listed_that_is_no_row() -> None:
    known = [row[0] for section in ("Approximate", "Refused") for row in rows(section)]
    assert [beginning for beginning in (*STATIC, *OTHERWISE) if not any(what.startswith(beginning) for what in known)] == []
