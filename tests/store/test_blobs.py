from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flor_trace.errors import CorruptRecord
from flor_trace.store import blobs
from flor_trace.store.blobs import Entry, PackReader, PackWriter, digest_of


def store(folder: Path, *contents: bytes) -> list[Entry]:
    writer = PackWriter(str(folder))
    entries = []
    for content in contents:
        steps = writer.append(digest_of(content), memoryview(content))
        while True:
            try:
                next(steps)
            except StopIteration as stop:
                entries.append(stop.value)
                break
    writer.sync()
    writer.close()
    return entries


TEXT = b"all work and no play " * 500_000
NOISE = random.Random(1).randbytes(9_000_000)
MIXED = bytes(5_000_000) + NOISE[:5_000_000]


CONTENTS = [b"", b"x", b"x" * 255, b"x" * 100_000, TEXT, NOISE, MIXED, NOISE[: blobs.PIECE], bytes(blobs.PIECE * 2)]


@pytest.mark.parametrize("content", CONTENTS)
def test_bytes_come_back(tmp_path: Path, content: bytes) -> None:
    (entry,) = store(tmp_path, content)
    assert PackReader(str(tmp_path)).read(entry) == content
    assert PackReader(str(tmp_path)).looks_whole(entry)


def test_compression_is_used_where_it_pays(tmp_path: Path) -> None:
    text, noise, small = store(tmp_path, TEXT, NOISE, b"x" * 50)
    assert text[5] == blobs.LZ4
    assert text[4] < len(TEXT) / 50
    assert (noise[4], noise[5]) == (len(NOISE), blobs.RAW)
    assert small[5] == blobs.RAW


def test_packs_roll_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blobs, "_PACK_LIMIT", 1000)
    contents = [bytes([number]) * 200 + os.urandom(300) for number in range(10)]
    entries = store(tmp_path, *contents)
    assert len({entry[1] for entry in entries}) > 3
    assert [PackReader(str(tmp_path)).read(entry) for entry in entries] == contents


@settings(max_examples=150, deadline=None)
@given(content=st.binary(max_size=300) | st.binary(max_size=5).map(lambda word: word * 200), data=st.data())
def test_a_flipped_bit_is_never_read_as_content(tmp_path_factory: pytest.TempPathFactory, content: bytes, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("packs")
    (entry,) = store(folder, content)
    path = folder / blobs.pack_name(0)
    whole = bytearray(path.read_bytes())
    bit = data.draw(st.integers(entry[2] * 8, len(whole) * 8 - 1))
    whole[bit // 8] ^= 1 << bit % 8
    path.write_bytes(whole)
    try:
        read = PackReader(str(folder)).read(entry)
    except CorruptRecord as error:
        assert entry[0] in str(error)
    else:
        # lz4 has several encodings of one text, and a flip may lead from one to another.
        assert entry[5] == blobs.LZ4
        assert read == content


def test_a_shortened_or_missing_pack_is_noticed(tmp_path: Path) -> None:
    first, last = store(tmp_path, NOISE[:1000], NOISE[1000:3000])
    reader = PackReader(str(tmp_path))
    os.truncate(tmp_path / blobs.pack_name(0), last[2] + 500)
    assert reader.read(first) == NOISE[:1000]
    assert not reader.looks_whole(last)
    with pytest.raises(CorruptRecord, match="cut short"):
        reader.read(last)
    (tmp_path / blobs.pack_name(0)).unlink()
    with pytest.raises(CorruptRecord, match="cannot be read"):
        reader.read(first)
