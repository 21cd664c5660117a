"""System calls that the store needs: atomic replacement, append-only files, durability of folders."""

from __future__ import annotations

import errno
import os

# Our descriptors are moved up here, so that the script's own get the numbers that they would get without us.
_DESCRIPTOR_BASES = (900, 200, 60)
# A file is made durable in steps of this size: each step is short, so the writer can be paused between two.
SYNC_STEP = 16 << 20


def read_bytes(path: str) -> bytes:
    """The whole content of a file."""
    with open(path, "rb") as file:
        return file.read()


def sync_folder(path: str) -> None:
    """Make the entries of a folder durable, where its file system takes such a request."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems take none for folders. PostgreSQL's `fsync_fname` passes over the same two.
        if error.errno not in (errno.EINVAL, errno.EBADF):
            raise
    finally:
        os.close(descriptor)


def make_folder(path: str) -> None:
    """Make a folder, and those above it that are missing, to last; one that is there already is left as it is."""
    if os.path.isdir(path):
        return
    parent = os.path.dirname(os.path.abspath(path))
    make_folder(parent)
    os.makedirs(path, exist_ok=True)  # another process may be as far
    # A folder that may be written to and not read cannot be synced.
    if os.access(parent, os.R_OK):
        sync_folder(parent)


def sync_file(path: str) -> None:
    """Make a file's content durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomically(path: str, data: bytes, *, durable: bool = False) -> None:
    """Write a file so that other processes see either nothing (or the old content) or all of it; `durable`: after a power loss, too."""
    # Not named by the pid: threads, and containers that share a store, have the same one.
    temporary = f"{path}.{os.urandom(6).hex()}.tmp"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
    try:
        write_all(descriptor, data)
        if durable:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(temporary, path)
    if durable:
        sync_folder(os.path.dirname(path))


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """Write all bytes, however many calls it takes."""
    written = os.write(descriptor, data)
    if written < len(data):
        rest = memoryview(data)[written:]
        while rest:
            rest = rest[os.write(descriptor, rest) :]


class AppendFile:
    """A new file that only grows (`resume`: one that is there already). Never buffers: what `append` has returned from outlives
    the process."""

    def __init__(self, path: str, *, resume: bool = False) -> None:
        self.path = path
        made = 0 if resume else os.O_CREAT | os.O_EXCL
        low = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | made, 0o666)
        self._descriptor = move_up(low)
        status = os.fstat(self._descriptor)
        self._identity = (status.st_dev, status.st_ino)
        self.size = status.st_size
        self._unsynced = self.size  # of what another writer left nothing is known to be durable

    def append(self, data: bytes | memoryview) -> None:
        """Append bytes; raises OSError when the disk does not take them."""
        status = os.fstat(self._descriptor)
        # A script that closes all descriptors and opens files would else get our bytes into one of its own.
        if (status.st_dev, status.st_ino) != self._identity:
            raise OSError(f"the descriptor of {self.path} was closed by the script")
        write_all(self._descriptor, data)
        self.size += len(data)
        self._unsynced += len(data)

    @property
    def wants_sync(self) -> bool:
        """Whether enough has gathered for a step towards durability."""
        return self._unsynced >= SYNC_STEP

    def sync(self) -> None:
        """Return once everything that was appended is durable."""
        if self._unsynced:
            os.fdatasync(self._descriptor)
            self._unsynced = 0

    def close(self) -> None:
        """Close the descriptor if it is still ours."""
        try:
            status = os.fstat(self._descriptor)
        except OSError:
            return  # the script closed it
        if (status.st_dev, status.st_ino) == self._identity:
            os.close(self._descriptor)


def move_up(descriptor: int) -> int:
    """Give a descriptor a high number, so that the script's own files get the numbers that they have without us."""
    import fcntl

    for base in _DESCRIPTOR_BASES:
        try:
            moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, base)
        except OSError:
            continue  # above the limit of open files
        os.close(descriptor)
        return moved
    return descriptor
