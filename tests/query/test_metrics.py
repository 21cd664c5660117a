from __future__ import annotations

from typing import Any

import pytest

from flor_trace.errors import UsageError
from flor_trace.query.metrics import chosen, numbers_in, series_of


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("epoch 3: train loss 2.2325, test loss 2.0386, accuracy 0.3267",
         [("epoch", 3), ("train loss", 2.2325), ("test loss", 2.0386), ("accuracy", 0.3267)]),
        ("Train Epoch: 1 [640/60000 (1%)]\tLoss: 2.3e-1", [("Train Epoch", 1), ("Loss", 0.23)]),
        ("{'loss': 0.5, 'grad_norm': 1.25, 'learning_rate': 5e-05, 'epoch': 0.1}",
         [("loss", 0.5), ("grad_norm", 1.25), ("learning_rate", 5e-05), ("epoch", 0.1)]),
        ("| end of epoch   1 | time:  5.32s | valid loss -5.93 | valid ppl   376.24",
         [("end of epoch", 1), ("valid loss", -5.93), ("valid ppl", 376.24)]),
        ("iter 10: loss 4.1, time 12.1ms, mfu -100.00%", [("iter", 10), ("loss", 4.1), ("mfu", -100.0)]),
        ("loss=nan lr=1E-3 norm = inf", [("loss", float("nan")), ("lr", 1e-3), ("norm", float("inf"))]),
        ("layer1.weight of conv2d saved to ckpt_3.pt on 2026-11-23 by version 2.13.0", []),
        ("3 4 5", []),
        ("", []),
    ],
)  # fmt: skip
def test_numbers_belong_to_the_words_before_them(line: str, expected: list[tuple[str, float]]) -> None:
    assert repr([(name, float(value)) for name, value in numbers_in(line)]) == repr([(n, float(v)) for n, v in expected])


def written(text: str, at: Any = (), origin: str = "recorded", stream: str = "stdout") -> dict[str, Any]:
    return {"text": text, "at": at, "origin": origin, "stream": stream}


def test_lines_in_pieces_progress_bars_and_both_streams() -> None:
    log = [
        written("loss "), written("bar: 10\rbar: 20\r", stream="stderr"), written("0.5\nloss 0.4\n", at=[["m::0", 0, 7]]),
        written("bar: 30\n", stream="stderr"), written("norm 3", origin="hindsight"),
    ]  # fmt: skip
    found = {one.name: one for one in series_of(log)}
    assert found["loss"].values == [0.5, 0.4]
    assert found["bar"].values == [30.0]
    assert found["norm"].values == [3.0]


def test_values_are_drawn_at_their_iterations_where_each_has_one() -> None:
    per_epoch = [written(f"loss {n}\nstep 1\nstep 2\n", at=[["m::0", 0, n], ["m::1", 0, 3]]) for n in (4, 6)]
    loss, step = series_of(per_epoch)
    assert (loss.places, loss.by_iteration) == ([4, 6], True)
    assert (step.places, step.by_iteration) == ([1, 2, 3, 4], False)


def test_names_are_chosen_whole_or_in_part() -> None:
    series = series_of([written("train loss 1, test loss 2, loss 3, accuracy 4\n")])
    assert [one.name for one in chosen(series, "Loss")] == ["loss"]
    assert [one.name for one in chosen(series, "t loss")] == ["test loss"]
    assert [one.name for one in chosen(series, "t")] == ["train loss", "test loss"]
    with pytest.raises(UsageError, match="no numbers after 'bleu'; it did after: train loss, test loss, loss, accuracy"):
        chosen(series, "bleu")
