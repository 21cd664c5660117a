"""The journal: an append-only file of JSON records, each framed by its length and checksums.

A frame is ``magic | length | CRC-32 of the payload | CRC-32 of these twelve bytes | payload``. The magic holds bytes that
occur in no UTF-8 text, so after damage the reader finds the next frame by searching for it. A frame whose
header is whole but whose payload ends with the file is a *cut tail*: what a killed process leaves; everything else that
does not check is *damage*.
"""

from __future__ import annotations

import json
import struct
import zlib

from flor_trace.store.files import AppendFile, read_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

MAGIC = b"\xffFR\xfe"
_HEADER = struct.Struct("<4sII")
_CHECK = struct.Struct("<I")
HEADER_SIZE = _HEADER.size + _CHECK.size

# ASCII output also carries lone surrogates, which undecodable bytes in a script's output become.
_encode = json.JSONEncoder(ensure_ascii=True, separators=(",", ":"), check_circular=False).encode


class Damage:
    """A place in a file that cannot be read.

    Attributes:
        file: the file's path, relative to the run's folder.
        offset: where it begins; length: how many bytes were passed over.
        cut: whether the file merely ends within a record, as a killed process leaves it.
        reason: one clause for the user.
    """

    __slots__ = ("cut", "file", "length", "offset", "reason")

    def __init__(self, file: str, offset: int, length: int, reason: str, *, cut: bool = False) -> None:
        self.file = file
        self.offset = offset
        self.length = length
        self.reason = reason
        self.cut = cut

    def __repr__(self) -> str:
        return f"Damage({self})"

    def __str__(self) -> str:
        return f"{self.file} at byte {self.offset} ({self.length} bytes): {self.reason}"


def payload_of(record: dict[str, Any]) -> bytes:
    """A record as the bytes of its JSON object; raises TypeError and ValueError for what JSON cannot hold."""
    return _encode(record).encode("ascii")


def extended(payload: bytes, more: dict[str, Any]) -> bytes:
    """A payload with further fields, which it must not hold yet."""
    return payload[:-1] + b"," + payload_of(more)[1:]


def frame(record: dict[str, Any]) -> bytes:
    """The bytes that stand for a record in the journal."""
    return framed(payload_of(record))


def framed(payload: bytes) -> bytes:
    """The bytes that stand for a payload in the journal."""
    head = _HEADER.pack(MAGIC, len(payload), zlib.crc32(payload))
    return b"".join((head, _CHECK.pack(zlib.crc32(head)), payload))


class JournalWriter:
    """Appends frames to a new journal, or to one that another writer has left."""

    def __init__(self, path: str, *, resume: bool = False) -> None:
        self._file = AppendFile(path, resume=resume)

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._file.size

    def append(self, frames: bytes) -> None:
        """Append whole frames."""
        self._file.append(frames)

    def sync(self) -> None:
        """Make everything appended durable."""
        self._file.sync()

    def close(self) -> None:
        """Close the file; nothing is buffered."""
        self._file.close()


def payloads(data: bytes, damage: list[Damage], file: str = "journal") -> Iterator[bytes]:
    """The payload of every intact frame in order; what lies between is added to `damage`."""
    offset = 0
    bad_from = -1  # where the present stretch of unreadable bytes began
    end = len(data)
    while offset < end:
        payload = _frame_at(data, offset)
        if payload is not None:
            if bad_from >= 0:
                damage.append(Damage(file, bad_from, offset - bad_from, "a record is damaged"))
                bad_from = -1
            yield payload
            offset += HEADER_SIZE + len(payload)
            continue
        if bad_from < 0:
            if _is_cut(data, offset) and data.find(MAGIC, offset + 1) < 0:
                damage.append(Damage(file, offset, end - offset, "the last record is cut short", cut=True))
                return
            bad_from = offset
        found = data.find(MAGIC, offset + 1)
        offset = found if found >= 0 else end
    if bad_from >= 0:
        damage.append(Damage(file, bad_from, end - bad_from, "a record is damaged"))


def kind_of(payload: bytes) -> str:
    """The kind of a record without decoding it: it is the first key that `RunWriter` writes."""
    if not payload.startswith(b'{"kind":"'):
        return ""
    return payload[9 : payload.index(b'"', 9)].decode("ascii")


def decode(payload: bytes) -> dict[str, Any]:
    """The record in a payload."""
    record = json.loads(payload)
    assert isinstance(record, dict)
    return record


def read(path: str, damage: list[Damage]) -> list[bytes]:
    """The intact payloads of a journal file."""
    return list(payloads(read_bytes(path), damage))


def has_begun(path: str) -> bool:
    """Whether more than a part of the first record is in a journal: what a process leaves that was killed while it wrote that
    is no journal yet."""
    try:
        data = read_bytes(path)
    except FileNotFoundError:
        return False
    damage: list[Damage] = []
    return any(True for _ in payloads(data, damage)) or any(not item.cut for item in damage)


def _frame_at(data: bytes, offset: int) -> bytes | None:
    start = offset + HEADER_SIZE
    if start > len(data):
        return None
    head = data[offset : offset + _HEADER.size]
    magic, length, check = _HEADER.unpack(head)
    if magic != MAGIC or _CHECK.unpack_from(data, offset + _HEADER.size)[0] != zlib.crc32(head):
        return None
    payload = data[start : start + length]
    if len(payload) != length or zlib.crc32(payload) != check:
        return None
    return payload


def _is_cut(data: bytes, offset: int) -> bool:
    head = data[offset : offset + HEADER_SIZE]
    if len(head) < HEADER_SIZE:
        return head[:4] == MAGIC[: len(head)]
    magic, length, _ = _HEADER.unpack_from(head)
    if magic != MAGIC or _CHECK.unpack_from(head, _HEADER.size)[0] != zlib.crc32(head[: _HEADER.size]):
        return False
    return offset + HEADER_SIZE + int(length) > len(data)
