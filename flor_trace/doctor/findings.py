"""What doctor has to say, and how it is shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

INEXACT, PERHAPS, REMARK = "inexact", "perhaps", "remark"
_GRADES = (INEXACT, PERHAPS, REMARK)


@dataclass(frozen=True)
class Finding:
    """One thing to know about a script.

    Attributes:
        rule: a short fixed name, such as "network".
        grade: "inexact" if a replay may differ or be refused because of it, "perhaps" if so only where a branch is taken, else "remark".
        where: `file:line`, or empty.
        what: what was found.
        effect: what will be inexact, or otherwise than expected.
        advice: what to do.
    """

    rule: str
    grade: str
    where: str
    what: str
    effect: str
    advice: str

    def as_json(self) -> dict[str, Any]:
        """Plain fields."""
        return asdict(self)


def grouped(findings: Sequence[Finding]) -> list[tuple[Finding, list[str]]]:
    """Findings that differ in their place only, together: the first, and all places; what is inexact comes first."""
    groups: dict[tuple[str, ...], tuple[Finding, list[str]]] = {}
    for finding in sorted(findings, key=lambda f: _GRADES.index(f.grade)):
        key = (finding.rule, finding.grade, finding.what, finding.effect, finding.advice)
        places = groups.setdefault(key, (finding, []))[1]
        if finding.where and finding.where not in places:
            places.append(finding.where)
    return list(groups.values())


def as_text(findings: Sequence[Finding]) -> str:
    """A paragraph for each group."""
    lines: list[str] = []
    for finding, places in grouped(findings):
        shown = ", ".join(places[:4]) + (f" and {len(places) - 4} more" if len(places) > 4 else "")
        lines.append(f"{finding.grade}: {finding.what}" + (f"  ({shown})" if shown else ""))
        lines.append(f"    {finding.effect}")
        lines.append(f"    {finding.advice}")
    return "\n".join(lines)
