"""The plots of `scripts/reproduce`: recording's overhead, and replays' time as shares of the plain run's, beside the paper's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reproduce_measured import PAPER, Measured
from reproduce_report import OUTER_SPEED_UP, OVERHEAD_WORST

OURS, THEIRS, BOUND = "#1f6f8b", "#c9c3b8", "#b3412e"


def draw(kept: dict[str, Any], folder: Path) -> None:
    """Write both plots; without matplotlib (the extra `plot`) none."""
    try:
        import matplotlib
    except ImportError:
        print("no plots: matplotlib is not installed (the extra `plot`)")
        return
    matplotlib.use("Agg")
    found = [each for each in (Measured(kept["entries"], name) for name in PAPER) if each.good]
    _overhead([each for each in found if each.overhead is not None], folder / "results_overhead.png")
    _replay([each for each in found if each.speed_up("inner 2") is not None and each.ceilings()], folder / "results_replay.png")


def _bars(axes: Any, titles: Sequence[str], groups: Sequence[tuple[str, str, Sequence[float]]]) -> None:
    """Groups of bars side by side: label, colour, values."""
    width = 0.8 / len(groups)
    for number, (label, colour, values) in enumerate(groups):
        axes.bar([n + (number - (len(groups) - 1) / 2) * width for n in range(len(values))], values, width, label=label, color=colour)
    axes.set_xticks(range(len(titles)), titles)
    axes.spines[["top", "right"]].set_visible(False)


def _overhead(found: list[Measured], path: Path) -> None:
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 3), layout="constrained")
    ours = [each.overhead or 0.0 for each in found]
    _bars(
        axes, [each.paper.title for each in found], [("here", OURS, ours), ("the paper", THEIRS, [each.paper.overhead for each in found])]
    )
    axes.axhline(OVERHEAD_WORST, color=BOUND, linewidth=0.8, linestyle="--", label=f"target: at most {OVERHEAD_WORST:g} %")
    axes.axhline(0, color="black", linewidth=0.6)
    axes.set_ylabel("overhead of recording, %")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=90)
    pyplot.close(figure)


def _replay(found: list[Measured], path: Path) -> None:
    from matplotlib import pyplot

    figure, (inner, outer) = pyplot.subplots(1, 2, figsize=(10, 3.2), layout="constrained")
    titles = [each.paper.title for each in found]
    taken = [each.over_ceiling() or 0.0 for each in found]
    paper = [sum(each.paper.share) / 2 / each.paper.ideal for each in found]
    _bars(inner, titles, [("here, 2 workers", OURS, taken), ("the paper, 4 (3 for RTE and CoLA)", THEIRS, paper)])
    inner.axhline(1, color=BOUND, linewidth=0.8, linestyle="--", label="ideal")
    inner.set_title("inner statement: time over the ideal", fontsize=10)
    inner.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.08), ncols=3)
    _bars(outer, titles, [("1 worker", OURS, [each.speed_up("outer 1") or 0.0 for each in found])])
    outer.axhline(OUTER_SPEED_UP, color=BOUND, linewidth=0.8, linestyle="--", label=f"target: at least {OUTER_SPEED_UP:g}")
    outer.set_title("outer statement: times faster than the plain run", fontsize=10)
    outer.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.08), ncols=2)
    figure.savefig(path, dpi=90)
    pyplot.close(figure)
