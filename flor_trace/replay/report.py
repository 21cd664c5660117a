"""The verdict of a replay, and how it is told."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from flor_trace.replay.coordinator import Outcome
from flor_trace.replay.diff import RunDiff
from flor_trace.replay.merge import OutputVerdict
from flor_trace.replay.restorer import DIVERGED, EXACT, TOLERANCE


@dataclass
class Report:
    """What a replay has found.

    Attributes:
        verdict: "exact", "tolerance" or "diverged".
        checks: how many snapshots were compared with the live state; passed: how many were not, to save time.
        largest: the largest numeric difference, within tolerance.
        first: the first divergence, for the user.
        unit: the index of the unit that it was found in.
        mismatches: in what this machine differs from the recording one: bits may differ, so that "exact" is not said.
        causes: of a divergence, the likeliest first, as far as could be found out (see `replay.causes`).
        misread_files: whether hindsight statements have read files as they are not (see `hindsight_files`).
        prologue_seconds: the longest time that a worker took from its start to its first unit.
    """

    verdict: str
    checks: int
    compared_lines: int
    clock_lines: int
    repeated_warnings: int = 0
    passed: int = 0
    largest: float = 0.0
    first: str = ""
    unit: int | None = None
    hindsight: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    mismatches: list[str] = field(default_factory=list)
    causes: list[str] = field(default_factory=list)
    prologue_seconds: float = 0.0
    misread_files: bool = False

    def misread(self, text: str) -> None:
        """Hindsight statements have read files as they are not: what they have printed may be wrong."""
        self.misread_files = True
        self.first = text if self.verdict != DIVERGED else self.first
        self.verdict = DIVERGED

    @classmethod
    def of(cls, outcome: Outcome, output: OutputVerdict, diff: RunDiff) -> Report:
        """Sum up checks and output."""
        verdict, first, unit = EXACT, "", None
        for check in sorted(outcome.checks, key=lambda c: -1 if c["unit"] is None else c["unit"]):
            if check["verdict"] == DIVERGED:
                verdict = DIVERGED
                unit = (check["unit"] or 0) if not first else unit
                first = first or f"at {check['at']}: {'; '.join(check['differences'][:2])}"
            elif check["verdict"] == TOLERANCE and verdict == EXACT:
                verdict = TOLERANCE
        if output.differences:
            verdict = DIVERGED
            unit = output.unit if not first else unit
            first = first or f"in the output: {output.differences[0]}"
        if verdict == EXACT and outcome.mismatches:
            verdict = TOLERANCE
        return cls(
            verdict=verdict,
            checks=len(outcome.checks),
            compared_lines=output.compared,
            clock_lines=output.clock_lines,
            repeated_warnings=output.repeated_warnings,
            passed=outcome.passed,
            largest=max((c["largest"] for c in outcome.checks), default=0.0),
            first=first,
            unit=unit,
            hindsight=list(dict.fromkeys(f"{diff.paths[module]}:{s.lineno}" for module, s in diff.hindsight)),
            notes=outcome.notes,
            failures=outcome.failures,
            mismatches=outcome.mismatches,
            prologue_seconds=round(max(outcome.prologues, default=0.0), 3),
        )

    def as_json(self) -> dict[str, Any]:
        """Plain fields."""
        return asdict(self)


def describe_report(report: Report) -> str:
    """One line for exact replays; what diverged, and what may have caused it, for others."""
    checked = f"{report.checks} state checks, {report.compared_lines} recorded lines compared"
    if report.clock_lines:
        checked += f", {report.clock_lines} of them with the clock set apart"
    if report.repeated_warnings:
        checked += f", {report.repeated_warnings} warnings not counted that a worker has shown again"
    if report.passed:
        checked += f", {report.passed} snapshots passed without a check to save time"
    lines = [*report.notes]
    if report.failures:
        diverged = report.verdict == DIVERGED
        what = "it differs from the record where it failed, or before" if diverged else f"what was replayed is {report.verdict}"
        lines.append(f"replay incomplete; {what} ({checked})")
    elif report.verdict == EXACT:
        lines.append(f"replay exact ({checked})")
    elif report.verdict == TOLERANCE:
        because = f", {'; '.join(report.mismatches)}" if report.mismatches else ""
        lines.append(f"replay within tolerance, largest difference {report.largest:g}{because} ({checked})")
    else:
        lines.append(f"replay diverged {report.first} ({checked})")
        lines += [f"likely cause: {cause}" for cause in report.causes]
        if report.hindsight and not report.causes and not report.misread_files:
            where = ", ".join(report.hindsight)
            lines.append(
                f"if the recording replays exactly without them, these changed the state or its course: {where} "
                "(--isolate undoes what each changes)"
            )
    return "\nflor_trace: ".join(lines)
