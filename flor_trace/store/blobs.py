"""Blob packs: content-addressed bytes in append-only files.

A pack begins with a 16-byte magic; each blob is a 64-byte header and its bytes, either raw or as pieces of 4 MiB that
lz4 made smaller, or in compacted runs shuffling and zstd (a piece that does not shrink is stored raw within). Where a blob
lies is told by index entries in the journal. The digest is the xxh3-128 of the uncompressed bytes and is checked at every read.

A large blob is stored as a *list*: the digests of its chunks, sixteen bytes each, where each chunk is a blob of its own. So
chunks that did not change are stored once, such as those rows of an embedding that no batch has touched. Whoever keeps or copies
a list keeps its chunks.
"""

from __future__ import annotations

import os
import struct
import zlib

from flor_trace.errors import CorruptRecord
from flor_trace.store import shuffled
from flor_trace.store.files import AppendFile, sync_folder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator

Entry = tuple[str, int, int, int, int, int]
"""Where a blob lies: digest, pack number, offset of the header, size, stored size, codec."""

PACK_MAGIC = b"flor_trace pack\x01"
RAW, LZ4, LIST, ZSTD = 0, 1, 2, 3
# Blobs of at least this size are stored in chunks.
CHUNKED_FROM = 8 << 20
CHUNK = 1 << 20
PIECE = 4 << 20
_PROBE = 64 << 10
_SMALL = 256
# lz4 must save at least this share of the probe to be worth its time.
_WORTH = 0.85
_PACK_LIMIT = 1 << 30

# magic, digest, codec, padding, size, stored size, padding, CRC-32 of the 60 bytes before it
_HEADER = struct.Struct("<4s16sB3xQQ20x")
_CHECK = struct.Struct("<I")
HEADER_SIZE = _HEADER.size + _CHECK.size
_BLOB_MAGIC = b"\xffBL\xfe"
_PIECE_SIZE = struct.Struct("<I")


def digest_of(data: bytes | memoryview) -> str:
    """The name of some bytes: their xxh3-128 in hex digits."""
    import xxhash

    return xxhash.xxh3_128_hexdigest(data)


def pack_name(number: int) -> str:
    """The file name of a pack."""
    return f"{number:04d}.pack"


def pack_number(name: str) -> int | None:
    """The number of the pack with this file name; None if it is no pack's."""
    number, dot, ending = name.partition(".")
    return int(number) if number.isdigit() and dot + ending == ".pack" else None


class PackWriter:
    """Appends blobs to the packs of one run."""

    def __init__(self, folder: str, first: int = 0, *, dense: bool = False) -> None:
        """Begin with pack number `first`; `dense` takes the time to make things as small as they get."""
        self._folder = folder
        self._dense = dense
        self._file: AppendFile | None = None
        self._number = first - 1
        self._named = True  # whether the names of all packs made here are durable
        self.stored_bytes = 0

    def append(self, digest: str, data: bytes | memoryview) -> Generator[None, None, Entry]:
        """Store a blob piece by piece, pausing after each; returns its index entry."""
        view = memoryview(data).cast("B")
        codec = ZSTD if self._dense else LZ4 if _compresses(view) else RAW
        stored = view
        if codec != RAW:
            # The stored size stands in the header, before the pieces: they are gathered first.
            pieces = bytearray()
            for start in range(0, len(view), PIECE):
                pieces += _squeeze(view[start : start + PIECE], codec)
                yield
            if len(pieces) < len(view):
                stored = memoryview(pieces)
            else:
                codec = RAW
        file, offset = self._begin(digest, codec, len(view), len(stored))
        for start in range(0, len(stored), PIECE):
            file.append(stored[start : start + PIECE])
            if file.wants_sync:
                file.sync()
            yield
        self.stored_bytes += HEADER_SIZE + len(stored)
        return (digest, self._number, offset, len(view), len(stored), codec)

    def append_list(self, digest: str, size: int, parts: list[str]) -> Entry:
        """Store a blob of this digest and size as the list of its chunks, which are in the run already."""
        stored = b"".join(map(bytes.fromhex, parts))
        file, offset = self._begin(digest, LIST, size, len(stored))
        file.append(stored)
        self.stored_bytes += HEADER_SIZE + len(stored)
        return (digest, self._number, offset, size, len(stored), LIST)

    def _begin(self, digest: str, codec: int, size: int, stored: int) -> tuple[AppendFile, int]:
        """Write a blob's header; returns the file and where the header lies."""
        file = self._current()
        offset = file.size
        header = _HEADER.pack(_BLOB_MAGIC, bytes.fromhex(digest), codec, size, stored)
        file.append(header + _CHECK.pack(zlib.crc32(header)))
        return file, offset

    def sync(self) -> None:
        """Make everything appended durable, and the packs' names."""
        if self._file is not None:
            self._file.sync()
        if not self._named:
            sync_folder(self._folder)
            self._named = True

    def close(self) -> None:
        """Close the present pack."""
        if self._file is not None:
            self._file.close()

    def _current(self) -> AppendFile:
        if self._file is None or self._file.size >= _PACK_LIMIT:
            if self._file is not None:
                self._file.sync()
                self._file.close()
            self._number += 1
            self._file = AppendFile(os.path.join(self._folder, pack_name(self._number)))
            self._named = False
            self._file.append(PACK_MAGIC)
        return self._file


