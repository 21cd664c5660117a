"""What `scripts/reproduce` has measured of a workload, as figures to compare, beside those of the paper.

The paper's figures are those of Garcia et al., "Hindsight Logging for Model Training", VLDB 2021 (arXiv 2006.07357), and of its authors'
slides: four GPUs, three for RTE and CoLA, so that their replays can take a third or a quarter of the plain time at best, and ours a half.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Paper:
    """What the paper tells of a workload, in per cent: overhead, and a parallel replay's share of the plain time, with its ideal."""

    title: str
    overhead: float
    share: tuple[float, float]
    ideal: float


PAPER = {
    "rte": Paper("RTE", 0.77, (36, 36), 33),
    "cola": Paper("CoLA", 6.26, (36, 36), 33),
    "cifr": Paper("Cifr", 2.31, (25.3, 25.6), 25),
    "rsnt": Paper("RsNt", 2.39, (25.5, 25.9), 25),
    "wiki": Paper("Wiki", 0.11, (25.2, 25.5), 25),
    "jasp": Paper("Jasp", 0.24, (26.3, 26.4), 25),
    "imgn": Paper("ImgN", 1.87, (26.8, 26.8), 25),
    "rnnt": Paper("RnnT", 0.03, (24.1, 24.5), 25),
}
PAPER_MEAN = 1.47


class Measured:
    """The measurements of one workload; the last of each kind and round counts, and failed ones count as none."""

    def __init__(self, entries: Iterable[dict[str, Any]], workload: str) -> None:
        self.workload, self.paper = workload, PAPER[workload]
        last = {(entry["kind"], entry["round"]): entry for entry in entries if entry["workload"] == workload}
        self.good = {key: entry for key, entry in last.items() if "failed" not in entry}
        self.failed = {key: entry["failed"] for key, entry in last.items() if "failed" in entry}

    def of(self, kind: str) -> list[dict[str, Any]]:
        """All good measurements of a kind, by round."""
        return [entry for (which, _), entry in sorted(self.good.items(), key=lambda item: item[0][1]) if which == kind]

    def has(self, *kinds: str) -> bool:
        """Whether any of these has been tried."""
        return any(kind in kinds for kind, _ in (*self.good, *self.failed))

    def seconds(self, kind: str) -> list[float]:
        return [entry["seconds"] for entry in self.of(kind)]

    def failure(self, kind: str) -> str | None:
        """Why a kind was never measured."""
        return next((text for (which, _), text in self.failed.items() if which == kind and not self.of(kind)), None)

    def pairs(self, field: str = "seconds") -> list[float]:
        """Per cent that recording took more than the plain run beside it: of each two pairs with the cores exchanged the geometric mean."""
        plain = {"seconds": "plain", "cpu": "plain_cpu"}[field]
        ratios = {n: entry[field] / entry[plain] for (kind, n), entry in self.good.items() if kind == "pair"}
        return [100 * ((ratios[n] * ratios[n + 1]) ** 0.5 - 1) for n in sorted(ratios) if n % 2 == 0 and n + 1 in ratios]

    def overheads(self, kind: str, field: str = "seconds") -> list[float]:
        """Per cent that a run took more than the plain one of its round."""
        pairs = [(self.good.get(("plain", n)), entry) for (which, n), entry in sorted(self.good.items()) if which == kind]
        return [100 * (entry[field] / plain[field] - 1) for plain, entry in pairs if plain is not None]

    def recordings(self) -> list[dict[str, Any]]:
        """All that were made with default settings."""
        return [*self.of("record"), *self.of("pair")]

    def stalls(self, entries: list[dict[str, Any]] | None = None) -> list[float]:
        """Per cent of its time that the training thread of a recording (of all with default settings) stood still, by its own account."""
        found = self.recordings() if entries is None else entries
        return [100 * entry["stall"] / entry["trained"] for entry in found if entry["trained"]]

    @property
    def overhead(self) -> float | None:
        return statistics.median(self.pairs()) if self.pairs() else None

    @property
    def plain(self) -> float | None:
        return statistics.median(self.seconds("plain")) if self.seconds("plain") else None

    def speed_up(self, kind: str) -> float | None:
        """How many times faster than the plain run a replay is."""
        found = self.seconds(kind)
        return self.plain / statistics.median(found) if found and self.plain is not None else None

    def ceilings(self) -> dict[int, float]:
        """By round, what two workers need at least: half the time that two plain runs at once take, and one prologue."""
        found = {}
        for (kind, number), entry in self.good.items():
            beside = self.good.get(("side by side", number))
            if kind == "inner 2" and beside is not None:
                found[number] = beside["seconds"] / 2 + entry["prologue"]
        return found

    def over_ceiling(self) -> float | None:
        """What two workers took, over what they need at least."""
        found = [self.good["inner 2", number]["seconds"] / ceiling for number, ceiling in self.ceilings().items()]
        return statistics.median(found) if found else None

    def replays(self) -> list[tuple[dict[str, Any], bool | None]]:
        """Each replay, and whether its lines are the truth's, byte for byte; None where the truth is not known."""
        truths = self.of("side by side")
        found = []
        for (kind, _), entry in self.good.items():
            if "verdict" in entry:
                which = "outer" if kind.startswith("outer") else "inner"
                found.append((entry, entry["lines"] == truths[0][which] if truths else None))
        return found

    def same_output(self) -> list[bool]:
        """Of each recording, whether it printed what the plain run printed."""
        plain = [entry["output"] for entry in self.of("plain")] + [entry["plain_output"] for entry in self.of("pair")]
        recorded = [entry for kind in ("foreground", "every 1", "paper's budget") for entry in self.of(kind)]
        return [entry["output"] == plain[0] for entry in self.recordings() + recorded] if plain else []
