"""The user's sources that a script consists of: itself, and the modules of its own that it imports, found without running anything."""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.machinery import PathFinder

from flor_trace.errors import UsageError
from flor_trace.instrument.policy import Policy

MAX_MODULES = 500


@dataclass(frozen=True)
class Source:
    """One parsed file, with its path as it is shown to the user."""

    path: str
    tree: ast.Module


def read_sources(script: str) -> tuple[list[Source], list[str]]:
    """The script's sources, itself first, and the names of the installed top-level modules that they import.

    Raises:
        UsageError: the script cannot be read or parsed.
    """
    return _read(script, "", _search_path(os.path.dirname(os.path.abspath(script))))


def read_module_sources(name: str) -> tuple[list[Source], list[str]]:
    """The same for what `python -m NAME` executes, without importing the packages that it is in.

    Raises:
        UsageError: there is no such module here, or it cannot be read or parsed.
    """
    path = _search_path(os.getcwd())
    found = _find(name, path)
    if found is not None and os.path.basename(found) == "__init__.py":
        package = os.path.dirname(found)
        found = os.path.join(package, "__main__.py") if os.path.basename(package) == name.rpartition(".")[2] else None
        name = f"{name}.__main__" if found is not None else name
    if found is None or not os.path.isfile(found):
        raise UsageError(f"doctor: there is no module {name} in {os.getcwd()} or PYTHONPATH: call doctor where you would train")
    return _read(os.path.relpath(found), name.rpartition(".")[0], path)


def _search_path(folder: str) -> list[str]:
    return [folder, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]


def _read(script: str, package: str, path: list[str]) -> tuple[list[Source], list[str]]:
    policy = Policy()
    main = _parsed(script)
    if isinstance(main, str):
        raise UsageError(f"{script} {main}")
    sources, installed, todo = [main], set[str](), list(_imported(main.tree, package))
    # Names that are imported from a module look like modules in it, and are found in its file again.
    seen, read = set[str](), {os.path.realpath(script)}
    while todo and len(sources) < MAX_MODULES:
        name = todo.pop(0)
        if name in seen:
            continue
        seen.add(name)
        found = _find(name, path)
        if found is None or not policy.is_users(name, found):
            installed.add(name.partition(".")[0])
            continue
        if os.path.realpath(found) in read:
            continue
        read.add(os.path.realpath(found))
        source = _parsed(found, os.path.relpath(found) if found.startswith(os.getcwd() + os.sep) else found)
        if isinstance(source, Source):
            sources.append(source)
            todo += _imported(source.tree, name if os.path.basename(found) == "__init__.py" else name.rpartition(".")[0])
    return sources, sorted(installed)


def _parsed(path: str, shown: str | None = None) -> Source | str:
    try:
        with open(path, "rb") as file:
            return Source(shown or path, ast.parse(file.read(), path))
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    except (SyntaxError, ValueError) as error:
        return f"is not valid Python: {error}"


def _find(name: str, path: list[str]) -> str | None:
    """The file of a module in the script's own folders; packages are followed down without being executed."""
    search: list[str] | None = path
    origin = None
    for depth, part in enumerate(name.split(".")):
        spec = PathFinder.find_spec(part if depth == 0 else f"x.{part}", search)
        if spec is None:
            return origin if depth else None
        origin = spec.origin
        search = list(spec.submodule_search_locations) if spec.submodule_search_locations is not None else []
    return origin if origin and origin.endswith(".py") else None


def _imported(tree: ast.Module, package: str) -> Iterator[str]:
    """The full names of the modules that may be imported, those that only look like modules included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name not in sys.builtin_module_names)
        elif isinstance(node, ast.ImportFrom):
            base = package.rsplit(".", node.level - 1)[0] if node.level else ""
            full = ".".join(filter(None, (base, node.module)))
            if full:
                yield full
            if node.level or not full or _may_be_package(full):
                yield from (f"{full}.{alias.name}" if full else alias.name for alias in node.names if alias.name != "*")


def _may_be_package(name: str) -> bool:
    return name.partition(".")[0] not in sys.stdlib_module_names
