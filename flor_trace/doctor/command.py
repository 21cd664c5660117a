"""The `doctor` command."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from flor_trace.doctor import dynamic, static, surroundings
from flor_trace.doctor.findings import INEXACT, PERHAPS, Finding, as_text, grouped
from flor_trace.doctor.sources import read_module_sources, read_sources
from flor_trace.errors import UsageError

NOTHING_FOUND, SOMETHING_INEXACT = 0, 3


def doctor(kind: str, script: str, args: list[str], *, store: str, run: bool, seconds: float | None, as_json: bool) -> int:
    """Tell what of a script will be inexact, and what to do about it.

    Args:
        kind: "file" or "module".
        script: its file, or the name of its module.
        args: its arguments, for `run`.
        store: where runs would be kept.
        run: also record and replay its first `seconds` (None: the default).

    Returns:
        0 nothing inexact found, or only in branches that may not be taken; 3 something inexact.

    Raises:
        UsageError: the script cannot be read.
    """
    if kind == "file" and not os.path.isfile(script):
        raise UsageError(f"doctor: {script} is not a file")
    sources, installed = read_sources(script) if kind == "file" else read_module_sources(script)
    findings = [*static.examine(sources, installed), *surroundings.examine(store)]
    figures: dict[str, Any] = {}
    if run:
        with tempfile.TemporaryDirectory(prefix="flor_doctor-") as folder:
            more, figures = dynamic.examine(Path(folder) / "run", kind, script, args, seconds or dynamic.DEFAULT_SECONDS)
        findings += more
    about = surroundings.facts(store)
    inexact = any(finding.grade == INEXACT for finding in findings)
    if as_json:
        report = {
            "script": script, "files": [source.path for source in sources], "surroundings": about,
            "findings": [finding.as_json() for finding in findings], "run": figures, "inexact": inexact,
        }  # fmt: skip
        print(json.dumps(report, indent=1))
    else:
        _print(script, len(sources), about, findings, figures)
    return SOMETHING_INEXACT if inexact else NOTHING_FOUND


def _print(script: str, files: int, about: dict[str, Any], findings: list[Finding], figures: dict[str, Any]) -> None:
    kernel = f"Landlock {about['landlock']}" if about["landlock"] else "no Landlock"
    print(f"{script} and {files - 1} modules of its own; Python {about['python']}, torch {about['torch'] or 'not installed'}, {kernel}, "
          f"{about['processors']} processors")  # fmt: skip
    if figures.get("snapshots"):
        print(_cost(figures))
    if findings:
        print(as_text(findings))
    grades = [finding.grade for finding, _ in grouped(findings)]
    text = f"things that will be inexact: {grades.count(INEXACT)}" if INEXACT in grades else "nothing inexact found"
    if PERHAPS in grades:
        text += f"; things that may be, where a branch is taken: {grades.count(PERHAPS)}"
    if "verdict" in figures:
        text += f"; the recorded part replays {figures['verdict']}"
    print(text)
    sys.stdout.flush()


def _cost(figures: dict[str, Any]) -> str:
    text = (
        f"{figures['snapshots']} snapshots of {figures['objects']} objects and {figures['state_bytes'] / 1e6:.3g} MB: "
        f"{figures['stall_ms']:.3g} ms each, {figures['stored_bytes_per_snapshot'] / 1e6:.3g} MB stored each"
    )
    if "snapshots_per_hour" in figures:
        text += (
            f"; an iteration takes {figures['iteration_seconds']:.3g} s, so by default up to {figures['snapshots_per_hour']} "
            f"snapshots an hour at {_percent(figures['expected_overhead'])} overhead "
            f"(--every 1: {_percent(figures['overhead_of_every_1'])})"
        )
    return text


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 1 else f"{100 * share:.2g} %"
