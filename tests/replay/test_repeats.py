"""Warnings that a worker shows again are recognised, and nothing else is."""

from typing import Any

from flor_trace.replay.repeats import Repeats

WARNING = "/lib/loader.py:7: UserWarning: no pin\n  warnings.warn(message)\n"
LONG = "main.py:3: FutureWarning: first line\nand a second\n  call()\n"


def stderr(*texts: str) -> list[dict[str, Any]]:
    return [{"stream": "stderr", "text": text} for text in texts]


def drop(repeats: Repeats, text: str) -> str:
    return repeats.drop(text, lambda text: text)


def test_a_warning_shown_before_the_stretch_is_dropped_each_time() -> None:
    repeats = Repeats(stderr("other\n"), stderr("a\n", WARNING, LONG))
    assert drop(repeats, WARNING + "b\n" + LONG) == "b\n"
    assert drop(repeats, WARNING) == ""
    assert repeats.dropped == 3


def test_a_warning_recorded_in_the_stretch_is_kept_as_often_as_it_was() -> None:
    repeats = Repeats(stderr(WARNING), stderr(WARNING))
    assert drop(repeats, WARNING) == WARNING
    assert drop(repeats, WARNING) == ""


def test_nothing_else_is_dropped() -> None:
    repeats = Repeats(stderr(), stderr("loss 1.0\n", WARNING))
    for text in ("loss 1.0\n", WARNING.replace("no pin", "pin"), WARNING.replace(":7:", ":8:"), "  warnings.warn(message)\n"):
        assert drop(repeats, text) == text
    assert drop(Repeats(stderr(), [{"stream": "stdout", "text": WARNING}]), WARNING) == WARNING


def test_a_warning_behind_a_progress_bar_that_has_not_ended_its_line() -> None:
    bar, nested = "\r  0%|          | 0/5 [00:00<?, ?it/s]", "\n\r  0%| | 0/2 [00:00<?, ?it/s]\x1b[A"
    for before in (stderr(bar + WARNING), stderr(WARNING), stderr(nested + WARNING)):
        repeats = Repeats(stderr(), before)
        assert drop(repeats, bar + WARNING + "after\n") == bar + "after\n"
        assert drop(repeats, nested + WARNING) == nested
        assert drop(repeats, bar + LONG) == bar + LONG
        assert repeats.dropped == 2
    repeats = Repeats(stderr(bar + WARNING), stderr(WARNING))
    assert drop(repeats, bar + WARNING) == bar + WARNING
    assert drop(repeats, bar + WARNING) == bar


def test_line_numbers_are_compared_as_recorded_and_shown_as_they_are() -> None:
    repeats = Repeats(stderr(LONG), stderr(LONG))
    moved = LONG.replace(":3:", ":4:")
    assert repeats.drop(moved, lambda text: text.replace(":4:", ":3:")) == moved
    assert repeats.drop(moved, lambda text: text.replace(":4:", ":3:")) == ""
