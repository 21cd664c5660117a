"""A run that is being written, and what stages memory for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from flor_trace.record.stager import Stager
from flor_trace.store import writer


@pytest.fixture
def run(tmp_path: Path) -> Iterator[writer.RunWriter]:
    made = writer.create(str(tmp_path / "store"), script="train.py", argv=[])
    yield made
    made.close(0)


@pytest.fixture
def stager(run: writer.RunWriter) -> Iterator[Stager]:
    made = Stager(run)
    yield made
    made.close()
