"""What hindsight statements send to an experiment tracker is output of theirs, too.

In a replay trackers are offline and write into the scratch folder (see `trackers`), so the value of a call such as
`writer.add_scalar("grad", norm, step)` would be seen by nobody. It becomes a line of the transcript: `grad 0.25 (step 40)`. Calls of
recorded code are left as they are.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

from flor_trace.runtime.engine import Runtime
from flor_trace.runtime.trackers import exchange

TRACKER = "tracker"
"""The stream of such a line."""


class _One(NamedTuple):
    """The arguments of a call that sends one value under a name."""

    name: str
    value: str
    step: str


class _Several(NamedTuple):
    """The arguments of a call that sends several; `within`: what all the names belong to."""

    values: str
    step: str
    within: str = ""


_SUMMARY_WRITER: dict[str, _One | _Several] = {
    "SummaryWriter.add_scalar": _One("tag", "scalar_value", "global_step"),
    "SummaryWriter.add_scalars": _Several("tag_scalar_dict", "global_step", "main_tag"),
    "SummaryWriter.add_text": _One("tag", "text_string", "global_step"),
}
CALLS: dict[str, dict[str, _One | _Several]] = {
    "torch.utils.tensorboard.writer": _SUMMARY_WRITER,
    "tensorboardX.writer": _SUMMARY_WRITER,
    "mlflow": {"log_metric": _One("key", "value", "step"), "log_metrics": _Several("metrics", "step")},
    "wandb.sdk.wandb_run": {"Run.log": _Several("data", "step")},
    "aim": {"Run.track": _One("name", "value", "step")},
    "comet_ml": {
        "OfflineExperiment.log_metric": _One("name", "value", "step"),
        "OfflineExperiment.log_metrics": _Several("dic", "step", "prefix"),
    },
}
"""By module the calls that send values, as the trackers' documentation has them."""


def tell_tracked(on_import: Callable[[str, Callable[[], None]], object], runtime: Runtime, wrote: Callable[[str, str], None]) -> None:
    """Have what hindsight statements send to trackers told as lines.

    Args:
        on_import: calls a function after the import of a module.
        runtime: tells whether a hindsight statement is being executed.
        wrote: takes the stream and the text.
    """
    for library in CALLS:
        on_import(library, partial(_overhear, library, runtime, wrote))


def _overhear(library: str, runtime: Runtime, wrote: Callable[[str, str], None]) -> None:
    """Wrap the calls of a tracker that has just been imported; those that this version lacks are passed over."""
    for path, sent in CALLS[library].items():
        *owners, name = path.split(".")
        owner: Any = sys.modules[library]
        for part in owners:
            owner = getattr(owner, part, None)
        original = getattr(owner, name, None)
        if callable(original):
            exchange(library.partition(".")[0], owner, name, original, _telling(original, sent, runtime, wrote))


def _telling(
    original: Callable[..., Any], sent: _One | _Several, runtime: Runtime, wrote: Callable[[str, str], None]
) -> Callable[..., Any]:
    signature = inspect.signature(original)

    @functools.wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        if runtime.hindsight:
            given = signature.bind(*args, **kwargs).arguments
            wrote(TRACKER, "".join(_lines(sent, given)))
        return result

    return call


def _lines(sent: _One | _Several, given: Mapping[str, Any]) -> Iterator[str]:
    step = given.get(sent.step)
    behind = "\n" if step is None else f" (step {_shown(step)})\n"
    if isinstance(sent, _One):
        yield f"{given.get(sent.name)} {_shown(given.get(sent.value))}{behind}"
        return
    within = given.get(sent.within)
    before = "" if within is None else f"{within}/"
    for name, value in dict(given.get(sent.values, {})).items():
        yield f"{before}{name} {_shown(value)}{behind}"


def _shown(value: Any) -> str:
    """A number as Python writes it, also where it is the only element of a tensor or an array."""
    if getattr(value, "size", None) == 1 or (callable(getattr(value, "numel", None)) and value.numel() == 1):
        value = value.item()
    return str(value)