class PackReader:
    """Reads blobs of one run by their index entries."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def looks_whole(self, entry: Entry) -> bool:
        """Whether header and length are right; the content is not read."""
        try:
            with open(self._path(entry), "rb") as file:
                self._check_header(_pread(file.fileno(), HEADER_SIZE, entry[2]), entry)
                return os.fstat(file.fileno()).st_size >= entry[2] + HEADER_SIZE + entry[4]
        except (OSError, CorruptRecord):
            return False

    def read(self, entry: Entry) -> bytes:
        """The bytes of a blob; raises CorruptRecord unless they are exactly those that were stored."""
        digest, _, offset, size, stored_size, codec = entry
        try:
            with open(self._path(entry), "rb") as file:
                self._check_header(_pread(file.fileno(), HEADER_SIZE, offset), entry)
                stored = _pread(file.fileno(), stored_size, offset + HEADER_SIZE)
        except OSError as error:
            raise CorruptRecord(f"blob {digest} cannot be read: {error}") from error
        if len(stored) != stored_size:
            raise CorruptRecord(f"blob {digest} is cut short in {self.name(entry)} at byte {offset}")
        data = stored if codec == RAW else _unsqueeze(stored, size, digest, codec)
        if len(data) != size or digest_of(data) != digest:
            raise CorruptRecord(f"blob {digest} is damaged in {self.name(entry)} at byte {offset}")
        return data

    def read_into(self, entry: Entry, target: memoryview) -> None:
        """Read a blob to where it is wanted; raises CorruptRecord, after which `target` holds anything."""
        digest, _, offset, size, _, codec = entry
        if codec != RAW or target.nbytes != size:
            data = self.read(entry)
            if len(data) != target.nbytes:
                raise CorruptRecord(f"blob {digest} has {len(data)} bytes where {target.nbytes} are needed")
            target[:] = data
            return
        try:
            with open(self._path(entry), "rb", buffering=0) as file:
                self._check_header(_pread(file.fileno(), HEADER_SIZE, offset), entry)
                done = 0
                while done < size and (count := os.preadv(file.fileno(), [target[done:]], offset + HEADER_SIZE + done)):
                    done += count
        except OSError as error:
            raise CorruptRecord(f"blob {digest} cannot be read: {error}") from error
        if done < size or digest_of(target) != digest:
            raise CorruptRecord(f"blob {digest} is damaged in {self.name(entry)} at byte {offset}")

    def parts(self, entry: Entry) -> list[str]:
        """The digests of a list's chunks; whether they are the right ones `check_list` tells."""
        _, _, offset, _, stored_size, _ = entry
        try:
            with open(self._path(entry), "rb") as file:
                self._check_header(_pread(file.fileno(), HEADER_SIZE, offset), entry)
                stored = _pread(file.fileno(), stored_size, offset + HEADER_SIZE)
        except OSError as error:
            raise CorruptRecord(f"blob {entry[0]} cannot be read: {error}") from error
        return [stored[at : at + 16].hex() for at in range(0, len(stored), 16)]

    def check_list(self, entry: Entry, data: bytes | memoryview) -> None:
        """Raise CorruptRecord unless `data` is what was stored as a list."""
        if len(data) != entry[3] or digest_of(data) != entry[0]:
            raise CorruptRecord(f"blob {entry[0]} is damaged in {self.name(entry)} at byte {entry[2]}")

    def _check_header(self, header: bytes, entry: Entry) -> None:
        digest, _, offset, size, stored_size, codec = entry
        expected = _HEADER.pack(_BLOB_MAGIC, bytes.fromhex(digest), codec, size, stored_size)
        if header != expected + _CHECK.pack(zlib.crc32(expected)):
            raise CorruptRecord(f"the header of blob {digest} is damaged in {self.name(entry)} at byte {offset}")

    def name(self, entry: Entry) -> str:
        """The pack's path, relative to the run's folder."""
        return f"packs/{pack_name(entry[1])}"

    def _path(self, entry: Entry) -> str:
        return os.path.join(self._folder, pack_name(entry[1]))


