"""Experiment trackers in a replay worker: whatever the script says, they stay offline and write into the scratch folder.

`runtime.offline` sets the variables that trackers read; a script that asks for a server or a folder in its own code overrides
those. So the functions by which it asks are wrapped as soon as the tracker has been imported, and the arguments that
name a server or a folder are given other values. The trackers' own documentation names these arguments.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from flor_trace.runtime.offline import mlflow_store

Forced = Mapping[str, Any]


def redirections(scratch: Path) -> dict[str, dict[str, Forced]]:
    """For each tracker the functions that reach a server or a folder, and the arguments that keep them from it."""
    folder = Path(scratch) / "trackers"
    store = functools.partial(mlflow_store, folder)
    return {
        "wandb": {"init": {"mode": _wandb_mode, "dir": str(folder)}},
        "mlflow": {
            "set_tracking_uri": {"uri": store},
            "set_registry_uri": {"uri": store},
            "MlflowClient.__init__": {"tracking_uri": store, "registry_uri": store},
        },
        "comet_ml": {"start": {"online": False}, "ExperimentConfig.__init__": {"offline_directory": str(folder)}},
        "clearml": {"Task.set_offline": {"offline_mode": True}},
        "aim": {"Run.__init__": {"repo": str(folder / "aim")}},
        "neptune": {
            "init_run": {"mode": "offline"},
            "init_project": {"mode": "offline"},
            "init_model": {"mode": "offline"},
        },
        "swanlab": {"init": {"mode": "offline", "logdir": str(folder)}},
    }


def _wandb_mode() -> str:
    """A script or its user may have switched W&B off, which it then is in a replay, too."""
    return "disabled" if os.environ.get("WANDB_MODE") == "disabled" else "offline"


TRACKERS = tuple(redirections(Path()))
"""The modules after whose import `keep_offline` is to be called."""

_OFFLINE_CLASSES = {"comet_ml": {"Experiment": "OfflineExperiment", "ExistingExperiment": "ExistingOfflineExperiment"}}


def keep_offline(library: str, scratch: Path) -> None:
    """Wrap the functions of a tracker that has just been imported; those that this version lacks are passed over."""
    module = sys.modules.get(library)
    if module is None:
        return
    for path, forced in redirections(scratch)[library].items():
        *owners, name = path.split(".")
        owner: Any = module
        for part in owners:
            owner = getattr(owner, part, None)
        original = getattr(owner, name, None)
        if callable(original):
            exchange(library, owner, name, original, _forcing(original, forced))
    for online, offline in _OFFLINE_CLASSES.get(library, {}).items():
        if hasattr(module, online) and hasattr(module, offline):
            exchange(library, module, online, getattr(module, online), getattr(module, offline))


def exchange(library: str, owner: Any, name: str, original: Any, value: Any) -> None:
    """Exchange a function in its class, or wherever a module of the library holds it under any name."""
    if isinstance(owner, type):
        static = isinstance(vars(owner).get(name), (staticmethod, classmethod))
        setattr(owner, name, staticmethod(value) if static else value)
        return
    for key, module in list(sys.modules.items()):
        if key.partition(".")[0] == library and type(getattr(module, "__dict__", None)) is dict:
            for held in [held for held, each in vars(module).items() if each is original]:
                setattr(module, held, value)


def _forcing(original: Callable[..., Any], forced: Forced) -> Callable[..., Any]:
    """`original`, but that the arguments named in `forced` always have these values, or what they return, where it takes them."""
    import inspect

    try:
        parameters = inspect.signature(original).parameters
    except (TypeError, ValueError):
        parameters = {}  # type: ignore[assignment]  # a C function
    names = list(parameters)
    takes_any = not names or any(p.kind is p.VAR_KEYWORD for p in parameters.values())

    @functools.wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        for name, given in forced.items():
            value = given() if callable(given) else given
            place = names.index(name) if name in names else -1
            if 0 <= place < len(args):
                args = (*args[:place], value, *args[place + 1 :])
            elif name == "mode" and kwargs.get(name) == "disabled":
                continue  # stays quieter than offline
            elif place >= 0 or takes_any:
                kwargs[name] = value
        return original(*args, **kwargs)

    return call
