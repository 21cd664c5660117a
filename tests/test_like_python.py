"""Recording behaves as `python` does: each little program is run both ways, and nothing that a user sees may differ."""

from __future__ import annotations

import re
import shlex
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent / "instrument"))
from runners import outcome, run_recorded

MAIN_IDENTITY = """
import sys
me = sys.modules["__main__"]
print(__name__, me.__dict__ is globals(), me.__class__, __builtins__, list(globals()))
print(__file__, __spec__, __package__, __cached__, __doc__, __annotations__, type(__loader__), __loader__.name, __loader__.path)
print(sys.argv, sys.orig_argv, sys.path, sys.flags, sys.warnoptions, sys.executable, sys.prefix)
print("random" in sys.modules, len(sys.orig_argv), __loader__.get_filename(), __loader__.is_package("__main__"))
import os; print({k: v for k, v in os.environ.items() if k != "_" and not k.startswith("FLOR_TRACE_")})
"""
PACKAGE = {
    "pkg/__init__.py": "print('init', __name__)\n",
    "pkg/__main__.py": "from . import mod\nfrom .mod import f\nimport sys\nprint(sys.argv, f(3), __package__, __spec__.name)\n",
    "pkg/mod.py": "def f(n):\n    s = 0\n    for i in range(n):\n        s += i\n    return s\n",
    "pkg/bad.py": "def f():\n    for i in range(3):\n        1 / 0\nf()\n",
}
LEAVES = "import atexit, os\natexit.register(lambda: os._exit(4))\nfor i in range(2): print('a', i)\n"
POOL = """
import multiprocessing as mp, os, sys, pickle
class Point:
    def __init__(self, x): self.x = x
    def __repr__(self): return f"Point({self.x})"
def work(p):
    total = 0
    for i in range(p.x):
        total += i
    return Point(total), __name__, sys.argv, os.environ.get("PYTHONHASHSEED"), pickle.loads(pickle.dumps(p)).x
if __name__ == "__main__":
    with mp.get_context(%r).Pool(2) as pool:
        for out in pool.map(work, [Point(i) for i in range(4)]):
            print(out)
"""


def case(name: str, source: str | Mapping[str, str | bytes], *arguments: str, **more: Any) -> Any:
    files = {"main.py": source} if isinstance(source, str) else source
    return pytest.param(files, arguments or ("main.py",), more, id=name)


def zipped(folder: Path) -> None:
    with zipfile.ZipFile(folder / "app.zip", "w") as archive:
        for name in ("pkg/__init__.py", "pkg/__main__.py", "pkg/mod.py"):
            archive.writestr(zipfile.ZipInfo(name), PACKAGE[name])
        source = "import sys, pkg.mod\nprint(pkg.mod.f(9), pkg.mod.__loader__, sys.argv, sys.path[0])\n1/0\n"
        archive.writestr(zipfile.ZipInfo("__main__.py"), source)


DEEP = "".join("    " * (i + 1) + f"for i{i} in range(2):\n" for i in range(15))
SPECIAL: dict[str, dict[str, Any]] = {
    "syntax-warning-is-error": {"options": ["-W", "error"]},
    "flush-fails": {"stdout": "/dev/full"},
    "streams": {"stdin": b"hello"},
}
PROGRAMS = Path(__file__).parent / "instrument" / "programs.txt"


def programs() -> Iterator[Any]:
    """The cases of `programs.txt`: `=== name`, `$ arguments of python`, then `--- file` before each file's text."""
    for section in PROGRAMS.read_text().split("=== ")[1:]:
        head, *parts = section.split("--- ")
        name, arguments = head.splitlines()[:2]
        files = dict(part.split("\n", 1) for part in parts)
        yield case(name, files, *shlex.split(arguments.removeprefix("$")), **SPECIAL.get(name, {}))


