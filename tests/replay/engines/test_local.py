"""Workers as processes of this machine do what every engine has to do."""

from __future__ import annotations

from pathlib import Path

from replay.engines.contract import PUPPET, EngineContract

from flor_trace.replay.engines import Engine
from flor_trace.replay.engines.local import LocalEngine


class TestLocalEngine(EngineContract):
    def engine(self, scratch: Path, cwd: str, environment: dict[str, str], flags: list[str]) -> Engine:
        return LocalEngine(scratch, cwd, environment, flags, entry=PUPPET)
