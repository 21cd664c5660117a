"""The surroundings of a replay worker: experiment trackers offline, and folders that native code may use as well."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

# A socket's path may have 108 bytes, of which multiprocessing adds 18 to the folder's.
_MAX_SOCKET_FOLDER = 85


def offline_environment(scratch: Path) -> dict[str, str]:
    """Variables that keep experiment trackers and compilers from their servers and from the user's folders."""
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
        # Compilers are other programs: what they read and write must be where both see it.
        "TORCHINDUCTOR_CACHE_DIR": str(Path(scratch) / "compiled" / "inductor"),
        "TRITON_CACHE_DIR": str(Path(scratch) / "compiled" / "triton"),
        "TORCH_EXTENSIONS_DIR": str(Path(scratch) / "compiled" / "extensions"),
    }


def socket_folder(scratch: Path) -> Path:
    """A folder for the sockets of multiprocessing: in `scratch`, or where that has too long a name, one of our own.

    Such a folder is removed when this process ends; the overlay has to let it through.
    """
    folder = Path(os.path.realpath(scratch)) / "sockets"
    if len(os.fsencode(folder)) <= _MAX_SOCKET_FOLDER:
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    made = Path(os.path.realpath(tempfile.mkdtemp(prefix="flor")))
    owner = os.getpid()
    atexit.register(lambda: shutil.rmtree(made, ignore_errors=True) if os.getpid() == owner else None)
    return made
