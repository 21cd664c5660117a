"""Locals of live frames are read and written without a trace."""

from __future__ import annotations

import gc
import sys
import weakref

import pytest

from flor_trace.runtime.frames import read_locals, user_frames, write_locals


class Thing:
    pass


def test_reading_keeps_nothing_alive() -> None:
    def user() -> weakref.ref[Thing]:
        thing = Thing()
        assert read_locals(sys._getframe())["thing"] is thing
        ref = weakref.ref(thing)
        thing = None
        return ref

    def outer() -> None:
        frame_holder = []

        def inner() -> None:
            thing = Thing()
            frame_holder.append(weakref.ref(thing))
            read_locals(sys._getframe(0))
            del thing
            assert frame_holder[0]() is None

        inner()

    gc.disable()
    try:
        assert user()() is None
        outer()
    finally:
        gc.enable()


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="locals() is a fresh dict there")
def test_a_dict_that_the_script_got_from_locals_is_left_as_it_was() -> None:
    def user() -> dict[str, object]:
        first = 1
        config = locals()
        second = 2
        assert read_locals(sys._getframe())["second"] == second
        write_locals(sys._getframe(), {**read_locals(sys._getframe()), "first": 5, "second": 6, "config": config})
        assert (first, second) == (5, 6)
        return config

    assert user() == {"first": 1}


def test_writing_reaches_fast_locals_and_cells() -> None:
    def user() -> tuple[object, ...]:
        plain, cell = 1, 2

        def closure() -> int:
            return cell

        write_locals(sys._getframe(), {"plain": 10, "cell": 20, "closure": closure})
        return plain, cell, closure()

    assert user() == (10, 20, 20)


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="locals cannot be unbound from outside there")
def test_absent_names_become_unbound() -> None:
    def user() -> int:
        gone = 1
        write_locals(sys._getframe(), {})
        return gone

    with pytest.raises(UnboundLocalError):
        user()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="locals can be unbound there")
def test_where_names_cannot_be_unbound_it_is_said() -> None:
    def user() -> None:
        gone = 1  # noqa: F841
        write_locals(sys._getframe(), {})

    with pytest.raises(RuntimeError, match="cannot unbind gone"):
        user()


def test_writing_reaches_a_suspended_outer_frame() -> None:
    def outer() -> int:
        value = 1
        inner()
        return value

    def inner() -> None:
        frame = sys._getframe(1)
        write_locals(frame, {**read_locals(frame), "value": 7})

    assert outer() == 7


def test_only_functions_of_user_files_count_from_the_outermost() -> None:
    def outer() -> list[str]:
        return inner()

    def inner() -> list[str]:
        return [f.name for f in user_frames(sys._getframe(), {__file__})]

    names = outer()
    assert [n.rpartition(".")[2] for n in names[-2:]] == ["outer", "inner"]
    assert [int(n.partition(":")[0]) for n in names] == list(range(len(names)))
    assert user_frames(sys._getframe(), set()) == []
