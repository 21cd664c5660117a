from __future__ import annotations

import os
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from flor_trace import __version__, cli
from flor_trace.errors import CorruptRecord, UsageError
from flor_trace.store import writer


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["train.py"], ({}, "file", "train.py", [])),
        (["train.py", "-q", "--lr", "0.1", "--store", "x"], ({}, "file", "train.py", ["-q", "--lr", "0.1", "--store", "x"])),
        (["-q", "train.py", "-q"], ({"quiet": True}, "file", "train.py", ["-q"])),
        (["--store", "s", "--name=n=1", "train.py"], ({"store": "s", "name": "n=1"}, "file", "train.py", [])),
        (["--tag", "a=1", "--tag=b=2", "--instrument", "p", "t.py"], ({"tag": ["a=1", "b=2"], "instrument": ["p"]}, "file", "t.py", [])),
        (["--every", "auto", "--overhead", "0.1", "t.py"], ({"every": "auto", "overhead": "0.1"}, "file", "t.py", [])),
        (["-m", "pkg.mod", "-c", "x"], ({}, "module", "pkg.mod", ["-c", "x"])),
        (["-mpkg.mod", "--name", "x"], ({}, "module", "pkg.mod", ["--name", "x"])),
        (["-q", "-c", "print(1)", "--", "-m"], ({"quiet": True}, "code", "print(1)", ["--", "-m"])),
        (["-cprint(1)"], ({}, "code", "print(1)", [])),
        (["--", "train.py", "--", "x"], ({}, "file", "train.py", ["--", "x"])),
        (["--", "-odd-name.py", "x"], ({}, "file", "-odd-name.py", ["x"])),
        (["-q", "--", "-m", "mod", "a"], ({"quiet": True}, "module", "mod", ["a"])),
        (["-", "x"], ({}, "file", "-", ["x"])),
        (["t.py", ""], ({}, "file", "t.py", [""])),
    ],
)
def test_record_takes_its_options_and_leaves_the_scripts(words: list[str], meant: tuple[Any, ...]) -> None:
    assert cli.parse_record(words) == meant


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "needs a script"),
        (["-q"], "needs a script"),
        (["--"], "needs a script"),
        (["-m"], "-m needs a module"),
        (["--", "-c"], "-c needs code"),
        (["--store"], "--store needs a value"),
        (["--stroe", "x", "t.py"], "no option --stroe"),
        (["-x", "t.py"], "no option -x"),
    ],
)
def test_record_refuses_what_it_does_not_know(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["record", *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("flor_trace: record ")
    assert message in err
    assert err.count("\n") == 1


def test_record_hands_on_to_the_session(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls: list[tuple[Any, ...]] = []
    module = types.ModuleType("flor_trace.record.command")
    module.record = lambda *words: calls.append(words) or 7  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "flor_trace.record.command", module)
    monkeypatch.chdir(tmp_path)
    assert cli.main(["record", "--name", "n", "train.py", "--lr", "0.1"]) == 7
    ((kind, target, args, options),) = calls
    assert (kind, target, args) == ("file", "train.py", ["--lr", "0.1"])
    assert (options.name, options.store) == ("n", str(tmp_path / ".flor"))


def test_replay_hands_on_to_its_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls: list[Any] = []
    module = types.ModuleType("flor_trace.replay.command")
    module.replay = lambda options: calls.append(options) or 3  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "flor_trace.replay.command", module)
    monkeypatch.chdir(tmp_path)
    for words in (["--workers", "8", "--iterations", "2:5", "--", "train.py"], ["train.py", "--iterations=2:5", "--workers", "8"]):
        assert cli.main(["replay", *words]) == 3
        options = calls.pop()
        assert (options.file, options.workers, options.iterations, options.dry_run) == ("train.py", 8, (2, 5), False)
    assert cli.main(["replay", "--run", "@last", "--dry-run", "--json", "--accept-changes", "--show", "all", "--init", "weak"]) == 3
    options = calls.pop()
    assert (options.file, options.run, options.dry_run, options.json, options.accept_changes) == (None, "@last", True, True, True)
    assert (options.show, options.init, options.origin["show"], options.origin["workers"]) == ("all", "weak", "command line", "default")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["replay", "train.py", "--lr", "0.1"], "takes the script's arguments from the record: leave out --lr 0.1"),
        (["replay", "train.py", "data"], "takes the script's arguments from the record: leave out data"),
        (["replay", "--wrokers", "8"], "knows no option --wrokers"),
        (["replay", "--workers"], "expected one argument"),
        (["replay", "--workers", "many"], "--workers must be a whole number from 1 on, or auto, not 'many'"),
        (["show", "--store", "/nonexistent"], "no run is recorded in /nonexistent"),
        (["rm"], "RUN"),
        (["frobnicate"], "there is no command 'frobnicate'"),
        (["recrod", "train.py"], "did you mean record?"),
        (["train.py", "--lr", "1"], "write `flor_trace record train.py`"),
        (["doctor"], "doctor: it needs FILE"),
        (["replay", "--store", "/nonexistent", "nosuch.py"], "no run of nosuch.py is recorded in /nonexistent, which does not exist"),
    ],
)
def test_a_wrong_use_is_one_sentence_and_status_2(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.startswith("flor_trace: ")
    assert err.count("\n") == 1


def test_errors_carry_their_exit_status(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for error, status in ((CorruptRecord("it is damaged"), 1), (UsageError("not so"), 2)):

        def fail(_: object, error: Exception = error) -> int:
            raise error

        monkeypatch.setattr(cli, "_dispatch", fail)
        assert cli.main([]) == status
        assert capsys.readouterr().err == f"flor_trace: {error}\n"


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    assert cli.main(["record", "--help"]) == 0
    assert cli.main(["--version"]) == 0
    out = capsys.readouterr().out
    assert "usage: flor_trace record" in out
    assert out.endswith(f"{__version__}\n")
    assert cli.main([]) == 2
    assert "usage:" in capsys.readouterr().err
    for command in ("replay", "runs", "show", "logs", "verify", "rm", "gc"):
        with pytest.raises(SystemExit) as caught:
            cli.main([command, "--help"])
        assert caught.value.code == 0
        assert f"usage: flor_trace {command}" in capsys.readouterr().out


def module_run(*words: str, cwd: Path, **more: Any) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    return subprocess.Popen(
        [sys.executable, "-m", "flor_trace", *words], cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more
    )


def test_as_a_module_with_the_default_store(tmp_path: Path) -> None:
    run = writer.create(str(tmp_path / ".flor"), script="t.py", argv=["t.py"])
    for _ in range(20_000):
        run.event("output", stream="stdout", text="a line of the log\n")
    run.close(0)
    with module_run("runs", cwd=tmp_path) as process:
        out, err = process.communicate(timeout=60)
    assert run.run_id.encode() in out
    assert (err, process.returncode) == (b"", 0)
    # `flor_trace logs | head -1`
    with module_run("logs", cwd=tmp_path) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"a line of the log\n"
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 0


def test_queries_load_no_torch(tmp_path: Path) -> None:
    program = "import sys; from flor_trace.cli import main; main(['runs']); print(*sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert not {"torch", "numpy", "pandas", "psutil", "cloudpickle"} & set(done.stdout.split())


def test_a_reader_that_has_gone_ends_a_command_quietly() -> None:
    reader, writing_end = os.pipe()
    os.close(reader)
    try:
        run = subprocess.run([sys.executable, "-m", "flor_trace", "--help"], stdout=writing_end, stderr=subprocess.PIPE, text=True)
    finally:
        os.close(writing_end)
    assert (run.returncode, run.stderr) == (cli.BROKEN_PIPE_STATUS, "")


@pytest.mark.parametrize(
    ("command", "status"),
    [("doctor", "3  something will be"), ("replay", "3  the replay diverged"), ("runs", "0  also"), ("verify", "1  stored bytes")],
)
def test_help_tells_the_exit_statuses(command: str, status: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main([command, "--help"])
    assert status in capsys.readouterr().out.partition("exit statuses:")[2]
