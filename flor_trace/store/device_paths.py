"""Which paths are the kernel's and no files of a script."""

from __future__ import annotations

_KERNELS = ("/dev/", "/proc/", "/sys/")
# A file system in memory, where scripts keep files as they do anywhere else: written there in replay they would be the user's own.
_FILES_AMONG_DEVICES = "/dev/shm/"
# Memory that joblib shares with its own processes, which see no overlay. All other libraries make theirs in C, past the overlay.
_SHARED_MEMORY = "/dev/shm/joblib_memmapping_folder_"


def is_device(path: str) -> bool:
    """Whether an absolute path names a device, what the kernel tells, or memory shared between processes, rather than a file."""
    if not path.startswith(_KERNELS):
        return False
    return not f"{path}/".startswith(_FILES_AMONG_DEVICES) or path.startswith(_SHARED_MEMORY)
