"""Recorded against replayed lines: what the clock explains, and what it must not hide."""

from __future__ import annotations

import pytest

from flor_trace.replay.lines import LinePair, compare_output, is_only_progress, mask

BAR = (
    "\r  0%|          | 0/10 [00:00<?, ?it/s]\r 50%|█████     | 5/10 [00:01<00:01,  4.9it/s]"
    "\r100%|██████████| 10/10 [00:02<00:00,  5.0it/s]"
)


def test_equal_output_is_exact() -> None:
    found = compare_output(["a", "loss 0.5", ""], ["a", "loss 0.5", ""])
    assert (found.exact, found.clock_dependent, found.first_difference) == (3, [], None)
    assert found.same


@pytest.mark.parametrize(
    ("recorded", "replayed"),
    [
        ("elapsed: 3.21s", "elapsed: 12.02s"),
        ("epoch 1 took 3.2 seconds", "epoch 1 took 13 seconds"),
        ("100 steps, 3.2it/s", "100 steps, 13.9it/s"),
        ("[00:03<00:10, 3.2it/s]", "[00:13<00:20, 1.2s/it]".replace("s/it", "it/s")),
        ("2026-01-02 03:04:05,678 INFO loss 0.5", "2027-11-12 13:14:15,001 INFO loss 0.5"),
        ("2026-01-02T03:04:05.678Z start", "2026-01-02T03:04:06Z start"),
        ("Mon Nov 23 06:44:07 2026", "Tue Nov 24 16:44:07 2026"),
        ("run 20260102-030405", "run 20270102-030405"),
        ("run Jan02_03-04-05", "run Feb12_13-14-15"),
        ("| epoch   1 |   200/ 2983 batches | lr 20.0 | ms/batch  5.4 | loss  7.6",
         "| epoch   1 |   200/ 2983 batches | lr 20.0 | ms/batch 15.4 | loss  7.6"),
        ("iter 0: loss 4.2, time 123.45ms, mfu -100.00%", "iter 0: loss 4.2, time 9.4ms, mfu 3.21%"),
        ("| end of epoch   1 | time:  3.21s | valid loss  5.5", "| end of epoch   1 | time: 13.21s | valid loss  5.5"),
        ("|    fps          | 1234  |", "|    fps          | 99    |"),
        ("{'time': 1.5, 'loss': 0.5}", "{'time': 22.75, 'loss': 0.5}"),
        ("Time taken for epoch 3: 12.5", "Time taken for epoch 3: 2.5"),
        ("Time 0.123 (0.456) Loss 1.5", "Time 0.999 (0.456) Loss 1.5"),
        ("done in 1m 20s", "done in 2m 5s"),
        ("total 0:01:02.5", "total 0:11:02.25"),
        ("<Net object at 0x7f12deadbeef>", "<Net object at 0x7f12deadbee0>"),
        ("1,234 samples/s", "934 samples/s"),
        ("throughput=12.5", "throughput=1e3"),
        ("ETA 01:02", "ETA 10:20"),
        (BAR, "\r100%|██████████| 10/10 [00:09<00:00,  1.1it/s]"),
        (BAR + "epoch done", BAR.replace("5.0", "7.0") + "epoch done"),
    ],
)  # fmt: skip
def test_the_clock_is_set_apart(recorded: str, replayed: str) -> None:
    found = compare_output(["a", recorded, "z"], ["a", replayed, "z"])
    assert found.same, (mask(recorded), mask(replayed))
    assert found.exact == 2
    assert any(pair.recorded == recorded for pair in found.clock_dependent)