CASES = [
    *programs(),
    case("main", MAIN_IDENTITY, "main.py", "--lr", "0.1", "--", "-x"),
    case("main-dot-path", MAIN_IDENTITY, "./main.py"),
    case("main-in-folder", {"sub/main.py": MAIN_IDENTITY, "sub/helper.py": ""}, "sub/main.py"),
    case("options", MAIN_IDENTITY, options=["-W", "error::UserWarning", "-Xdev", "-u", "-O"]),
    case("isolated", MAIN_IDENTITY, options=["-P"]),
    case("hash-seed-given", MAIN_IDENTITY + "print(hash('a'))\n", environment={"PYTHONHASHSEED": "7"}),
    case("code-raises", {}, "-c", "def f():\n    for i in range(2): 1/0\nf()"),
    case("module", PACKAGE, "-m", "pkg", "x", "-y"),
    case("module-raises", PACKAGE, "-m", "pkg.bad"),
    case("module-identity", {"m.py": MAIN_IDENTITY.replace("__loader__.path", "1")}, "-m", "m", "q"),
    case("module-missing", PACKAGE, "-m", "pkg.none"),
    case("zip", PACKAGE, "app.zip", "a", prepare=zipped),
    case("zip-module", PACKAGE, "-m", "pkg", prepare=zipped, environment={"PYTHONPATH": "app.zip"}),
    case("not-utf8", {"main.py": b"x = '\xff'\n"}),
    case("null-byte", {"main.py": b"x = 1\0\n"}),
    case("bom", {"main.py": b"\xef\xbb\xbfprint('\xc3\xa9')\nfor i in range(2): print(i)\n"}),
    case("latin-1", {"main.py": b"# -*- coding: latin-1 -*-\nfor i in range(2): print('\xe9', i)\n1/0 # \xe9\n"}),
    # plain Python has flushed all output behind the script, and not behind `-c` code or a module
    case("exit-handler-leaves", LEAVES),
    case("exit-handler-leaves-error", LEAVES + "1 / 0\n"),
    case("exit-handler-leaves-code", {}, "-c", LEAVES),
    case("exit-handler-leaves-module", {"m.py": LEAVES}, "-m", "m"),
    case("pool-fork", POOL % "fork"),
    case("pool-spawn", POOL % "spawn"),
    case("pool-forkserver", POOL % "forkserver"),
    case("spawn-module", {"pkg/__init__.py": "", "pkg/run.py": POOL % "spawn"}, "-m", "pkg.run"),
    case("deep-elif", "n = 299\nif n < 0: pass\n" + "".join(f"elif n == {i}: print({i})\n" for i in range(300))),
    case("deep-sum", "print(" + "+".join(["1"] * 1500) + ")\nfor i in range(2): print(i)\n"),
    case("deep-blocks", "def f():\n" + DEEP + "    " * 16 + "return i0\nprint(f())\n"),
]  # fmt: skip


ADDRESS = re.compile(rb"0x[0-9a-f]{6,}|\b\d{4,}\b(?=>)")


def readable(text: bytes) -> bytes:
    """Without addresses, which differ from run to run in plain Python too."""
    return ADDRESS.sub(b"0x", text)


@pytest.mark.parametrize(("files", "arguments", "more"), CASES)
def test_like_python(
    tmp_path: Path, files: Mapping[str, str | bytes], arguments: Sequence[str], more: dict[str, Any]
) -> None:
    folder = tmp_path / "w"
    folder.mkdir()
    more = {**more, "prepare": more.get("prepare", Path.exists)}
    plain = outcome(folder, files, arguments, **more)
    recorded = run_recorded(folder, files, arguments, **more)
    assert readable(recorded.stdout).decode(errors="replace") == readable(plain.stdout).decode(errors="replace")
    assert readable(recorded.stderr).decode(errors="replace") == readable(plain.stderr).decode(errors="replace")
    assert recorded.status == plain.status
    assert recorded.files == plain.files


