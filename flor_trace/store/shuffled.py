"""The codec of compacted runs: bytes shuffled by the width of their numbers, then zstd.

Numbers of one array share their signs and exponents. Shuffling puts the first bytes of all numbers together, then the second
bytes, and so on; then zstd finds what general compression cannot: 1.14 to 1.27 on trained weights and Adam's moments, 3.7 on
gradients with zeros in them, where lz4 finds 1.00 (numcodecs' bitshuffle came to the same within 2 %). The idea is
Blosc's; plain zstd frames are used because their format is fixed for good (RFC 8878).

A squeezed piece is one byte that holds the width (1, 2, 4 or 8; 1: not shuffled), then a zstd frame. What is left over by the width
comes last, unshuffled.
"""

from __future__ import annotations

from flor_trace.errors import CorruptRecord, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

WIDTHS = (1, 2, 4, 8)
# Higher levels gain under half a per cent on shuffled floats and take twice to ten times as long.
LEVEL = 3
_PROBE = 32 << 10


def check_library(what: str) -> None:
    """Raises UsageError where the library is not installed; `what` begins the message."""
    try:
        import zstandard  # noqa: F401
    except ImportError:
        raise UsageError(f"{what} needs the package zstandard: pip install zstandard") from None


def squeeze(piece: memoryview) -> bytes:
    """A piece in the form described above, which may be longer than it was."""
    zstd = _library().ZstdCompressor(level=LEVEL)
    width = _best_width(piece)
    return bytes([width]) + bytes(zstd.compress(_shuffle(piece, width)))


def unsqueeze(body: bytes, size: int) -> bytes:
    """The piece of `size` bytes that was squeezed into `body`; raises CorruptRecord."""
    zstd = _library()
    width = body[0] if body else 0
    if width not in WIDTHS:
        raise CorruptRecord(f"a compacted piece has the unknown width {width}")
    try:
        # The frame's header tells the size too, but may be damaged, and memory for it is taken before it is looked at.
        if zstd.get_frame_parameters(body[1:]).content_size != size:
            raise CorruptRecord("a compacted piece has another size than recorded")
        data = zstd.ZstdDecompressor().decompress(body[1:], max_output_size=size)
    except zstd.ZstdError as error:
        raise CorruptRecord(f"a compacted piece is damaged: {error}") from error
    return _unshuffle(data, width)


def _best_width(piece: memoryview) -> int:
    """The width that makes a sample from the middle smallest: nobody says what the bytes are."""
    start = max(0, (len(piece) - _PROBE) // 2) // 8 * 8
    sample = piece[start : start + _PROBE]
    zstd = _library().ZstdCompressor(level=1)
    return min(WIDTHS, key=lambda width: len(zstd.compress(_shuffle(sample, width))))


def _shuffle(piece: memoryview, width: int) -> bytes:
    import numpy as np

    if width == 1:
        return bytes(piece)
    whole = len(piece) // width * width
    planes = np.frombuffer(piece[:whole], np.uint8).reshape(-1, width).T
    return planes.tobytes() + bytes(piece[whole:])


def _unshuffle(data: bytes, width: int) -> bytes:
    import numpy as np

    if width == 1:
        return data
    whole = len(data) // width * width
    numbers = np.frombuffer(data[:whole], np.uint8).reshape(width, -1).T
    return numbers.tobytes() + data[whole:]


def _library() -> Any:
    check_library("reading or writing a compacted run")
    import zstandard

    return zstandard