@pytest.mark.parametrize(
    ("recorded", "replayed"),
    [
        ("loss 0.5", "loss 0.6"),
        ("epoch 1 loss 0.5 time 3.2s", "epoch 1 loss 0.6 time 3.2s"),
        ("loss 0.5 ms/batch 4.2", "loss 0.6 ms/batch 4.2"),
        ("acc 0.5 min 0.3", "acc 0.6 min 0.3"),
        ("timestep 5", "timestep 6"),
        ("time_steps 5", "time_steps 6"),
        ("eta 0.1", "eta 0.2"),
        ("step 5: time 3.2", "step 6: time 3.2"),
        ("\rloss 0.5\rloss 0.4", "\rloss 0.5\rloss 0.3"),
        (BAR + "loss 0.5", BAR + "loss 0.6"),
        ("momentum 0.9", "momentum 0.8"),
        ("sometimes 5", "sometimes 6"),
        ("best_at 3", "best_at 4"),
        ("x 5 steps", "x 6 steps"),
        ("model 0.5B", "model 0.6B"),
        ("ratio 12:34", "ratio 12:35"),
        ("a", "b"),
        ("a", ""),
    ],
)
def test_the_clock_hides_nothing_else(recorded: str, replayed: str) -> None:
    found = compare_output(["same", recorded], ["same", replayed])
    assert found.first_difference == LinePair(1, 1, recorded, replayed)
    assert not found.same


def test_missing_and_additional_lines_differ() -> None:
    assert compare_output(["a", "b"], ["a"]).first_difference == LinePair(1, None, "b", None)
    assert compare_output(["a"], ["a", "b"]).first_difference == LinePair(None, 1, None, "b")
    assert compare_output([], []).same


def test_progress_bars_are_not_paired() -> None:
    found = compare_output(["a", BAR, "b", BAR], ["a", "b"])
    assert found.same
    assert [pair.recorded_index for pair in found.clock_dependent] == [1, 3]
    assert compare_output(["a", "b"], [BAR, "a", BAR, "b"]).exact == 2


def test_what_is_only_progress() -> None:
    assert is_only_progress(BAR)
    assert is_only_progress("10it [00:03,  3.2it/s]")
    assert is_only_progress("train: 30%|███       | 3/10 [00:03<00:10,  3.2it/s, acc=0.5]")
    assert not is_only_progress("")
    assert not is_only_progress("loss 0.5")
    assert not is_only_progress(BAR + "loss 0.5")
    assert not is_only_progress("\rloss 0.5")


def test_pieces_split_at_carriage_returns_are_progress_too() -> None:
    few, many = ("a\n" + BAR * count + "\r        \rdone\n" for count in (1, 3))
    found = compare_output(few.splitlines(keepends=True), many.splitlines(keepends=True))
    assert found.same
    assert compare_output(["a\n", "\r\n"], ["a\n"]).first_difference == LinePair(1, None, "\r\n", None)


def test_nested_bars_move_the_cursor() -> None:
    inner = "\n" + BAR + "\x1b[A"
    once, twice = ("start\n" + inner * count + "\nend\n" for count in (1, 2))
    assert compare_output(once.split("\n"), twice.split("\n")).same
    assert not compare_output(["a", "", "b"], ["a", "b"]).same


@pytest.mark.parametrize(
    "line",
    [
        "wandb: Run data is saved locally in /home/me/wandb/offline-run-20260101_000000-abc\n",
        "\x1b[34m\x1b[1mwandb\x1b[0m: \n",
        "2026/01/02 03:04:05 INFO mlflow.tracking.fluent: Experiment with name 'demo' does not exist.\n",
    ],
)
def test_what_trackers_say_of_themselves_is_not_the_scripts(line: str) -> None:
    found = compare_output(["a\n", line, "b\n"], ["a\n", "b\n"])
    assert found.same
    assert found.clock_count == 1
    assert not compare_output(["a\n", "my " + line], ["a\n"]).same


def test_bars_of_rich_are_progress_with_what_they_had_no_room_for() -> None:
    bar, wrapped, more = "Epoch 1/5 ━━━━━━━━╸━━━ 3/8 0:00:01 loss: 0.5\n", " " * 40 + "val: 0.25\n", " " * 40 + "acc: 0.9\n"
    drawn = "\x1b[2K" + bar
    for replayed in ([bar], [], [drawn, wrapped, more, drawn, wrapped, more]):
        found = compare_output(["a\n", drawn, wrapped, more, "end\n"], ["a\n", *replayed, "end\n"])
        assert found.same, found.first_difference
    assert not compare_output(["a\n", wrapped], ["a\n"]).same
    assert not compare_output([bar, "loss 0.5\n"], [bar]).same
