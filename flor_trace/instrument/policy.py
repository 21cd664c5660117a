"""Which modules are instrumented: the user's, which is all that is found outside installed code, whatever the user adds, and those of
well-known trainers.

The user's are chosen by exclusion, so that `src/` beside `scripts/` counts without being named.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable

from .trainers import TRAINERS

_INSTALLED_FOLDERS = frozenset({"site-packages", "dist-packages"})
_COMPILED_HINTS = (b"torch.compile", b".compile(", b"torch.jit", b"torch.fx", b"torch.export")


class Policy:
    """Decides by module name and path prefix which modules are instrumented."""

    def __init__(self, extra: Iterable[str] = ()) -> None:
        self.extra = tuple(extra)
        self._dotted = tuple(name + "." for name in self.extra)
        self._installed = installed_prefixes()
        self._put: dict[str, frozenset[str]] = {}
        self._compiles = False

    def instruments(self, module: str, filename: str) -> bool:
        """Whether the module `module` found at `filename` is to be instrumented."""
        return module in TRAINERS or self.is_users(module, filename)

    def recorded_loops(self, module: str, filename: str) -> frozenset[str] | None:
        """The qualified names of the functions whose loops are recorded; None for all, as in every module of the user's."""
        return TRAINERS[module] if module in TRAINERS and not self.is_users(module, filename) else None

    def is_users(self, module: str, filename: str) -> bool:
        """Whether the module is not of installed code, or the user has added it."""
        if self.extra and (module in self.extra or module.startswith(self._dotted)):
            return True
        path = os.path.abspath(filename)
        if path.startswith(self._installed) or _INSTALLED_FOLDERS.intersection(path.split(os.sep)):
            return False
        return not self._put_by_pip(module, path)

    def _put_by_pip(self, module: str, path: str) -> bool:
        """Whether `pip install --target` has put this file there, which may be a folder with user code beside it."""
        depth = module.count(".") + (os.path.basename(path) == "__init__.py")
        folder = path
        for _ in range(depth + 1):
            folder = os.path.dirname(folder)
        if folder not in self._put:
            self._put[folder] = _recorded_names(folder)
        return os.path.relpath(path, folder).split(os.sep)[0] in self._put[folder]

    def spares_functions(self, source: bytes) -> bool:
        """Whether functions get no probes, because they may be handed to a compiler of torch's.

        Once a module mentions one, this holds for those that are loaded later too: `train.py` compiles the functions of
        `model.py`, which it imports.
        """
        if not self._compiles:
            self._compiles = any(hint in source for hint in _COMPILED_HINTS)
        return self._compiles


def _recorded_names(folder: str) -> frozenset[str]:
    """The files and folders directly in `folder` that belong to distributions, by the lists that pip leaves beside them."""
    try:
        lists = [os.path.join(folder, name, "RECORD") for name in os.listdir(folder) if name.endswith(".dist-info")]
    except OSError:  # a module in an archive, or one whose file was never there
        return frozenset()
    names = set()
    for record in filter(os.path.isfile, lists):
        with open(record, encoding="utf-8", errors="replace") as lines:
            names |= {line.partition(",")[0].strip('"').split("/")[0] for line in lines}
    return frozenset(names)


def installed_prefixes() -> tuple[str, ...]:
    """Folders, each with a trailing separator, that hold the standard library, the environment's packages and us."""
    found = {os.path.dirname(os.__file__), os.path.dirname(os.path.dirname(os.path.abspath(__file__)))}
    for prefix in (sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix):
        for lib in ("lib", "lib64", "Lib"):
            found.add(os.path.join(prefix, lib))
    zipped = [entry for entry in sys.path if entry.endswith(f"python{sys.version_info[0]}{sys.version_info[1]}.zip")]
    found.update(zipped)
    found |= {os.path.realpath(path) for path in found}
    return tuple(sorted(path.rstrip(os.sep) + os.sep for path in found))
