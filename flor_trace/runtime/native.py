"""Library functions that open a path in native code, where neither audit events nor patched builtins see it.

Both sides use this: recording lets the path through and notes it, replay exchanges it. Call `wrap_native(library, …)`
right after the import of each library in `LIBRARIES`. Found the same in torch 2.2 and 2.13: `torch.save(path)` ends in
`torch._C.PyTorchFileWriter(path)`, looked up as an attribute at each call; `torch.load(path)` uses the builtin `open`
except with `mmap=True`, which maps the path through `UntypedStorage.from_file`.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from typing import Any

from flor_trace.runtime.hdf5 import wrap_h5py

PathMap = Callable[[str], str]
Undo = Callable[[], None]

LIBRARIES = ("torch", "torch.jit", "safetensors", "safetensors.torch", "safetensors.numpy", "tokenizers", "h5py")
"""The modules after whose import `wrap_native` is to be called."""
_VOCABULARIES = {
    "BPE": ("vocab.json", "merges.txt"), "Unigram": ("unigram.json",), "WordLevel": ("vocab.json",), "WordPiece": ("vocab.txt",)
}  # fmt: skip
"""The files that a tokenizer's model writes into the folder that it is given."""


def wrap_native(
    library: str, for_write: PathMap, for_read: PathMap | None = None, for_update: PathMap | None = None
) -> list[Undo]:
    """Make `library` pass each path that it opens natively through the maps; without `for_read` reads are left alone.

    `for_update` (default: `for_write`) is for files of which the present content is kept.

    Gives the calls that undo it, to be made in reverse order. A library that is not fully imported, or lacks a
    function, is wrapped as far as it goes; wrapping again after more was imported adds only what is missing.
    """
    module = sys.modules.get(library)
    if module is None:
        return []
    if library == "torch":
        return _wrap_torch(module, for_write, for_read, for_update or for_write)
    if library == "torch.jit":
        return _wrap_jit(module, for_write)
    if library == "tokenizers":
        return _wrap_tokenizers(module, for_write, for_read)
    if library == "h5py":
        return wrap_h5py(module, for_write, for_read, for_update or for_write)
    return _wrap_safetensors(module, for_write, for_read)


def wrap_loaded(
    for_write: PathMap, for_read: PathMap | None = None, for_update: PathMap | None = None
) -> list[Undo]:
    """`wrap_native` for every library that has been imported already."""
    return [undo for library in LIBRARIES for undo in wrap_native(library, for_write, for_read, for_update)]


def _mapped(path: Any, through: PathMap) -> Any:
    return through(os.fsdecode(path)) if isinstance(path, (str, bytes, os.PathLike)) else path


def _exchange(owner: Any, name: str, original: Any, value: Any) -> list[Undo]:
    setattr(owner, name, value)
    return [lambda: setattr(owner, name, original)]


def _is_ours(value: Any, through: PathMap) -> bool:
    """Whether `value` was made here for the same map; another map may wrap it once more."""
    return bool(vars(value).get("@flor", None) == through)


def _calling(original: Callable[..., Any], through: PathMap, position: int, keyword: str) -> Callable[..., Any]:
    """`original`, with the path that it is given at a position, or by a keyword, mapped."""

    def call(*args: Any, **kwargs: Any) -> Any:
        if len(args) > position:
            args = (*args[:position], _mapped(args[position], through), *args[position + 1 :])
        elif keyword in kwargs:
            kwargs[keyword] = _mapped(kwargs[keyword], through)
        return original(*args, **kwargs)

    return call


def _replace(owner: Any, name: str, through: PathMap, position: int, keyword: str) -> list[Undo]:
    original = getattr(owner, name, None)
    if original is None or (hasattr(original, "__dict__") and _is_ours(original, through)):
        return []

    call = functools.wraps(original)(_calling(original, through, position, keyword))
    call.__dict__["@flor"] = through
    return _exchange(owner, name, original, call)


def _subclass(owner: Any, name: str, through: PathMap) -> list[Undo]:
    """Replace a native class by a subclass whose first argument is mapped, so that `isinstance` keeps its meaning."""
    original = getattr(owner, name, None)
    if original is None or _is_ours(original, through):
        return []

    def initialise(self: Any, path: Any, *args: Any, **kwargs: Any) -> None:
        original.__init__(self, _mapped(path, through), *args, **kwargs)

    members = {"__init__": initialise, "__module__": original.__module__, "__doc__": original.__doc__, "@flor": through}
    return _exchange(owner, name, original, type(original)(original.__name__, (original,), members))


def _stand_in(owner: Any, name: str, through: PathMap, keyword: str) -> list[Undo]:
    """Replace a native class that cannot be subclassed by one of its name that makes its instances, with the first argument mapped.

    A snapshot tells a class's type as well, so this one has no type of its own that could answer `isinstance`.
    """
    original = getattr(owner, name, None)
    if original is None or _is_ours(original, through):
        return []

    call = _calling(original, through, 0, keyword)

    def make(_: type, *args: Any, **kwargs: Any) -> Any:
        return call(*args, **kwargs)

    members = {"__new__": make, "__module__": original.__module__, "__doc__": original.__doc__, "@flor": through}
    return _exchange(owner, name, original, type(original.__name__, (), members))


