"""The functions of h5py that open files."""

from __future__ import annotations

import sys
import types

import pytest

from flor_trace.runtime.native import wrap_native


class _H5f(types.ModuleType):
    """As much of `h5py.h5f` as opens files, in native code as far as anyone can tell."""

    ACC_RDONLY, ACC_RDWR, ACC_TRUNC, ACC_EXCL = 0, 1, 2, 4

    def __init__(self) -> None:
        super().__init__("h5py.h5f")
        self.opened: list[tuple[str, bytes]] = []
        self.open = lambda name, flags=1, fapl=None: self._note("open", name)
        self.create = lambda name, flags=2, fcpl=None, fapl=None: self._note("create", name)
        self.is_hdf5 = lambda name: bool(self._note("is", name))
        self.get_name = lambda name: name

    def _note(self, call: str, name: bytes) -> bytes:
        self.opened.append((call, name))
        return name


class _Driver:
    def get_driver(self) -> int:
        return 7


def test_hdf5_files_are_opened_by_what_is_done_with_them(monkeypatch: pytest.MonkeyPatch) -> None:
    module, h5f = types.ModuleType("h5py"), _H5f()
    module.h5f, module.h5fd = h5f, types.SimpleNamespace(fileobj_driver=7)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "h5py", module)
    original = h5f.open

    def read(path: str) -> str:
        if path == "absent":
            raise FileNotFoundError(path)
        return f"read/{path}"

    def write(path: str) -> str:
        return f"new/{path}"

    def update(path: str) -> str:
        return f"kept/{path}"

    undo = wrap_native("h5py", write, read, update)
    assert wrap_native("h5py", write, read, update) == []
    handles = [h5f.open(b"a", h5f.ACC_RDONLY), h5f.open(b"a"), h5f.create(b"a"), h5f.create(b"a", h5f.ACC_EXCL)]
    assert handles == [b"read/a", b"kept/a", b"new/a", b"kept/a"]
    assert [h5f.get_name(handle) for handle in [*handles, b"other"]] == [b"a"] * 4 + [b"other"]
    assert h5f.create(b"<a file object>", h5f.ACC_TRUNC, None, _Driver()) == b"<a file object>"
    assert (h5f.is_hdf5(b"a"), h5f.is_hdf5(b"absent")) == (True, False)
    with pytest.raises(FileNotFoundError):
        h5f.open(b"absent", h5f.ACC_RDONLY)
    for each in reversed(undo):
        each()
    assert h5f.open is original


def test_a_recording_notes_what_hdf5_writes_and_leaves_reads_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    module, h5f = types.ModuleType("h5py"), _H5f()
    module.h5f, module.h5fd = h5f, types.SimpleNamespace()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "h5py", module)
    noted: list[str] = []

    def note(path: str) -> str:
        noted.append(path)
        return path

    undo = wrap_native("h5py", note)
    h5f.open(b"r", h5f.ACC_RDONLY), h5f.open(b"a", h5f.ACC_RDWR), h5f.create(b"w"), h5f.is_hdf5(b"i")
    assert noted == ["a", "w"]
    assert h5f.opened == [("open", b"r"), ("open", b"a"), ("create", b"w"), ("is", b"i")]
    for each in reversed(undo):
        each()
