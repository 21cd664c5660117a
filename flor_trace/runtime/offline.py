"""The surroundings of a replay worker: experiment trackers offline, and folders that native code may use as well."""

from __future__ import annotations

import fcntl
import functools
import os
import sys
import types
from pathlib import Path
from typing import Any


def tracker_environment(scratch: Path) -> dict[str, str]:
    """Variables that keep experiment trackers from their servers and from the user's folders."""
    trackers = Path(scratch) / "trackers"
    return {
        "WANDB_MODE": "dryrun",  # the older word for "offline"; when that is set, `transformers` says so as it is imported
        "WANDB_DIR": str(trackers),
        "WANDB_CACHE_DIR": str(trackers / "wandb-cache"),
        "WANDB_CONFIG_DIR": str(trackers / "wandb-config"),
        "WANDB_DATA_DIR": str(trackers / "wandb-data"),
        "WANDB_SILENT": "true",
        "MLFLOW_TRACKING_URI": f"file://{trackers / 'mlflow'}",
        "MLFLOW_REGISTRY_URI": f"file://{trackers / 'mlflow'}",
        "COMET_START_ONLINE": "0",
        "COMET_OFFLINE_DIRECTORY": str(trackers),
        "CLEARML_OFFLINE_MODE": "1",
        "CLEARML_CACHE_DIR": str(trackers / "clearml"),
        "NEPTUNE_MODE": "offline",
        "SWANLAB_MODE": "offline",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }


def offline_environment(scratch: Path) -> dict[str, str]:
    """Variables for trackers, and for compilers, where the kernel keeps them from the user's folders."""
    return {
        **tracker_environment(scratch),
        # Compilers are other programs: what they read and write must be where both see it.
        "TORCHINDUCTOR_CACHE_DIR": str(Path(scratch) / "compiled" / "inductor"),
        "TRITON_CACHE_DIR": str(Path(scratch) / "compiled" / "triton"),
        "TORCH_EXTENSIONS_DIR": str(Path(scratch) / "compiled" / "extensions"),
    }


_RANDOM_NAMES = ("MLFLOW_EXPERIMENT_ID", "MLFLOW_RUN_ID")
# MLflow tells its child processes by these what it writes to; the numbers are drawn anew with each store.

TRACKER_VARIABLES = frozenset([*offline_environment(Path()), *_RANDOM_NAMES])
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