def _compresses(view: memoryview) -> bool:
    if len(view) < _SMALL:
        return False
    # The middle is looked at too: many arrays begin with zeros, and many files with text.
    middle = len(view) // 2
    sample = bytes(view[:_PROBE]) + (bytes(view[middle : middle + _PROBE]) if len(view) > 2 * _PROBE else b"")
    return len(_lz4(sample)) < _WORTH * len(sample)


def _lz4(data: bytes | memoryview) -> bytes:
    import lz4.block

    return bytes(lz4.block.compress(data, store_size=False))


def _squeeze(piece: memoryview, codec: int) -> bytes:
    small = shuffled.squeeze(piece) if codec == ZSTD else _lz4(piece)
    body = small if len(small) < len(piece) else bytes(piece)
    return _PIECE_SIZE.pack(len(body)) + body


def _unsqueeze(stored: bytes, size: int, digest: str, codec: int) -> bytes:
    pieces: list[bytes] = []
    offset, left = 0, size
    try:
        while left > 0:
            (length,) = _PIECE_SIZE.unpack_from(stored, offset)
            offset += _PIECE_SIZE.size
            body = stored[offset : offset + length]
            whole = min(PIECE, left)
            pieces.append(body if length == whole else _unsqueezed_piece(body, whole, codec))
            offset += length
            left -= whole
    except (struct.error, CorruptRecord) as error:
        raise CorruptRecord(f"blob {digest} is damaged: {error}") from error
    if offset != len(stored):
        raise CorruptRecord(f"blob {digest} is damaged: its pieces do not fill it")
    return b"".join(pieces)


def _unsqueezed_piece(body: bytes, size: int, codec: int) -> bytes:
    if codec == ZSTD:
        return shuffled.unsqueeze(body, size)
    if codec != LZ4:
        raise CorruptRecord(f"there is no codec {codec}")
    import lz4.block

    try:
        return bytes(lz4.block.decompress(body, uncompressed_size=size))
    except lz4.block.LZ4BlockError as error:
        raise CorruptRecord(str(error)) from error


def _pread(descriptor: int, size: int, offset: int) -> bytes:
    data = os.pread(descriptor, size, offset)
    if len(data) == size:
        return data
    parts = [data]  # one call returns at most 2 GiB
    while data and size > (have := sum(map(len, parts))):
        data = os.pread(descriptor, size - have, offset + have)
        parts.append(data)
    return b"".join(parts)