def _wrap_torch(torch: Any, for_write: PathMap, for_read: PathMap | None, for_update: PathMap) -> list[Undo]:
    undo = _subclass(torch._C, "PyTorchFileWriter", for_write)
    for owner in (torch.UntypedStorage, torch):
        undo += _wrap_from_file(owner, for_update, for_read)
    if for_read is not None:
        undo += _subclass(torch._C, "PyTorchFileReader", for_read)
        undo += _replace(torch._C, "import_ir_module", for_read, 1, "filename")
    return undo + _wrap_jit(torch.jit, for_write)


def _wrap_from_file(owner: Any, for_update: PathMap, for_read: PathMap | None) -> list[Undo]:
    own = "from_file" in vars(owner)
    original = getattr(owner, "from_file", None)
    if original is None or (hasattr(original, "__dict__") and _is_ours(original, for_update)):
        return []

    def map_file(path: str, shared: Any) -> str:
        # A file mapped with shared=True is written through the mapping; otherwise it is only read.
        if not shared:
            return path if for_read is None else for_read(path)
        return for_update(path)

    @functools.wraps(original)
    def from_file(*args: Any, **kwargs: Any) -> Any:
        shared = args[1] if len(args) > 1 else kwargs.get("shared", False)
        if args:
            args = (_mapped(args[0], lambda path: map_file(path, shared)), *args[1:])
        elif "filename" in kwargs:
            kwargs["filename"] = _mapped(kwargs["filename"], lambda path: map_file(path, shared))
        return original(*args, **kwargs)

    from_file.__dict__["@flor"] = for_update
    if not isinstance(owner, type):
        return _exchange(owner, "from_file", original, from_file)
    before = vars(owner).get("from_file")
    owner.from_file = staticmethod(from_file)  # type: ignore[attr-defined]
    if own:
        return [lambda: setattr(owner, "from_file", before)]
    return [lambda: delattr(owner, "from_file")]


def _wrap_jit(jit: Any, for_write: PathMap) -> list[Undo]:
    owner = getattr(getattr(jit, "_script", None), "RecursiveScriptModule", None)
    return [] if owner is None else _replace(owner, "save", for_write, 1, "f")


def _wrap_safetensors(module: Any, for_write: PathMap, for_read: PathMap | None) -> list[Undo]:
    undo = _replace(module, "serialize_file", for_write, 1, "filename")
    if for_read is not None:
        undo += _stand_in(module, "safe_open", for_read, "filename")
    return undo


def _wrap_tokenizers(module: Any, for_write: PathMap, for_read: PathMap | None) -> list[Undo]:
    tokenizer, models = getattr(module, "Tokenizer", None), getattr(module, "models", None)
    undo = _replace(tokenizer, "save", for_write, 1, "path")
    undo += _wrap_vocabularies(getattr(models, "Model", None), for_write)
    if for_read is not None:
        readers = [(getattr(models, name, None), reader) for name in _VOCABULARIES for reader in ("from_file", "read_file")]
        for owner, reader in [(tokenizer, "from_file"), (tokenizer, "train"), *readers]:
            undo += _wrap_reader(owner, reader, for_read)
    return undo


def _wrap_vocabularies(model: Any, for_write: PathMap) -> list[Undo]:
    """`model.save(folder, prefix)`, which makes several files in one folder and returns their paths."""
    original = getattr(model, "save", None)
    if original is None or (hasattr(original, "__dict__") and _is_ours(original, for_write)):
        return []

    @functools.wraps(original)
    def save(self: Any, folder: Any, prefix: str | None = None, **kwargs: Any) -> Any:
        names = _VOCABULARIES.get(type(self).__name__)
        prefix = kwargs.pop("name", prefix)  # the name of this argument before version 0.10
        if names is None or kwargs:
            return original(self, folder, prefix, **kwargs)
        prefixed = names if prefix is None else [f"{prefix}-{name}" for name in names]
        places = [for_write(os.path.join(os.fsdecode(folder), name)) for name in prefixed]
        return [os.path.join(folder, os.path.basename(path)) for path in original(self, os.path.dirname(places[0]), prefix)]

    save.__dict__["@flor"] = for_write
    return _exchange(model, "save", original, save)


def _wrap_reader(owner: Any, name: str, for_read: PathMap) -> list[Undo]:
    """A method, static or not, that reads all files whose names it is given, one by one or in a list."""
    original = getattr(owner, name, None)
    if original is None or (hasattr(original, "__dict__") and _is_ours(original, for_read)):
        return []
    before = vars(owner)[name]

    def mapped(value: Any) -> Any:
        return [_mapped(path, for_read) for path in value] if isinstance(value, list) else _mapped(value, for_read)

    @functools.wraps(original)
    def read(*args: Any, **kwargs: Any) -> Any:
        return original(*map(mapped, args), **{key: mapped(value) for key, value in kwargs.items()})

    read.__dict__["@flor"] = for_read
    setattr(owner, name, staticmethod(read) if isinstance(before, staticmethod) else read)
    return [lambda: setattr(owner, name, before)]
