"""Functions of libraries that open paths in native code."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest

from flor_trace.runtime.native import wrap_native


def test_a_class_that_cannot_be_subclassed_stays_a_class_of_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """`safetensors.safe_open` is one; a function in its place would be another object to every snapshot."""
    opened = []

    class safe_open:
        def __new__(cls, filename: str, framework: str = "np") -> safe_open:
            opened.append((filename, framework))
            return super().__new__(cls)

        def __init_subclass__(cls) -> None:
            raise TypeError("type 'safe_open' is not an acceptable base type")

    module = types.ModuleType("safetensors")
    module.safe_open = safe_open  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "safetensors", module)

    def through(path: str) -> str:
        return f"scratch/{path}"

    undo = wrap_native("safetensors", through, through)
    wrapped = module.safe_open
    assert type(wrapped) is type and wrapped is not safe_open
    assert (wrapped.__name__, wrapped.__module__) == (safe_open.__name__, safe_open.__module__)
    handles = [wrapped("a", "pt"), wrapped(filename=Path("b")), wrapped(filename=3)]
    assert [type(handle) for handle in handles] == [safe_open] * 3
    assert opened == [("scratch/a", "pt"), ("scratch/b", "np"), (3, "np")]
    assert wrap_native("safetensors", through, through) == []
    for each in reversed(undo):
        each()
    assert module.safe_open is safe_open


def fake_tokenizers() -> types.ModuleType:
    """A module with the methods of `tokenizers` that take paths."""

    class Tokenizer:
        def __init__(self, text: str = "") -> None:
            self.text = text

        def save(self, path: str, pretty: bool = True) -> None:
            Path(path).write_text(self.text if pretty else "")

        @staticmethod
        def from_file(path: str) -> Tokenizer:
            return Tokenizer(Path(path).read_text())

        def train(self, files: list[str], trainer: object = None) -> None:
            self.text = "".join(Path(file).read_text() for file in files)

    class Model:
        def save(self, folder: str, prefix: str | None = None) -> list[str]:
            paths = [Path(folder, name if prefix is None else f"{prefix}-{name}") for name in ("vocab.json", "merges.txt")]
            for path in paths:
                path.write_text(path.name)
            return [str(path) for path in paths]

    class BPE(Model):
        @staticmethod
        def from_file(vocab: str, merges: str) -> tuple[str, str]:
            return Path(vocab).read_text(), Path(merges).read_text()

    module = types.ModuleType("tokenizers")
    module.__dict__.update(Tokenizer=Tokenizer, models=types.SimpleNamespace(Model=Model, BPE=BPE))
    return module


def test_tokenizers_are_saved_to_and_read_from_the_scratch_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A `Trainer` that was given a tokenizer saves it with each checkpoint, in native code."""
    module = fake_tokenizers()
    monkeypatch.setitem(sys.modules, "tokenizers", module)
    user, scratch = tmp_path / "user", tmp_path / "scratch"
    scratch.mkdir()

    def through(path: str) -> str:
        return path.replace(str(user), str(scratch))

    before = [dict(vars(owner)) for owner in (module.Tokenizer, module.models.Model, module.models.BPE)]
    undo = wrap_native("tokenizers", through, through)
    assert wrap_native("tokenizers", through, through) == []
    module.Tokenizer("one").save(f"{user}/a.json", pretty=True)
    module.Tokenizer("two").save(path=user / "b.json")
    read = module.Tokenizer.from_file(f"{user}/a.json")
    assert read.text == "one" and type(read) is module.Tokenizer
    read.train([f"{user}/a.json", f"{user}/b.json"], trainer=None)
    assert read.text == "onetwo"
    assert module.models.BPE().save(str(user)) == [f"{user}/vocab.json", f"{user}/merges.txt"]
    assert module.models.BPE().save(str(user), prefix="x") == [f"{user}/x-vocab.json", f"{user}/x-merges.txt"]
    assert module.models.BPE.from_file(f"{user}/vocab.json", merges=f"{user}/x-merges.txt") == ("vocab.json", "x-merges.txt")
    assert not user.exists() and len(list(scratch.iterdir())) == 6
    for each in reversed(undo):
        each()
    assert before == [dict(vars(owner)) for owner in (module.Tokenizer, module.models.Model, module.models.BPE)]


def test_what_tokenizers_read_is_left_alone_while_recording(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    module = fake_tokenizers()
    monkeypatch.setitem(sys.modules, "tokenizers", module)
    noted: list[str] = []

    def note(path: str) -> str:
        noted.append(path)
        return path

    reader = vars(module.Tokenizer)["from_file"]
    undo = wrap_native("tokenizers", note)
    assert vars(module.Tokenizer)["from_file"] is reader
    module.Tokenizer("one").save(f"{tmp_path}/a.json")
    module.models.BPE().save(str(tmp_path), "p")
    assert noted == [f"{tmp_path}/a.json", f"{tmp_path}/p-vocab.json", f"{tmp_path}/p-merges.txt"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "p-merges.txt", "p-vocab.json"]
    for each in reversed(undo):
        each()
