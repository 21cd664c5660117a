"""The report of `scripts/reproduce`: measurements to Markdown tables, beside the figures of the paper; what was asked for and missed."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from typing import Any

from reproduce_measured import PAPER, PAPER_MEAN, Measured

OVERHEAD_MEAN, OVERHEAD_WORST, OUTER_SPEED_UP, TWO_WORKERS = 0.5, 1.0, 20.0, 1.08
PLOTS = "![overhead](results_overhead.png)\n![replay](results_replay.png)"


def page(kept: dict[str, Any]) -> str:
    """All tables, as Markdown."""
    found = [each for each in (Measured(kept["entries"], name) for name in PAPER) if each.good or each.failed]
    ablated = [each for each in found if each.has("foreground", "every 1", "weak", "strong")]
    peers = [each for each in found if each.has("saved", "resumed", "flordb", "flordb replay")]
    parts = [
        _heading(kept),
        _verdicts(found),
        _table("What recording costs", RECORDING, found),
        _table("What it takes on the disk", DISK, found),
        _table("A statement in the outer loop", OUTER, found),
        _table("A statement in the inner loop", INNER, found),
        _table("What a larger budget buys", PAPER_BUDGET, [each for each in found if each.has("paper's budget")]),
        _table("Ablations", ABLATIONS, ablated),
        _table("Peers", PEERS, peers),
        _failures(found),
    ]
    return "\n".join(part for part in parts if part)


def _heading(kept: dict[str, Any]) -> str:
    about, entries = kept["machine"], kept["entries"]
    rounds = len({entry["round"] // 2 for entry in entries if entry["kind"] == "pair"})
    commits = ", ".join(dict.fromkeys(entry["commit"] for entry in entries if entry.get("commit")))
    loads = [entry["load"] for entry in entries if "load" in entry]
    parts = [
        f"Measured {about['date']} by `{kept['command']}` (scale {kept['scale']}{', commit ' + commits if commits else ''}) on "
        f"{about['cores']} cores ({about['cpu']}), {about['memory'] >> 30} GiB, Linux {about['kernel']}, Python {about['python']}, "
        f"torch {about['torch']}; one thread for each process. Rounds: {rounds}; medians [lowest to highest]. All measurements are in "
        "[reproduce.json](reproduce.json)."
    ]
    if loads:
        parts[0] += f" Load average before the measurements: {statistics.median(loads):.1f} [{min(loads):.1f} to {max(loads):.1f}]."
    if kept["scale"] == "tiny":
        parts.append("Runs of seconds show that everything works, and nothing of what it costs.")
    if rounds < 3:
        parts.append(
            "With fewer than three rounds, differences of a per cent may be the machine's; the stall is what the training thread itself "
            "counted, and does not depend on that."
        )
    return "## The paper's evaluation, reproduced\n\n" + "\n\n".join([*parts, PLOTS]) + "\n"


def _verdicts(found: list[Measured]) -> str:
    """What was asked for, and whether it was reached."""
    lines = _of_overheads({each.paper.title: each.overhead for each in found if each.overhead is not None})
    speeds = {each.paper.title: speed for each in found if (speed := each.speed_up("outer 1")) is not None}
    what = "An outer statement, one worker: the plain run's time over the replay's is"
    lines += _all_of(what, speeds, OUTER_SPEED_UP, "at least", "{:.1f}")
    ratios = {each.paper.title: ratio for each in found if (ratio := each.over_ceiling()) is not None}
    what = "An inner statement, two workers: the replay's time over its ceiling (half of two plain runs at once, and a prologue) is"
    lines += _all_of(what, ratios, TWO_WORKERS, "at most", "{:.3f}")
    return "\n".join(lines + _of_exactness(found)) + "\n"


def _of_overheads(overheads: dict[str, float]) -> list[str]:
    if not overheads:
        return []
    mean, worst = statistics.mean(overheads.values()), max(overheads, key=lambda name: overheads[name])
    return [
        f"- Recording costs {mean:.2f} % in the mean of {len(overheads)} of the eight workloads (target: at most {OVERHEAD_MEAN} %: "
        f"{_met(mean <= OVERHEAD_MEAN)}; the paper: {PAPER_MEAN} %), and at worst {overheads[worst]:.2f} % ({worst}; target: at most "
        f"{OVERHEAD_WORST:.0f} %: {_met(overheads[worst] <= OVERHEAD_WORST)}; the paper: 6.26 %, CoLA)."
    ]


def _of_exactness(found: list[Measured]) -> list[str]:
    recordings = [same for each in found for same in each.same_output()]
    replays = [(entry["verdict"], same) for each in found for entry, same in each.replays()]
    if not recordings and not replays:
        return []
    right = sum(verdict == "exact" and same is True for verdict, same in replays)
    return [
        f"- {sum(recordings)} of {len(recordings)} recordings printed what the plain run did, and {right} of {len(replays)} replays were "
        f"exact and printed the truth byte for byte: {_met(all(recordings) and right == len(replays))}."
    ]


def _all_of(what: str, values: dict[str, float], bound: float, direction: str, form: str) -> list[str]:
    if not values:
        return []
    missed = [name for name, value in values.items() if (value < bound if direction == "at least" else value > bound)]
    low, high = (form.format(pick(values.values())) for pick in (min, max))
    verdict = f"{_met(not missed)}{' by ' + ', '.join(missed) if missed else ''}"
    return [f"- {what} {low} to {high} in {len(values)} of the eight workloads (target: {direction} {bound:g}: {verdict})."]


def _met(holds: bool) -> str:
    return "met" if holds else "**missed**"


def _middle(values: list[float], form: str = "{:.1f}") -> str:
    if not values:
        return "-"
    middle, number = form.format(statistics.median(values)), form.partition("}")[0] + "}"
    return middle if len(values) == 1 else f"{middle} [{number.format(min(values))} to {number.format(max(values))}]"


def _bounded(value: float | None, form: str, reached: Callable[[float], bool]) -> str:
    return "-" if value is None else form.format(value) + ("" if reached(value) else " (missed)")


def _size(values: Iterable[float | None]) -> str:
    return _middle([value / 1e6 for value in values if value is not None], "{:.1f} MB")


def _yes(values: Iterable[bool | None]) -> str:
    found = list(values)
    return "-" if not found else "?" if None in found else "yes" if all(found) else "NO"


def _exact(each: Measured, which: str) -> str:
    return _yes(None if same is None else same and e["verdict"] == "exact" for e, same in each.replays() if e["kind"].startswith(which))


def _range(low: float, high: float) -> str:
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def _prologue(each: Measured, kind: str) -> str:
    found = [entry["prologue"] for entry in each.of(kind)]
    # Replay tells none where its plan is a single unit, which one worker executes.
    return "not divided" if found and not any(found) else _middle(found, "{:.1f} s")


Columns = dict[str, Callable[[Measured], str]]
TITLE: Columns = {"workload": lambda m: m.paper.title}

RECORDING: Columns = TITLE | {
    "plain": lambda m: _middle([e["plain"] for e in m.of("pair")], "{:.1f} s"),
    "recorded beside it": lambda m: _middle(m.seconds("pair"), "{:.1f} s"),
    "overhead": lambda m: _middle(m.pairs(), "{:.2f} %") + ("" if m.overhead is None or m.overhead <= OVERHEAD_WORST else " (missed)"),
    "the same, processor time": lambda m: _middle(m.pairs("cpu"), "{:.2f} %"),
    "the paper's": lambda m: f"{m.paper.overhead} %",
    "stall of the training thread": lambda m: _middle(m.stalls(), "{:.2f} %"),
    "largest stall": lambda m: _middle([1000 * e["largest_stall"] for e in m.recordings()], "{:.0f} ms"),
    "snapshots / boundaries": lambda m: ", ".join(dict.fromkeys(f"{e['snapshots']} / {e['boundaries']}" for e in m.recordings())) or "-",
    "prints the same": lambda m: _yes(m.same_output()),
}
DISK: Columns = TITLE | {
    "run": lambda m: _size(e["bytes"] for e in m.recordings()),
    "before compression": lambda m: _size(e["raw_bytes"] for e in m.recordings()),
    "per snapshot": lambda m: _size(e["bytes"] / max(e["snapshots"], 1) for e in m.recordings()),
    "checkpoints by hand": lambda m: ", ".join(f"{e['bytes'] / 1e6:.1f} MB in {e['files']} files" for e in m.of("saved")) or "-",
}
OUTER: Columns = TITLE | {
    "plain": lambda m: _middle(m.seconds("plain"), "{:.1f} s"),
    "1 worker": lambda m: _middle(m.seconds("outer 1"), "{:.1f} s"),
    "2 workers": lambda m: _middle(m.seconds("outer 2"), "{:.1f} s"),
    "prologue": lambda m: _prologue(m, "outer 1"),
    "speed-up, 1 worker": lambda m: _bounded(m.speed_up("outer 1"), "{:.1f}", lambda value: value >= OUTER_SPEED_UP),
    "speed-up, 2 workers": lambda m: _bounded(m.speed_up("outer 2"), "{:.1f}", lambda value: True),
    "exact, and the truth's lines": lambda m: _exact(m, "outer"),
}
# Flor may spend one fifteenth of the time, ours a hundredth by default.
PAPER_BUDGET: Columns = TITLE | {
    "stall with 1 %": lambda m: _middle(m.stalls(m.of("record")), "{:.2f} %"),
    "snapshots": lambda m: _counts(m, "record"),
    "outer statement, 1 worker: speed-up": lambda m: _bounded(m.speed_up("outer 1"), "{:.1f}", lambda value: True),
    "stall with 6.67 %": lambda m: _middle(m.stalls(m.of("paper's budget")), "{:.2f} %"),
    "snapshots then": lambda m: _counts(m, "paper's budget"),
    "replay": lambda m: _middle(m.seconds("outer, paper's budget"), "{:.1f} s"),
    "speed-up": lambda m: _bounded(m.speed_up("outer, paper's budget"), "{:.1f}", lambda value: True),
}
INNER: Columns = TITLE | {
    "1 worker": lambda m: _middle(m.seconds("inner 1"), "{:.1f} s"),
    "÷ plain": lambda m: _bounded(None if (fast := m.speed_up("inner 1")) is None else 1 / fast, "{:.2f}", lambda value: True),
    "two plain runs at once": lambda m: _middle(m.seconds("side by side"), "{:.1f} s"),
    "prologue": lambda m: _prologue(m, "inner 2"),
    "ceiling": lambda m: _middle(list(m.ceilings().values()), "{:.1f} s"),
    "2 workers": lambda m: _middle(m.seconds("inner 2"), "{:.1f} s"),
    "÷ ceiling": lambda m: _bounded(m.over_ceiling(), "{:.3f}", lambda value: value <= TWO_WORKERS),
    "share of plain (ideal 50 %)": lambda m: "-" if (fast := m.speed_up("inner 2")) is None else f"{100 / fast:.1f} %",
    "the paper's share (its ideal)": lambda m: f"{_range(*m.paper.share)} % ({m.paper.ideal:g} %)",
    "exact, and the truth's lines": lambda m: _exact(m, "inner"),
}


def _counts(each: Measured, kind: str) -> str:
    return ", ".join(dict.fromkeys(str(entry["snapshots"]) for entry in each.of(kind))) or "-"


def _variant(each: Measured, kind: str) -> str:
    """Overhead against the plain run of the same round, snapshots and stall per snapshot of a recording."""
    told = [f"{e['snapshots']} snapshots, {1000 * e['median_stall']:.1f} ms each" for e in each.of(kind)[:1]]
    return ", ".join([_middle(each.overheads(kind), "{:.2f} %"), *told]) if told else _failed(each, kind)


def _failed(each: Measured, kind: str) -> str:
    return "-" if each.failure(kind) is None else "does not run"


ABLATIONS: Columns = TITLE | {
    "overhead: default": lambda m: _variant(m, "record"),
    "written in the foreground": lambda m: _variant(m, "foreground"),
    "without the budget (`--every 1`)": lambda m: _variant(m, "every 1"),
    "inner, 2 workers: jump": lambda m: _middle(m.seconds("inner 2"), "{:.1f} s"),
    "weak": lambda m: _middle(m.seconds("weak"), "{:.1f} s") if m.of("weak") else _failed(m, "weak"),
    "strong": lambda m: _middle(m.seconds("strong"), "{:.1f} s") if m.of("strong") else _failed(m, "strong"),
}


def _resumed(each: Measured) -> str:
    for entry in each.of("resumed"):
        return f"{entry['seconds']:.1f} s for {entry['values']} of {entry['of']} values, {entry['right']} of them right"
    return _failed(each, "resumed")


def _flordb(each: Measured) -> str:
    for entry in each.of("flordb replay"):
        return f"{entry['seconds']:.1f} s, {entry['values']} of {entry['of']} values, {entry['right']} of them right"
    return _failed(each, "flordb replay")


PEERS: Columns = TITLE | {
    "overhead: ours": lambda m: _middle(m.overheads("record"), "{:.2f} %"),
    "`torch.save` each epoch": lambda m: _middle(m.overheads("saved"), "{:.2f} %") if m.of("saved") else _failed(m, "saved"),
    "FlorDB": lambda m: _middle(m.overheads("flordb"), "{:.2f} %") if m.of("flordb") else _failed(m, "flordb"),
    "inner: executed again": lambda m: _middle(m.seconds("plain"), "{:.1f} s"),
    "our replay, 2 workers": lambda m: _middle(m.seconds("inner 2"), "{:.1f} s"),
    "resumed by hand from the middle": _resumed,
    "FlorDB's replay": _flordb,
}


def _table(title: str, columns: Columns, rows: list[Measured]) -> str:
    if not rows:
        return ""
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(column(each) for column in columns.values()) + " |" for each in rows]
    return f"### {title}\n\n" + "\n".join(lines) + "\n"


def _failures(found: list[Measured]) -> str:
    lines = [f"- {each.paper.title}, {kind}, round {n}: {text}" for each in found for (kind, n), text in each.failed.items()]
    for each in found:
        for entry, same in each.replays():
            if entry["verdict"] != "exact" or same is False:
                other = "; other lines than the truth" if same is False else ""
                lines.append(f"- {each.paper.title}, {entry['kind']}: {entry['verdict']} {entry['first']}{other}")
    return "### What failed\n\n" + "\n".join(lines) + "\n" if lines else ""
