"""What a recorded run says about itself, in the form in which replay asks for it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from flor_trace.runtime.position import END_OF_RUN, EXIT, Boundary

ActivationKey = tuple[str, int]


class RecordedRun(Protocol):
    """The part of a stored run that replay reads."""

    def events(self, kind: str) -> Iterable[Mapping[str, Any]]:
        """The journal's records of one kind, in order."""

    def snapshots(self) -> Iterable[Mapping[str, Any]]:
        """The committed snapshots whose blobs are all intact."""

    def outputs(self, first: int = 0, last: int | None = None) -> Iterator[Mapping[str, Any]]:
        """The output records number `first` to `last` - 1."""


@dataclass(frozen=True)
class RecordedActivation:
    """One execution of a loop statement.

    `exit` is "exhausted", "break", "left" (`return` or an exception) or "unfinished" (the run was killed in it).
    `iterations` counts those that were finished, as far as is known, and `taken` those that have begun (-1: not known):
    fast iterations are handed out many at once, and how many of the last were taken cannot always be told.
    `error` names the exception by which it was left, if one was; `outputs` counts the output records before its entry.
    `ticks` holds the seconds of each iteration where those are slow, else nothing.
    """

    loop: str
    entry: int
    parent: tuple[str, int, int] | None
    started: float
    seconds: float
    iterations: int
    exit: str
    outputs: int = 0
    ticks: tuple[float, ...] = ()
    error: str = ""
    taken: int = -1

    @property
    def key(self) -> ActivationKey:
        """Loop and entry."""
        return (self.loop, self.entry)

    @property
    def begun(self) -> int:
        """How many iterations have begun, at least: the one in which a loop was left counts, too."""
        return self.taken if self.counted else self.iterations + (self.exit != "exhausted")

    @property
    def counted(self) -> bool:
        """Whether `begun` is exact."""
        return self.taken >= 0

    def seconds_until(self, iteration: int) -> float:
        """How long after the entry iteration `iteration` began (estimated where single times were not kept)."""
        if len(self.ticks) >= iteration:
            return sum(self.ticks[:iteration])
        return self.seconds * iteration / max(self.iterations, 1)


@dataclass(frozen=True)
class SnapshotRef:
    """A committed snapshot.

    `outputs` counts the output records, `sources` the clock and entropy values before it; `entries` the activations of
    each loop so far; `files` the state of the files that the script had written; `objects` how many objects it describes.
    """

    at: Boundary
    graph: str
    seconds: float
    stall: float
    nbytes: int
    outputs: int
    sources: int
    entries: Mapping[str, int]
    files: Mapping[str, Any]
    objects: int = 0


