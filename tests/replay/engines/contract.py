"""What every engine has to do. A test of an engine subclasses `EngineContract` and says how to make the engine."""

from __future__ import annotations

import json
import os
import selectors
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flor_trace.replay.engines import Engine, WorkerHandle
from flor_trace.replay.link import Inbox

PUPPET = "puppet"
SECONDS = 60.0


class Puppet:
    """A started worker that runs `puppet`, told what to do one thing at a time."""

    def __init__(self, handle: WorkerHandle) -> None:
        self.handle = handle
        self.inbox = Inbox(handle.connection)
        self._messages: list[dict[str, Any]] = []
        self.here = self.next("here")

    def next(self, kind: str) -> dict[str, Any]:
        """The next message of a kind."""
        while not self._messages:
            received = self.receive()
            assert received is not None, f"the worker ended: {self.handle.errors()}"
            self._messages += received
        message = self._messages.pop(0)
        return message if message["kind"] == kind else self.next(kind)

    def receive(self) -> list[dict[str, Any]] | None:
        """What arrives, by way of a selector as the coordinator has it; None at the end."""
        with selectors.DefaultSelector() as selector:
            selector.register(self.handle.connection, selectors.EVENT_READ)
            assert selector.select(SECONDS), "nothing arrives"
        return self.inbox.receive()

    def do(self, what: str, value: Any = None) -> Any:
        self.next("want")
        self.inbox.answer({"do": what, "with": value})
        return self.next("did")["result"]

    def end(self, status: int) -> None:
        self.next("want")
        self.inbox.answer({"do": "end", "status": status})

    def is_over(self) -> bool:
        """Whether the line gives no more."""
        while (received := self.receive()) is not None:
            self._messages += received
        return True


def gone(pid: int) -> bool:
    """Whether a process is no more, at once or soon."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.01)
    return False


class EngineContract:
    """The tests; `engine` is the only thing to define."""

    def engine(self, scratch: Path, cwd: str, environment: dict[str, str], flags: list[str]) -> Engine:
        """An engine whose workers run the module `puppet`, which the environment lets them find."""
        raise NotImplementedError

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        made = tmp_path / "user"
        made.mkdir()
        return made

    @pytest.fixture
    def start(self, tmp_path: Path, folder: Path) -> Iterator[Any]:
        started: list[WorkerHandle] = []
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parent), "PYTHONHASHSEED": "7", "MINE": "1"}

        def make(number: int = 0, flags: tuple[str, ...] = ()) -> Puppet:
            spec = tmp_path / f"spec-{number}.json"
            spec.write_text(json.dumps({"number": number}))
            handle = self.engine(tmp_path, str(folder), environment, list(flags)).start(spec, number)
            started.append(handle)
            return Puppet(handle)

        yield make
        for handle in started:
            handle.kill()
            handle.connection.close()

    def test_a_worker_starts_as_recorded(self, start: Any, folder: Path) -> None:
        here = start(3, ("-O",)).here
        assert here["spec"] == {"number": 3}
        assert here["cwd"] == str(folder)
        assert here["optimize"] == 1
        assert (here["environment"]["MINE"], here["environment"]["PYTHONHASHSEED"]) == ("1", "7")
        assert "HOME" not in here["environment"]
        assert here["stdin"] == ""
        assert here["pid"] != os.getpid()

    def test_the_hash_seed_is_that_of_the_environment(self, start: Any) -> None:
        assert start(0).here["hash"] == start(1).here["hash"]

    def test_modules_of_the_working_directory_hide_none(self, start: Any, folder: Path) -> None:
        for name in ("json", "copy", "socket", "flor_trace"):
            (folder / f"{name}.py").write_text("raise SystemExit('the wrong module')")
        puppet = start()
        assert puppet.do("count", 1) == 2
        assert str(folder) not in puppet.here["path"]

    def test_messages_pass_both_ways_in_order_and_whole(self, start: Any) -> None:
        puppet = start()
        assert [puppet.do("count", n) for n in range(20)] == list(range(1, 21))
        assert puppet.do("repeat", 1_000_000) == "x" * 1_000_000

    def test_workers_do_not_hear_each_other(self, start: Any) -> None:
        one, other = start(0), start(1)
        assert (one.do("count", 1), other.do("count", 5), one.do("count", 2)) == (2, 6, 3)

    @pytest.mark.parametrize("status", [0, 3])
    def test_the_exit_status_is_told(self, start: Any, status: int) -> None:
        puppet = start()
        puppet.end(status)
        assert puppet.is_over()
        assert puppet.handle.wait() == status
        assert puppet.handle.wait() == status

    def test_a_dead_worker_ends_its_line_and_tells_the_signal(self, start: Any) -> None:
        puppet = start()
        puppet.next("want")
        puppet.inbox.answer({"do": "die"})
        assert puppet.is_over()
        assert puppet.handle.wait() == -signal.SIGKILL

    def test_a_worker_that_ended_leaves_no_process_behind(self, start: Any) -> None:
        puppet = start()
        child = puppet.do("start")
        puppet.end(0)
        puppet.handle.wait()
        assert gone(child)

    def test_killing_ends_the_worker_and_what_it_started_and_may_be_repeated(self, start: Any) -> None:
        puppet = start()
        child = puppet.do("start")
        puppet.handle.kill()
        assert puppet.is_over()
        assert gone(puppet.here["pid"])
        assert gone(child)
        puppet.handle.kill()
        assert puppet.handle.wait() == -signal.SIGKILL

    def test_standard_error_is_kept_and_mixes_with_nothing(self, start: Any, capfd: pytest.CaptureFixture[str]) -> None:
        puppet = start()
        puppet.do("say", "x" * 100_000 + "the last words \xff")
        assert puppet.handle.errors().endswith("the last words \xff")
        assert len(puppet.handle.errors()) <= 2000
        assert capfd.readouterr() == ("", "")
