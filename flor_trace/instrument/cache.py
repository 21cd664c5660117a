"""A cache of rewritten code, apart from the interpreter's own `__pycache__`.

One file per module version: a checksum, then a marshalled tuple of what was instrumented and the code. Anything wrong with
a file or the folder is a miss: the module is rewritten again.
"""

from __future__ import annotations

import marshal
import os
from _frozen_importlib_external import MAGIC_NUMBER
from types import CodeType

from .infos import RewrittenInfo

_FORMAT = b"flor-code-1\n"
_DIGEST_SIZE = 20


def default_folder() -> str:
    """The user's cache folder, as the XDG specification has it."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(base, "flor_trace", "code")


class CodeCache:
    """Rewritten code on disk, under `folder`; None keeps nothing."""

    def __init__(self, folder: str | None) -> None:
        self.folder = folder

    def load(self, filename: str, source: bytes, options: str) -> tuple[RewrittenInfo, CodeType] | None:
        """What was kept for this source under these options, or None."""
        if self.folder is None:
            return None
        try:
            with open(self._path(filename, source, options), "rb") as file:
                content = file.read()
        except OSError:
            return None
        head = len(_FORMAT) + _DIGEST_SIZE
        payload = content[head:]
        if content[:head] != _FORMAT + _digest(payload):
            return None
        try:
            packed, code = marshal.loads(payload)
            return RewrittenInfo.unpack(packed), code
        except (ValueError, EOFError, TypeError):
            return None

    def save(self, filename: str, source: bytes, options: str, info: RewrittenInfo, code: CodeType) -> None:
        """Keep the code; by a new file that takes its place at once, so that no reader sees half of it."""
        if self.folder is None:
            return
        path = self._path(filename, source, options)
        payload = marshal.dumps((info.pack(), code))
        temporary = f"{path}.{os.getpid()}.tmp"
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(temporary, "wb") as file:
                file.write(_FORMAT + _digest(payload) + payload)
            os.replace(temporary, path)
        except OSError:
            _remove(temporary)  # a cache that cannot be written is only slow

    def _path(self, filename: str, source: bytes, options: str) -> str:
        key = b"\0".join(
            [MAGIC_NUMBER, _rewriter_stamp(), options.encode(), os.fsencode(filename), source]
        )
        name = _digest(key).hex()
        assert self.folder is not None
        return os.path.join(self.folder, name[:2], name[2:])


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        return


def _digest(data: bytes) -> bytes:
    # `hashlib` loads OpenSSL, which takes longer than all that this module does
    from _blake2 import blake2b

    return bytes(blake2b(data, digest_size=_DIGEST_SIZE).digest())


def _rewriter_stamp() -> bytes:
    """Our version, as far as rewriting goes: changes with the rewriter's files, and is cheaper than reading metadata."""
    folder = os.path.dirname(__file__)
    stamps = []
    for name in ("rewrite.py", "scopes.py", "infos.py", "compiling.py"):
        try:
            status = os.stat(os.path.join(folder, name))
        except OSError:  # installed without sources, or in a zip: the version alone must do
            continue
        stamps.append(f"{status.st_size}:{status.st_mtime_ns}")
    return ",".join(stamps).encode()
