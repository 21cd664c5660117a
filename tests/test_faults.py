"""A short version of `scripts/faults`: recordings are broken in every way, and no replay is ever wrong."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from faults import disk, exits, kills
from faults.world import LARGE, PURE, Findings, Trial, Truth, learn

from flor_trace.store import layout
from flor_trace.store.reader import Run


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Truth:
    return learn(tmp_path_factory.mktemp("truth"), PURE)


@pytest.mark.parametrize("step", ["write pack 8 half", "write journal 9 half"])
def test_a_kill_at_a_named_step(step: str, tmp_path: Path, truth: Truth) -> None:
    findings = Findings()
    assert kills.kill_at_step(tmp_path / "trial", truth, step, findings)
    assert findings.failures == []


def test_kills_at_a_step_of_the_writing_process(tmp_path: Path) -> None:
    large = learn(tmp_path / "truth", LARGE)
    for action in ("writer", "orphan"):
        findings = Findings()
        assert kills.kill_at_step(tmp_path / action, large, "write pack 8 half", findings, action)
        assert findings.failures == []
        # On a busy machine the training is killed before its first snapshot; that there is none then has been checked.
        outcomes = {"replayed exactly"} if action == "writer" else {"replayed exactly", "killed before the first snapshot"}
        assert sum(findings.counts.get(outcome, 0) for outcome in outcomes) == 1
    assert "write pack 8 half" in kills.WRITERS_STEPS


def test_a_kill_at_a_random_time(tmp_path: Path, truth: Truth) -> None:
    findings = Findings()
    kills.kill_at_random(tmp_path / "trial", truth, random.Random(3), findings)
    assert findings.failures == []
    assert findings.counts


def test_a_full_disk(tmp_path: Path, truth: Truth) -> None:
    findings = Findings()
    disk.failing_step(tmp_path / "trial", truth, "write pack 7 half ENOSPC", findings)
    assert findings.failures == []


def test_an_exit_handler_that_leaves_at_once(tmp_path: Path) -> None:
    findings = Findings()
    exits.check("os._exit at exit", tmp_path, findings)
    assert findings.failures == []


def test_a_flipped_bit_in_a_pack(tmp_path: Path, truth: Truth) -> None:
    trial = Trial(tmp_path / "trial", truth)
    assert trial.wait(trial.start()).status == 0
    (run_id,) = layout.run_ids(str(trial.store))
    run = Run(layout.run_folder(str(trial.store), run_id))
    snapshots = run.snapshots()
    for digest in snapshots[len(snapshots) // 2]["blobs"]:
        _, pack, offset, _, stored, _ = run.index[digest]
        path = Path(run.folder, layout.PACKS, f"{pack:04}.pack")
        data = bytearray(path.read_bytes())
        data[offset + stored // 2] ^= 4
        path.write_bytes(data)
    replay = trial.replay(run_id)
    assert replay.status == 0
    assert replay.out.splitlines() == truth.lines
    assert "Traceback" not in replay.err
    assert "is damaged in packs/0000.pack at byte" in replay.err
    assert "replay exact" in replay.err
