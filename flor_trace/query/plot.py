"""Draw series of numbers: in the terminal (plotext) or into a picture (matplotlib), both from the extra `plot`."""

from __future__ import annotations

import importlib
import math
import os
import shutil
from collections.abc import Sequence
from typing import Any

from flor_trace.errors import UsageError
from flor_trace.query.metrics import Series

_HEIGHT = 20  # lines of a drawing in a terminal that is not smaller


def in_terminal(title: str, series: Sequence[Series], *, colour: bool) -> str:
    """The drawing as text of the terminal's width.

    Raises:
        UsageError: plotext is not installed, or there is nothing that can be drawn.
    """
    plot: Any = _library("plotext")
    width, height = shutil.get_terminal_size()
    plot.clear_figure()
    plot.theme("clear" if not colour else "default")
    plot.plotsize(max(width - 1, 30), max(min(height - 2, _HEIGHT), 10))
    plot.title(title)
    plot.xlabel(_axis(series))
    for one in _finite(series):
        plot.plot(one.places, one.values, label=one.name)
    text = str(plot.build())
    return text if colour else str(plot.uncolorize(text))


def to_file(path: str, title: str, series: Sequence[Series]) -> None:
    """The drawing as a picture; the kind follows from the file's name.

    Raises:
        UsageError: matplotlib is not installed, knows no such kind of picture, or the file cannot be written.
    """
    _library("matplotlib")
    figures: Any = _library("matplotlib.figure")
    figure = figures.Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for one in _finite(series):
        axes.plot(one.places, one.values, label=one.name, marker="." if len(one.values) < 50 else None)
    axes.set_title(title)
    axes.set_xlabel(_axis(series))
    axes.legend()
    axes.grid(alpha=0.3)
    try:
        figure.savefig(path, dpi=150)
    except (ValueError, OSError) as error:
        raise UsageError(f"{os.path.abspath(path)} cannot be written: {error}") from error


def _axis(series: Sequence[Series]) -> str:
    return "iteration of the outermost loop" if all(one.by_iteration for one in series) else "in the order printed"


def _finite(series: Sequence[Series]) -> list[Series]:
    """Without infinities and what is not a number, which no axis has a place for."""
    kept = []
    for one in series:
        pairs = [(place, value) for place, value in zip(one.places, one.values, strict=True) if math.isfinite(value)]
        if pairs:
            places, values = zip(*pairs, strict=True)
            kept.append(Series(one.name, list(values), list(places)))
    if not kept:
        raise UsageError(f"none of the values of {', '.join(one.name for one in series)} is finite: there is nothing to draw")
    return kept


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UsageError(f"drawing takes {name.partition('.')[0]}: pip install 'flor_trace[plot]'") from error
