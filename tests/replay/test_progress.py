from __future__ import annotations

import io
import sys

import pytest

from flor_trace.replay.progress import Line, Progress, Rows, Tally, progress_for, short_time, summary


class Clock:
    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        return self.time


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def halfway() -> tuple[Tally, Clock]:
    """Four units of 10 s for two workers; one is done and took 20 s, two are being done."""
    clock = Clock()
    tally = Tally({0: 10.0, 1: 10.0, 2: 10.0, 3: 10.0}, 2, clock)
    tally.begins(0, 0, "the prologue")
    tally.begins(1, 1, "epochs 0 to 3")
    clock.time += 20.0
    tally.ends(0, done=True)
    tally.begins(0, 2, "epochs 4 to 7")
    return tally, clock


def test_the_rest_is_stretched_as_the_estimate_has_proved_wrong() -> None:
    tally, clock = halfway()
    # twice as slow as thought: of unit 1 nothing is left by that, unit 2 takes 20 s, and so does unit 3
    assert tally.left() == pytest.approx((20.0 + 20.0) / 2)
    clock.time += 5.0
    assert tally.left() == pytest.approx((15.0 + 20.0) / 2)
    assert summary(tally) == "1 of 4 units, 2 workers, 25 s, about 18 s left"


def test_a_worker_that_is_gone_leaves_its_unit_to_do() -> None:
    tally, _ = halfway()
    tally.ends(1, done=False)
    assert (tally.done, len(tally.working)) == (1, 1)
    assert tally.left() == pytest.approx((20.0 + 20.0 + 20.0) / 2)


def test_nothing_is_promised_before_anything_is_done() -> None:
    tally = Tally({0: 1.0}, 1, Clock())
    assert tally.left() is None
    assert summary(tally) == "0 of 1 units, 0 workers, 0 s"


@pytest.mark.parametrize(("seconds", "said"), [(0.4, "0 s"), (59.4, "59 s"), (187, "3:07"), (3750, "1:02:30")])
def test_times(seconds: float, said: str) -> None:
    assert short_time(seconds) == said


def test_only_a_terminal_has_a_display() -> None:
    tally, _ = halfway()
    for stream in (None, io.StringIO()):
        shown = progress_for(tally, stream, Terminal())
        assert type(shown) is Progress and shown.interval is None


def test_without_rich_there_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    tally, _ = halfway()
    monkeypatch.setitem(sys.modules, "rich.live", None)
    assert type(progress_for(tally, Terminal(), None)) is Line


def test_the_line_gives_way_to_output_and_never_breaks_into_a_line_of_it() -> None:
    tally, clock = halfway()
    terminal = Terminal()
    line = Line(tally, terminal, shares_terminal=True)
    emit = line.around(lambda record: print(record["text"], end="", file=terminal))
    line.redraw()
    drawn = terminal.getvalue()
    assert drawn.startswith("\r\x1b[Kreplay: 1 of 4 units")
    emit({"stream": "stdout", "text": "loss "})
    assert terminal.getvalue() == drawn + "\r\x1b[Kloss "
    clock.time += 0.4
    line.redraw()
    assert terminal.getvalue() == drawn + "\r\x1b[Kloss "
    emit({"stream": "stdout", "text": "0.5\n"})
    line.redraw()
    assert terminal.getvalue().endswith("0.5\n" + drawn)
    line.redraw()  # too soon
    assert terminal.getvalue().count("1 of 4") == 2


def test_output_that_goes_elsewhere_leaves_the_display_alone() -> None:
    tally, _ = halfway()
    terminal, elsewhere = Terminal(), io.StringIO()
    line = Line(tally, terminal, shares_terminal=False)
    emit = line.around(lambda record: print(record["text"], end="", file=elsewhere))
    emit({"stream": "stdout", "text": "loss "})
    assert (terminal.getvalue(), elsewhere.getvalue()) == ("", "loss ")


def test_rows_for_workers() -> None:
    pytest.importorskip("rich")
    tally, _ = halfway()
    terminal = Terminal()
    rows = Rows(tally, terminal, shares_terminal=True)
    rows.redraw()
    text = terminal.getvalue()
    assert "worker 0" in text and "epochs 4 to 7" in text and "worker 1" in text and "20 s of about 10 s" in text
    assert "1 of 4 units" in text
    rows.clear()
    assert terminal.getvalue() != text  # taken away again
