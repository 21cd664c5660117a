"""Recording behaves as `python` does: each little program is run both ways, and nothing that a user sees may differ."""

from __future__ import annotations

import re
import sys
import zipfile
from collections.abc import Mapping, Sequence
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
print(len(sys.orig_argv), __loader__.get_filename(), __loader__.is_package("__main__"))
import os; print({k: v for k, v in os.environ.items() if k != "_" and not k.startswith("FLOR_TRACE_")})
"""
PACKAGE = {
    "pkg/__init__.py": "print('init', __name__)\n",
    "pkg/__main__.py": "from . import mod\nfrom .mod import f\nimport sys\nprint(sys.argv, f(3), __package__, __spec__.name)\n",
    "pkg/mod.py": "def f(n):\n    s = 0\n    for i in range(n):\n        s += i\n    return s\n",
    "pkg/bad.py": "def f():\n    for i in range(3):\n        1 / 0\nf()\n",
}
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
LINES = "\n" * 3


def case(name: str, source: str | Mapping[str, str | bytes], *arguments: str, **more: Any) -> Any:
    files = {"main.py": source} if isinstance(source, str) else source
    return pytest.param(files, arguments or ("main.py",), more, id=name)


def zipped(folder: Path) -> None:
    with zipfile.ZipFile(folder / "app.zip", "w") as archive:
        for name in ("pkg/__init__.py", "pkg/__main__.py", "pkg/mod.py"):
            archive.writestr(zipfile.ZipInfo(name), PACKAGE[name])
        archive.writestr(zipfile.ZipInfo("__main__.py"), "import sys, pkg.mod\nprint(pkg.mod.f(9), pkg.mod.__loader__, sys.argv, sys.path[0])\n1/0\n")


CASES = [
    case("main", MAIN_IDENTITY, "main.py", "--lr", "0.1", "--", "-x"),
    case("main-dot-path", MAIN_IDENTITY, "./main.py"),
    case("main-in-folder", {"sub/main.py": MAIN_IDENTITY, "sub/helper.py": ""}, "sub/main.py"),
    case("options", MAIN_IDENTITY, options=["-W", "error::UserWarning", "-Xdev", "-u", "-O"]),
    case("isolated", MAIN_IDENTITY, options=["-P"]),
    case("hash-seed-given", MAIN_IDENTITY + "print(hash('a'))\n", environment={"PYTHONHASHSEED": "7"}),
    case("code", {}, "-c", "import sys; print(sys.argv, sys.orig_argv, repr(sys.path[0]), list(globals()), __loader__)", "a"),
    case("code-raises", {}, "-c", "def f():\n    for i in range(2): 1/0\nf()"),
    case("code-syntax", {}, "-c", "for for"),
    case("module", PACKAGE, "-m", "pkg", "x", "-y"),
    case("module-raises", PACKAGE, "-m", "pkg.bad"),
    case("module-identity", {"m.py": MAIN_IDENTITY.replace("__loader__.path", "1")}, "-m", "m", "q"),
    case("module-missing", PACKAGE, "-m", "pkg.none"),
    case("module-is-library", {}, "-m", "this"),
    case("module-syntax", {"m.py": "x = (\n"}, "-m", "m"),
    case("folder", {"app/__main__.py": "import sys; print(sys.argv, sys.path[0], __file__, __package__); 1/0\n"}, "app"),
    case("folder-empty", {"app/readme": ""}, "app"),
    case("zip", PACKAGE, "app.zip", "a", prepare=zipped),
    case("zip-module", PACKAGE, "-m", "pkg", prepare=zipped, environment={"PYTHONPATH": "app.zip"}),
    case("missing-file", {"x.py": ""}, "nothing.py"),
    case("syntax-error", "for i in range(3):\n    print(i\n"),
    case("syntax-error-later", "def f():\n    x = 1\n    global x\n"),
    case("syntax-error-imported", {"main.py": "print(1)\nimport bad\n", "bad.py": "def f(:\n"}),
    case("return-outside", "for i in range(3):\n    return\n"),
    case("break-outside", "break\n"),
    case("not-utf8", {"main.py": b"x = '\xff'\n"}),
    case("null-byte", {"main.py": b"x = 1\0\n"}),
    case("bom", {"main.py": b"\xef\xbb\xbfprint('\xc3\xa9')\nfor i in range(2): print(i)\n"}),
    case("latin-1", {"main.py": b"# -*- coding: latin-1 -*-\nfor i in range(2): print('\xe9', i)\n1/0 # \xe9\n"}),
    case("future", '"""Doc."""\nfrom __future__ import annotations\nfor i in range(2): pass\ndef f(x: no) -> no: "d"\nprint(__doc__, f.__doc__, f.__annotations__)\n'),
    case("docstrings", 'def f():\n    "f"\n    for i in range(2): pass\nclass C:\n    "C"\n    def m(self):\n        """m"""\ndef g():\n    return "g"\nprint(f.__doc__, C.__doc__, C.m.__doc__, g.__doc__, f(), g())\n'),
    case("getsource", "import inspect\ndef f(a, *b, c=1):\n    for i in a:\n        while i: i -= 1\n    return i\nprint(inspect.getsource(f), inspect.signature(f), f.__code__.co_varnames, f.__code__.co_firstlineno)\n"),
    case("names-after-loop", "for i, (a, *b) in enumerate([(1, 2, 3)]): pass\nwhile (n := i) < 0: pass\nprint(i, a, b, n, sorted(globals()), dir())\n"),
    case("locals", "def f():\n    for i in range(3):\n        while True: break\n    return locals()\nprint(f())\n"),
    case("warnings", "import warnings\ndef f():\n    for i in range(2):\n        warnings.warn('one')\n        warnings.warn('two', stacklevel=2)\nfor j in range(2):\n    f()\nx = 1\nprint(x is 1)\nwarnings.warn('three', DeprecationWarning)\n"),
    case("warnings-beyond-the-stack", "import warnings\nfor i in range(2):\n    warnings.warn('one', stacklevel=2)\ndef f(): warnings.warn('two', stacklevel=9)\nf()\n"),
    case("syntax-warning", {"main.py": "import mod\nassert (1, 'x')\nprint('\\d')\n", "mod.py": "for i in range(2): assert (1, 'y')\n"}),
    case("syntax-warning-is-error", "x = 1\nprint(x is 1)\n", options=["-W", "error"]),
    case("print-stack", "import traceback, sys, inspect\ndef f():\n    for i in [1]:\n        traceback.print_stack()\n        print(len(inspect.stack()))\nf()\n"),
    case("raises", "def f(n):\n    for i in range(n):\n        while True:\n            raise KeyError(i)\n" + LINES + "for k in [4]:\n    f(k)\n"),
    case("raises-chained", "def f():\n    for i in range(2):\n        try:\n            1/0\n        except ZeroDivisionError as e:\n            raise ValueError(i) from e\ntry:\n    f()\nfinally:\n    for j in [0]:\n        [][j]\n"),
    case("raises-group", "raise ExceptionGroup('g', [ValueError(1), TypeError(2)])\n"),
    case("raises-in-header", "def f():\n    for i in int('x'):\n        pass\n    else:\n        pass\nf()\n"),
    case("raises-not-iterable", "x = 5\nfor (i,\n     j) in x:\n    print(1)\n"),
    case("raises-unpack", "for i, j in [(1, 2), (3,)]:\n    print(i)\n"),
    case("raises-in-condition", "n = 3\nwhile 1 / n:\n    n -= 1\n"),
    case("raises-in-iterator", "class It:\n    n = 0\n    def __iter__(self): return self\n    def __next__(self):\n        self.n += 1\n        if self.n > 20: raise OSError('gone')\n        return self.n\nfor i in It():\n    print(i)\n"),
    case("raises-in-generator", "def g():\n    for i in range(5):\n        yield i\n    raise OSError('gone')\nfor i in g():\n    print(i)\n"),
    case("raises-in-import", {"main.py": "for i in [1]:\n    import mod\n", "mod.py": "import mod2\n", "mod2.py": "for i in [1]:\n    raise ImportError('no')\n"}),
    case("raises-unbound", "def f():\n    while False: x = 1\n    return x\nf()\n"),
    case("hook-overridden", "import sys\ndef hook(t, v, tb):\n    n = 0\n    while tb: n += 1; tb = tb.tb_next\n    print('hook', t, v, n, sys.last_value is v)\nsys.excepthook = hook\nfor i in [1]: 1/0\n"),
    case("hook-fails", "import sys\ndef hook(t, v, tb): [][0]\nsys.excepthook = hook\nfor i in [1]: 1/0\n"),
    case("hook-missing", "import sys\ndel sys.excepthook\n1/0\n"),
    case("hook-exits", "import sys\nsys.excepthook = lambda *a: sys.exit(9)\n1/0\n"),
    case("exit-int", "import sys\nfor i in range(9):\n    sys.exit(7)\n"),
    case("exit-large", "raise SystemExit(1000)\n"),
    case("exit-string", "import sys\nsys.exit('bye')\n"),
    case("exit-none", "import sys\nprint(1)\nsys.exit()\n"),
    case("exit-object", "raise SystemExit([1, 2])\n"),
    case("exit-in-thread", "import sys, threading\nt = threading.Thread(target=sys.exit, args=(5,))\nt.start(); t.join()\nprint('on')\n"),
    case("exit-os", "import os, sys\nprint('x', flush=True)\nos._exit(4)\n"),
    case("interrupt", "def f():\n    for i in [1]: raise KeyboardInterrupt\nf()\n"),
    case("interrupt-module", {"m.py": "raise KeyboardInterrupt('x')\n"}, "-m", "m"),
    case("interrupt-signal", "import os, signal, time, atexit\natexit.register(print, 'bye')\nos.kill(os.getpid(), signal.SIGINT)\nfor i in range(100): time.sleep(.1)\n"),
    case("interrupt-caught", "import os, signal, time\ntry:\n    os.kill(os.getpid(), signal.SIGINT)\n    time.sleep(3)\nexcept KeyboardInterrupt:\n    print('caught')\n"),
    case("terminate", "import os, signal, time\nprint(signal.getsignal(signal.SIGTERM), flush=True)\nos.kill(os.getpid(), signal.SIGTERM)\ntime.sleep(3)\n"),
    case("abort", "import os\nos.abort()\n"),
    case("atexit", "import atexit, sys\ndef end():\n    for i in range(2): print('end', i, VALUE, sys.modules['__main__'].VALUE, globals().get('__file__'))\natexit.register(end)\nVALUE = 3\n"),
    case("atexit-raises", "import atexit\natexit.register(lambda: 1/0)\natexit.register(print, 'first')\n[][0]\n"),
    case("thread-at-exit", "import threading, time\ndef late():\n    time.sleep(.3)\n    for i in range(2): print('late', i, NAME)\nNAME = 'n'\nthreading.Thread(target=late).start()\nprint('main done')\n"),
    case("thread-raises", "import threading\ndef f():\n    for i in [1]: 1/0\nt = threading.Thread(target=f); t.start(); t.join()\n"),
    case("teardown", "class A:\n    def __init__(self, n): self.n = n\n    def __del__(self): print('del', self.n, __name__)\nx = A(1)\ny = A(2)\ny.me = y\nfor i in [A(3)]: pass\n"),
    case("unraisable", "class A:\n    def __del__(self):\n        for i in [1]: 1/0\nA()\n"),
    case("flush-fails", "print('x' * 10)\n", stdout="/dev/full"),
    case("streams", "import sys\nfor s in (sys.stdin, sys.stdout, sys.stderr):\n    print(s.name, s.mode, s.encoding, s.errors, s.isatty(), s.fileno(), s.line_buffering, s.write_through, type(s), s.buffer)\nprint(sys.stdin.read(), sys.stdout is sys.__stdout__)\n", stdin=b"hello"),
    case("fork", "import os\nfor i in range(2):\n    pid = os.fork()\n    if not pid:\n        for j in range(3): pass\n        print('child', i, j, flush=True)\n        import json\n        os._exit(i)\n    print(os.waitpid(pid, 0)[1])\n"),
    case("fork-exits", "import os, sys, atexit\natexit.register(print, 'end')\npid = os.fork()\nif pid: os.waitpid(pid, 0)\nfor i in range(2): print(i, bool(pid), flush=True)\nsys.exit(3)\n"),
    case("pool-fork", POOL % "fork"),
    case("pool-spawn", POOL % "spawn"),
    case("pool-forkserver", POOL % "forkserver"),
    case("spawn-module", {"pkg/__init__.py": "", "pkg/run.py": POOL % "spawn"}, "-m", "pkg.run"),
    case("subprocess", "import subprocess, sys, os\nfor i in range(2):\n    print(subprocess.run([sys.executable, '-c', 'import sys, os; print(sys.argv, sorted(k for k in os.environ if \"HASH\" in k), \"flor_trace.instrument\" in sys.modules)'], capture_output=True, text=True).stdout)\n"),
    case("pickle", "import pickle\nclass A:\n    def __init__(self): self.l = [i for i in range(3)]\n    def __eq__(self, o): return self.l == o.l\nfor i in range(2): print(pickle.loads(pickle.dumps(A())) == A(), pickle.dumps(A()))\n"),
    case("exec-and-eval", "for i in range(2):\n    exec('for j in range(2): print(i, j)')\n    print(eval('[k for k in range(i)]'))\n"),
    case("dataclass-enum", "import dataclasses, enum\n@dataclasses.dataclass\nclass D:\n    x: int = 1\n    def f(self):\n        for i in range(self.x): return i\nclass E(enum.Enum):\n    A = 1\n    for _q in range(2): pass\n    del _q\nprint(D(), D().f(), list(E))\n"),
    case("shadowed-builtins", "iter = range = print2 = None\nfor i in [1, 2]:\n    while i: i -= 1\ndef f(iter, chain):\n    for x in iter: chain.append(x)\n    return chain\nprint(f([1], []), i)\n"),
    case("module-getattr", {"main.py": "import mod\nprint(mod.__file__, mod.__cached__ is not None, mod.__spec__, type(mod.__loader__), mod.f(3))\n", "mod.py": PACKAGE["pkg/mod.py"]}),
    case("resources", {**PACKAGE, "pkg/data.txt": "data", "main.py": "import importlib.resources as r, pkg, pkgutil\nprint(r.files('pkg').joinpath('data.txt').read_text(), pkgutil.get_data('pkg', 'data.txt'), pkg.__loader__.get_source('pkg'))\n"}),
    case("reload", {"main.py": "import mod, importlib\nfor i in range(2): print(importlib.reload(mod).f(3))\n", "mod.py": PACKAGE["pkg/mod.py"]}),
    case("writes-files", "for i in range(3):\n    with open(f'out{i}.txt', 'w') as f: f.write(str(i))\n"),
    case("clock", "import time\nfrom time import perf_counter as pc\nfrom datetime import datetime\na = pc(); b = time.time()\nfor i in range(3): assert time.perf_counter() >= a and datetime.now().year > 2000\nprint(time.strftime('%Y', time.gmtime(0)))\ntime.time(1)\n"),
    case("generators", "def g():\n    for i in range(3):\n        got = yield i\n        if got: print('got', got)\n    return 9\nasync def a():\n    for i in range(2): pass\n    return i\nimport asyncio\nx = g(); print(next(x), x.send(4), list(x), asyncio.run(a()))\nprint([i for i in g()], {i: j for i in range(2) for j in g()})\n"),
    case("deep-elif", "n = 299\nif n < 0: pass\n" + "".join(f"elif n == {i}: print({i})\n" for i in range(300))),
    case("deep-sum", "print(" + "+".join(["1"] * 1500) + ")\nfor i in range(2): print(i)\n"),
    case("deep-blocks", "def f():\n" + "".join("    " * (i + 1) + f"for i{i} in range(2):\n" for i in range(15)) + "    " * 16 + "return i0\nprint(f())\n"),
    case("nested-loops", "out = []\nfor i in range(4):\n    for j in range(4):\n        if j == 2: break\n        if i == 1: continue\n        k = 0\n        while k < 3:\n            k += 1\n            if k == i: break\n        else:\n            out.append((i, j))\n    else:\n        out.append(i)\nprint(out, i, j, k)\n"),
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


