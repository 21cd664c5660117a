"""What workers share: cores, and GPUs of which each gets one."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from flor_trace.replay import cores
from flor_trace.replay.engines.local import LocalEngine


def facts(devices: int = 0, threads: int = 1) -> list[dict[str, Any]]:
    return [{"cpus": 8}, {"torch": {"threads": threads, "devices": ["H"] * devices}}, {"torch": {"threads": 9, "devices": ["H"] * devices}}]


def test_a_container_may_have_fewer_cores_than_the_machine(tmp_path: Path) -> None:
    quota = tmp_path / "cpu.max"
    cores_here = len(os.sched_getaffinity(0))
    assert cores.usable_cores(quota) == cores_here
    for text, expected in {"max 100000": cores_here, "100000 100000": 1, "50000 100000": 1, "99900000 100000": cores_here}.items():
        quota.write_text(text)
        assert cores.usable_cores(quota) == expected


def test_threads_are_those_before_the_script_could_change_them() -> None:
    assert cores.recorded_threads(facts(threads=4)) == 4
    assert cores.recorded_threads([{"numpy": {"blas_threads": 2}}]) == 2
    assert cores.recorded_threads([]) == 1


@pytest.mark.parametrize(
    ("threads", "here", "gpus", "expected"), [(1, 8, [], 8), (4, 8, [], 2), (16, 8, [], 1), (8, 8, ["0", "1"], 2)]
)
def test_workers_where_nobody_says(threads: int, here: int, gpus: list[str], expected: int) -> None:
    assert cores.default_workers(threads, here, gpus) == expected


def test_sharing_cores_is_told() -> None:
    assert cores.oversubscription(2, 4, 8) is None
    assert cores.oversubscription(1, 16, 8) is None
    told = cores.oversubscription(4, 4, 8)
    assert [cores.slowdown(*each) for each in ((2, 4, 8), (1, 16, 8), (4, 4, 8), (2, 1, 1))] == [1.0, 1.0, 2.0, 2.0]
    assert told is not None and told.startswith("4 workers with the recorded 4 threads each share 8 cores: --workers 2")


@pytest.mark.parametrize(
    ("given", "expected"),
    [(None, ["0", "1", "2"]), ("2,0", ["2", "0"]), ("1,-1,0", ["1"]), ("", []), ("GPU-8a, GPU-9b", ["GPU-8a", "GPU-9b"])],
)
def test_gpus_that_are_here(tmp_path: Path, given: str | None, expected: list[str]) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    assert cores.present_gpus({} if given is None else {"CUDA_VISIBLE_DEVICES": given}, tmp_path) == expected
    assert cores.present_gpus({}, tmp_path / "none") == []


def test_only_a_run_that_saw_one_gpu_shares_them_out() -> None:
    assert cores.gpus_to_share(facts(1), ["0", "1"]) == ["0", "1"]
    assert cores.gpus_to_share(facts(2), ["0", "1"]) == []
    assert cores.gpus_to_share(facts(1), ["0"]) == []
    assert cores.gpus_to_share(facts(0), ["0", "1"]) == []


def test_each_worker_gets_the_gpu_with_the_fewest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The processes stand in for workers: they tell what they find in their environment, and live until they are killed."""
    monkeypatch.setattr(
        "flor_trace.replay.engines.local._BOOT",
        "import os, json, time; open({spec!r}, 'w').write(json.dumps(os.environ.get('CUDA_VISIBLE_DEVICES'))); "
        "os.write({fd}, b'x'); time.sleep(600 + 0 * {parent} + 0 * len({root!r}))",
    )
    engine = LocalEngine(tmp_path, str(tmp_path), dict(os.environ), [], ["3", "5"])
    started = []

    def start(number: int) -> str:
        handle = engine.start(tmp_path / f"told-{number}", number)
        started.append(handle)
        assert handle.connection.recv(1) == b"x"
        return str(json.loads((tmp_path / f"told-{number}").read_text()))

    try:
        assert [start(0), start(1)] == ["3", "5"]
        started[1].kill()
        assert [start(2), start(3)] == ["5", "3"]
    finally:
        for handle in started:
            handle.kill()
            handle.connection.close()
