"""The surroundings of a replay worker: experiment trackers offline, and folders that native code may use as well."""

from __future__ import annotations

import fcntl
import functools
import os
import re
import sys
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def tracker_environment(scratch: Path) -> dict[str, str]:
    """Variables that keep experiment trackers from their servers and from the user's folders."""
    return {**_fixed(scratch), **dict.fromkeys(_OF_MLFLOW, mlflow_store(Path(scratch) / "trackers"))}


_OF_MLFLOW = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")


def _fixed(scratch: Path) -> dict[str, str]:
    trackers = Path(scratch) / "trackers"
    return {
        "WANDB_MODE": "dryrun",  # the older word for "offline"; when that is set, `transformers` says so as it is imported
        "WANDB_DIR": str(trackers),
        "WANDB_CACHE_DIR": str(trackers / "wandb-cache"),
        "WANDB_CONFIG_DIR": str(trackers / "wandb-config"),
        "WANDB_DATA_DIR": str(trackers / "wandb-data"),
        "WANDB_SILENT": "true",
        "COMET_START_ONLINE": "0",
        "COMET_OFFLINE_DIRECTORY": str(trackers),
        "CLEARML_OFFLINE_MODE": "1",
        "CLEARML_CACHE_DIR": str(trackers / "clearml"),
        "NEPTUNE_MODE": "offline",
        "SWANLAB_MODE": "offline",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }


def mlflow_store(folder: Path) -> str:
    """Where MLflow is to write: into a store of the kind that it uses by itself, since others draw other random numbers."""
    version = _mlflow_version()
    in_files = version is None or version < (3, 7)
    return f"file://{folder / 'mlflow'}" if in_files else f"sqlite:///{folder / 'mlflow.db'}"


def _mlflow_version() -> tuple[int, int] | None:
    """Of the MLflow that would be imported, found without `importlib.metadata`, which imports much at a worker's start."""
    for folder in sys.path:
        try:
            names = os.listdir(folder or ".")
        except OSError:
            continue
        for name in names:
            if match := re.fullmatch(r"mlflow(?:_skinny)?-(\d+)\.(\d+).*\.dist-info", name):
                return int(match[1]), int(match[2])
    return None


def offline_environment(scratch: Path, recorded: Mapping[str, str]) -> dict[str, str]:
    """Variables for trackers, and for compilers, where the kernel keeps them from the user's folders.

    `recorded`: the environment of the recorded run; a tracker that was switched off stays so.
    """
    found = {**tracker_environment(scratch), **_compilers(scratch)}
    if recorded.get("WANDB_MODE") == "disabled":
        found["WANDB_MODE"] = "disabled"
    return found


def _compilers(scratch: Path) -> dict[str, str]:
    return {
        # Compilers are other programs: what they read and write must be where both see it.
        "TORCHINDUCTOR_CACHE_DIR": str(Path(scratch) / "compiled" / "inductor"),
        "TRITON_CACHE_DIR": str(Path(scratch) / "compiled" / "triton"),
        "TORCH_EXTENSIONS_DIR": str(Path(scratch) / "compiled" / "extensions"),
    }


_OF_PROCESSES = ("MLFLOW_EXPERIMENT_ID", "MLFLOW_RUN_ID", "WANDB_SERVICE")
# By these MLflow tells its child processes what it writes to, and W&B where its service listens.

TRACKER_VARIABLES = frozenset([*_fixed(Path()), *_OF_MLFLOW, *_compilers(Path()), *_OF_PROCESSES])
"""Never part of a snapshot: in replay they have, by us or by the tracker, other values than were recorded."""


def redirect_native_temporaries(scratch: Path) -> None:
    """Give native code and programs that the script starts a temporary folder that they may write in.

    Only the C library's environment is changed: the script's `os.environ` and `tempfile` stay as recorded, and what
    Python code puts into the old folder goes through the overlay.
    """
    folder = os.path.join(os.path.realpath(scratch), "tmp")
    os.makedirs(folder, exist_ok=True)
    for name in ("TMPDIR", "SQLITE_TMPDIR"):
        os.putenv(name, folder)
    os.putenv("CUDA_CACHE_PATH", os.path.join(folder, "cuda"))


USERS_OF_TEMPORARIES = (
    "torch._inductor.codecache",
    "torch._inductor.cpp_builder",
    "wandb.sdk.lib.service.service_process",  # its program says by a file in the folder where it listens
)
"""Modules that start other programs in temporary folders which they have made with `tempfile`."""


def lend_temporaries(library: str, scratch: Path) -> None:
    """Let one of `USERS_OF_TEMPORARIES`, just imported, make its temporary folders where the programs that it starts see them as well."""
    module: Any = sys.modules[library]
    own = getattr(module, "tempfile", None)
    if own is None:
        return
    folder = os.path.join(os.path.realpath(scratch), "tmp")
    os.makedirs(folder, exist_ok=True)
    module.tempfile = types.ModuleType("tempfile")
    vars(module.tempfile).update(vars(own))
    for name in ("TemporaryDirectory", "NamedTemporaryFile", "TemporaryFile", "mkdtemp", "mkstemp"):
        setattr(module.tempfile, name, functools.partial(getattr(own, name), dir=folder))


def socket_folder(scratch: Path) -> tuple[str, int]:
    """A short name for a folder in `scratch` where multiprocessing can make its sockets, and the descriptor behind it.

    A socket's path may have 108 bytes, too few for most scratch folders; the name goes through the descriptor, and is
    good for child processes too, for as long as this process keeps it open.
    """
    folder = os.path.join(os.path.realpath(scratch), "sockets")
    os.makedirs(folder, exist_ok=True)
    opened = os.open(folder, os.O_PATH | os.O_CLOEXEC)
    # A high number, so that the script's own files get the descriptors that they had when recorded.
    descriptor = fcntl.fcntl(opened, fcntl.F_DUPFD_CLOEXEC, 500)
    os.close(opened)
    return f"/proc/{os.getpid()}/fd/{descriptor}", descriptor
