"""The table that `scripts/bench record` writes says what was measured, and goes into its own section."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))
import record_bench
from measuring import marks

MACHINE = {"cpu": "X", "cores": 2, "memory": 8 << 30, "kernel": "6.9", "python": "3.11", "torch": "2.13", "date": "2026-01-02", "load": 0}


def kept() -> dict[str, object]:
    recorded = {
        "plain": 10.0, "plain_memory": 100_000_000, "copying": 0.004, "whole": 10.5, "seconds": 9.0, "memory": 120_000_000,
        "stall": 0.09, "median_stall": 0.01, "bytes": 40_000_000, "snapshots": 4, "boundaries": 9,
    }  # fmt: skip
    peer = {name: recorded[name] for name in ("plain", "plain_memory", "copying", "whole", "seconds", "memory")}
    return {
        "machine": MACHINE,
        "runs": {
            "NumPy only | record | 0": recorded,
            "NumPy only | record | 1": {**recorded, "plain": 20.0, "whole": 20.0},
            "NumPy only | FlorDB | 0": peer,
            "frozen backbone | async_save | 0": {"failed": ["no such function"]},
        },
    }


def test_ratios_are_taken_within_a_pair() -> None:
    rows = record_bench.table(kept()).splitlines()
    assert (
        "| NumPy only (15 s) | record | 2 | 1.025 [1.000 to 1.050] | 1.00 % | 10.0 ms | 4.0 ms | 4 / 9 | 10 MB | 120 (100) MB |" in rows
    )
    assert "| NumPy only (10 s) | FlorDB | 1 | 1.050 [1.050 to 1.050] |  |  |  |  |  | 120 (100) MB |" in rows
    assert any(row.startswith("| frozen backbone | async_save | 0 | does not run: ['no such function']") for row in rows)
    assert {row.count("|") for row in rows if row.startswith("|")} == {11}


def test_what_is_measured_in_which_round() -> None:
    assert record_bench.variants_of("NumPy only", 0, None) == ["record", "record --every 1"]
    assert record_bench.variants_of("frozen backbone", 1, "python") == list(record_bench.VARIANTS)
    assert record_bench.variants_of("frozen backbone", record_bench.OTHERS, "python") == ["record"]


def test_the_page_keeps_its_other_sections(tmp_path: Path) -> None:
    page = tmp_path / "RESULTS.md"
    page.write_text("# Results\n\n## Another bench\n\ntext\n")
    record_bench.write(page, "first table\n")
    record_bench.write(page, "second table\n")
    text = page.read_text()
    assert "## Another bench" in text and "second table" in text and "first table" not in text
    assert [text.count(mark) for mark in marks(record_bench.SECTION)] == [1, 1]


def test_every_workload_is_a_program() -> None:
    for _, body in record_bench.WORKLOADS.values():
        compile(record_bench.HEAD + body, "train.py", "exec")
