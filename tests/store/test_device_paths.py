from __future__ import annotations

import pytest

from flor_trace.store.device_paths import is_device


@pytest.mark.parametrize(
    "path", ["/dev/null", "/dev/pts/0", "/proc/self/comm", "/sys/class", "/dev/shmem", "/dev/shm/joblib_memmapping_folder_7_a/x.pkl"]
)
def test_what_the_kernel_keeps_is_no_file(path: str) -> None:
    assert is_device(path)


@pytest.mark.parametrize("path", ["/dev", "/dev/shm", "/dev/shm/checkpoint.pt", "/home/dev/null", "/processed/x", "/device"])
def test_what_a_script_keeps_is_one(path: str) -> None:
    assert not is_device(path)