@dataclass
class History:
    """The activations, snapshots and functions of a run.

    `status` is None if the run was killed; then `last` is the last boundary that is known of it. `interrupted` counts the entries of
    each loop when a Ctrl-C came, if one did, and `outputs_interrupted` the output records if it ended the script.
    """

    activations: dict[ActivationKey, RecordedActivation] = field(default_factory=dict)
    snapshots: dict[Boundary, SnapshotRef] = field(default_factory=dict)
    ran: dict[str, set[str]] = field(default_factory=dict)
    observed: set[str] = field(default_factory=set)
    demoted: set[str] = field(default_factory=set)
    status: int | None = None
    last: Boundary | None = None
    interrupted: Mapping[str, int] | None = None
    outputs_interrupted: int | None = None
    _outputs: Callable[..., Iterable[Mapping[str, Any]]] = lambda first, last=None: ()
    _heads: dict[ActivationKey, list[int]] = field(default_factory=dict)
    _behind: dict[ActivationKey, int] = field(default_factory=dict)
    _children: dict[ActivationKey | None, list[RecordedActivation]] = field(default_factory=dict)

    @classmethod
    def read(cls, run: RecordedRun) -> History:
        """Collect what the journal holds."""
        history = cls(_outputs=run.outputs)
        for record in run.snapshots():
            ref = _snapshot(record)
            history.snapshots[ref.at] = ref
            if isinstance(ref.at.iteration, int) and ref.at != END_OF_RUN:
                history._heads.setdefault((ref.at.loop, ref.at.entry), []).append(ref.at.iteration)
        for event in run.events("activation"):
            activation = RecordedActivation(
                event["loop"], event["entry"], tuple(event["parent"]) if event["parent"] else None, event["started"],
                event["seconds"], event["iterations"], event["exit"], event["outputs"], tuple(event["ticks"]),
                event.get("error", ""), event.get("begun", -1),
            )  # fmt: skip
            history.activations[activation.key] = activation
            if history.interrupted is None:
                history.interrupted = event.get("entries")
        for event in run.events("interrupted"):
            history.outputs_interrupted = event["outputs"]
            history.interrupted = history.interrupted or event["entries"]
        for event in run.events("functions"):
            history.ran.setdefault(event["loop"], set()).update(event["ran"])
        for event in run.events("module"):
            history.observed.update(f["key"] for f in event["functions"] if f["probed"])
        history.demoted = {event["loop"] for event in run.events("demoted")}
        for event in run.events("end"):
            history.status = event["status"]
        for key, heads in history._heads.items():
            heads.sort()
            ended = history.activations.get(key)
            if ended is not None and ended.exit in ("exhausted", "break") and Boundary(*key, EXIT) not in history.snapshots:
                history._behind[key] = ended.outputs + count_within(key, run.outputs(ended.outputs))
        if history.status is None:
            records = list(run.snapshots())
            history._add_unfinished(records)
            history.last = Boundary(*records[-1]["at"]) if records else None
        return history

    def heads(self, key: ActivationKey) -> list[int]:
        """The iterations of an activation at whose head there is a snapshot (0: its entry), ascending."""
        return self._heads.get(key, [])

    def children(self, parent: ActivationKey | None) -> list[RecordedActivation]:
        """The activations directly inside `parent` (None: outermost ones), in order of time."""
        if not self._children:
            for activation in self.activations.values():
                above = None if activation.parent is None else activation.parent[:2]
                self._children.setdefault(above, []).append(activation)
            for siblings in self._children.values():
                siblings.sort(key=lambda a: a.started)
        return self._children.get(parent, [])

    def outputs_behind(self, key: ActivationKey) -> int | None:
        """How many output records there were when an activation had come to its exit; None if it never did."""
        ref = self.snapshots.get(Boundary(*key, EXIT))
        return self._behind.get(key) if ref is None else ref.outputs

    def outputs_before(self, key: ActivationKey, iteration: int) -> int:
        """How many output records there were when an iteration whose time was kept began; -1 if that is not known.

        They are counted from the last place before it where their number was noted, for which reading a few of them will do.
        """
        activation = self.activations[key]
        if len(activation.ticks) < iteration or activation.outputs < 0:
            return -1
        known = [activation.outputs]
        known += [self.snapshots[Boundary(*key, head)].outputs for head in self.heads(key) if head <= iteration]
        for child in self.children(key):
            assert child.parent is not None
            if child.parent[2] >= iteration:
                break
            known += [child.outputs, self.outputs_behind(child.key) or 0]
        count = max(known)
        for record in self._outputs(count):
            within = [place[2] for place in record["at"] if tuple(place[:2]) == key]
            if not within or within[0] >= iteration:
                break
            count += 1
        return count

    def outputs_within(self, key: ActivationKey) -> Iterator[Mapping[str, Any]]:
        """The output records of an activation, those of what it called included."""
        first = max(self.activations[key].outputs, 0)
        return (record for record in self._outputs(first, self.outputs_behind(key)) if _is_within(key, record))

    def all_recorded(self, loop: str) -> bool:
        """Whether each execution of a loop is among the activations: short ones leave no record, and of a killed run nobody knows."""
        last = self.snapshots.get(END_OF_RUN)
        found = sum(each.loop == loop for each in self.activations.values())
        return last is not None and loop not in self.demoted and found == last.entries.get(loop, 0)

    def skippable(self, key: ActivationKey) -> bool:
        """Whether the snapshots needed to skip an activation exist."""
        return Boundary(*key, 0) in self.snapshots and Boundary(*key, EXIT) in self.snapshots

    def _add_unfinished(self, records: list[Mapping[str, Any]]) -> None:
        """A killed run has no record of the activations that it was in: take them from its last snapshots."""
        if not records:
            return
        last = records[-1]
        parent: tuple[str, int, int] | None = None
        for loop, entry, iteration in last["stack"]:
            key = (loop, entry)
            if key not in self.activations:
                heads = self.heads(key)
                begun = self.snapshots.get(Boundary(loop, entry, 0))
                started = begun.seconds if begun else 0.0
                self.activations[key] = RecordedActivation(
                    loop, entry, parent, started, last["seconds"] - started,
                    max([iteration, *heads[-1:]]), "unfinished", begun.outputs if begun else -1,
                )  # fmt: skip
            parent = (loop, entry, iteration)


def _snapshot(record: Mapping[str, Any]) -> SnapshotRef:
    meta = record["meta"]
    return SnapshotRef(
        at=Boundary(*record["at"]),
        graph=record["graph"],
        seconds=record["seconds"],
        stall=record["stall"],
        nbytes=record["nbytes"],
        outputs=meta["outputs"],
        sources=meta["sources"],
        entries=meta["entries"],
        files=meta["files"],
        objects=record.get("objects", 0),
    )


def count_within(key: ActivationKey, outputs: Iterable[Mapping[str, Any]]) -> int:
    """How many of the output records, which begin with those behind the activation's entry, were written before it was left."""
    return sum(1 for _ in itertools.takewhile(partial(_is_within, key), outputs))


def _is_within(key: ActivationKey, record: Mapping[str, Any]) -> bool:
    return any(tuple(place[:2]) == key for place in record["at"])
