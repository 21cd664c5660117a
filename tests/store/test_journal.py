from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flor_trace.store import journal
from flor_trace.store.journal import Damage

VALUES = st.integers() | st.text() | st.lists(st.floats(allow_nan=False))
RECORDS = st.lists(st.fixed_dictionaries({"kind": st.sampled_from(["output", "snapshot", "x"]), "v": VALUES}), max_size=8)


def read(data: bytes) -> tuple[list[dict[str, Any]], list[Damage]]:
    damage: list[Damage] = []
    return [journal.decode(payload) for payload in journal.payloads(data, damage)], damage


def test_what_was_written_is_read() -> None:
    records = [{"kind": "output", "text": "grün \udcff\n"}, {"kind": "x", "v": [1, 2.5, None, {"a": "\xff\xfe"}]}]
    data = b"".join(map(journal.frame, records))
    assert read(data) == (records, [])
    assert [journal.kind_of(payload) for payload in journal.payloads(data, [])] == ["output", "x"]


@settings(max_examples=150, deadline=None)
@given(RECORDS, st.data())
def test_a_cut_tail_loses_only_the_record_that_is_cut(records: list[dict[str, Any]], data: st.DataObject) -> None:
    frames = [journal.frame(record) for record in records]
    whole = b"".join(frames)
    length = data.draw(st.integers(0, len(whole)))
    found, damage = read(whole[:length])
    ends = [sum(map(len, frames[: count + 1])) for count in range(len(frames))]
    assert found == records[: sum(end <= length for end in ends)]
    at_border = length == 0 or length in ends
    assert [item.cut for item in damage] == ([] if at_border else [True])


@settings(max_examples=300, deadline=None)
@given(RECORDS.filter(bool), st.data())
def test_a_flipped_bit_never_yields_a_wrong_record(records: list[dict[str, Any]], data: st.DataObject) -> None:
    frames = [journal.frame(record) for record in records]
    whole = bytearray(b"".join(frames))
    bit = data.draw(st.integers(0, len(whole) * 8 - 1))
    whole[bit // 8] ^= 1 << bit % 8
    struck, end = 0, len(frames[0])
    while bit // 8 >= end:
        struck += 1
        end += len(frames[struck])
    found, damage = read(bytes(whole))
    # All others survive, those before and, as the reader finds the next frame, those behind.
    assert found == records[:struck] + records[struck + 1 :]
    assert len(damage) == 1
    assert damage[0].offset == end - len(frames[struck])


@settings(max_examples=150, deadline=None)
@given(RECORDS.filter(bool), st.data())
def test_overwritten_stretches_never_yield_a_wrong_record(records: list[dict[str, Any]], data: st.DataObject) -> None:
    frames = [journal.frame(record) for record in records]
    whole = b"".join(frames)
    start = data.draw(st.integers(0, len(whole) - 1))
    junk = data.draw(st.binary(min_size=1, max_size=60) | st.just(bytes(40)) | st.just(journal.MAGIC * 3))
    found, _ = read(whole[:start] + junk + whole[start + len(junk) :])
    before = 0
    while before < len(frames) and sum(map(len, frames[: before + 1])) <= start:
        before += 1
    assert found[:before] == records[:before]
    remaining = iter(records)
    assert all(record in remaining for record in found)


def test_removed_bytes_in_the_middle_are_not_taken_for_a_cut_tail() -> None:
    frames = [journal.frame({"kind": "x", "v": "a" * 50 * place}) for place in range(1, 5)]
    whole = b"".join(frames)
    hole = len(frames[0]) + 30
    found, damage = read(whole[:hole] + whole[hole + 40 :])
    assert [len(record["v"]) for record in found] == [50, 150, 200]
    assert [item.cut for item in damage] == [False]


def test_a_file_of_something_else_is_damage() -> None:
    found, damage = read(b"not a journal at all")
    assert found == []
    assert [str(item) for item in damage] == ["journal at byte 0 (20 bytes): a record is damaged"]


def test_values_that_json_cannot_hold_are_refused() -> None:
    with pytest.raises(TypeError):
        journal.frame({"kind": "x", "v": object()})
