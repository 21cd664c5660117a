"""The environment of a replay worker: experiment trackers offline, temporary files in a folder of its own."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

# A socket's path may have 108 bytes, and multiprocessing makes sockets in folders below TMPDIR.
_MAX_TMPDIR = 60


def offline_environment(scratch: Path) -> dict[str, str]:
    """Variables that keep experiment trackers from their servers and from the user's folders."""
    trackers = Path(scratch) / "trackers"
    return {
        "WANDB_MODE": "offline",
        "WANDB_DIR": str(trackers),
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


def private_tmpdir(scratch: Path) -> Path:
    """A folder for TMPDIR: in the scratch folder, or where that has too long a name for sockets, one of our own.

    Such a folder is removed when this process ends; it has to be among the overlay's `allow`.
    """
    folder = Path(os.path.realpath(scratch)) / "tmp"
    if len(os.fsencode(folder)) <= _MAX_TMPDIR:
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    made = Path(os.path.realpath(tempfile.mkdtemp(prefix="flor")))
    owner = os.getpid()
    atexit.register(lambda: shutil.rmtree(made, ignore_errors=True) if os.getpid() == owner else None)
    return made
