"""Run a script, a module or a piece of code as `python` would, with our import hook in place.

The script is told apart from a plain run by nothing that it is likely to look at: `sys.argv`, `sys.path[0]`,
`__main__` and tracebacks are those of plain Python. The end is the interpreter's own as well: `run_target` returns or raises,
and threads, exit handlers and the teardown of `__main__` take their usual course.
"""

from __future__ import annotations

import atexit
import builtins
import os
import sys
from importlib.machinery import BuiltinImporter, SourceFileLoader
from types import ModuleType, TracebackType

from flor_trace.errors import INTERRUPTED, UsageError

from .cache import CodeCache
from .children import guard_forks
from .compiled import spare_compiled
from .compiling import Compiler
from .importer import DISGUISED, Importer
from .interpreter import become_plain, ensure_hash_seed, interpreter_options
from .policy import Policy

__all__ = ["Launcher", "Target", "ensure_hash_seed", "run_target"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import NoReturn

    from .hooks import Hooks

FILE, MODULE, CODE = "file", "module", "code"
_OUR_FOLDER = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


class Target:
    """What is to be run: a file (or a folder or archive with a `__main__.py`), `-m` a module, or `-c` code; and its arguments.

    `source` is a file to read a FILE's source from instead, while `__file__` stays (replay of a copy).
    """

    def __init__(self, kind: str, name: str, args: Sequence[str] = (), source: str | None = None) -> None:
        self.kind = kind
        self.name = name
        self.args = list(args)
        self.source = source

    def command(self) -> list[str]:
        """The command line by which plain Python would run it, with the interpreter options that we were given."""
        how = {FILE: [], MODULE: ["-m"], CODE: ["-c"]}[self.kind]
        return [sys.orig_argv[0], *interpreter_options(sys.orig_argv), *how, self.name, *self.args]


def run_target(
    target: Target,
    hooks: Hooks,
    *,
    policy: Policy | None = None,
    cache: CodeCache | None = None,
    importer: Importer | None = None,
    finish: Callable[[int], None] | None = None,
    interrupted: Callable[[], None] | None = None,
) -> int:
    """Run `target` and return 0, or raise what ends the interpreter with the status that plain Python would have given:
    `SystemExit`, or `KeyboardInterrupt` with its traceback printed already. The caller must let both through.

    `finish` is called with the exit status after the script, its threads and its exit handlers, `interrupted` before the traceback of a
    Ctrl-C that nobody has caught. Give `importer` instead of `policy` and `cache` where callbacks have been registered with it.
    """
    if importer is None:
        importer = Importer(Compiler(hooks, policy or Policy(), cache or CodeCache(None)))
    return Launcher(target, importer, finish, interrupted).run()


class Launcher:
    """One run of a target."""

    def __init__(
        self,
        target: Target,
        importer: Importer,
        finish: Callable[[int], None] | None = None,
        interrupted: Callable[[], None] | None = None,
    ) -> None:
        self.target = target
        self.importer = importer
        self.finish = finish
        self.interrupted = interrupted
        self.status = 0
        self.command = target.command()
        self._pid = os.getpid()

    def run(self) -> int:
        """See `run_target`."""
        atexit.register(self._finish)  # registered before all others, so called after them
        main = self._disguise()
        runner = {FILE: self._run_file, MODULE: self._run_module, CODE: self._run_code}[self.target.kind]
        error: BaseException | None = None
        try:
            runner(main)
        except SystemExit as exit_request:
            self.status = _status(exit_request.code)
            raise
        except UsageError:
            raise
        except BaseException as caught:
            error = caught
        if error is None:
            _forget_file(main)
            return 0
        interrupted = isinstance(error, KeyboardInterrupt)
        self.status = INTERRUPTED if interrupted else 1
        if interrupted and self.interrupted is not None:
            self.interrupted()
        _print_uncaught(error)
        _forget_file(main)
        del error
        if interrupted:
            # only an interpreter that saw KeyboardInterrupt itself ends by SIGINT, as a shell expects
            _print_nothing_more()
            raise KeyboardInterrupt
        sys.exit(1)

    # -- the stage --------------------------------------------------------------------------------------------------

    def _disguise(self) -> ModuleType:
        target = self.target
        sys.orig_argv[:] = self.command
        sys.argv[:] = [{FILE: target.name, MODULE: "-m", CODE: "-c"}[target.kind], *target.args]
        if not sys.flags.safe_path and sys.path:
            del sys.path[0]
            first = self._path_entry()
            if first is not None:
                sys.path.insert(0, first)
        main = ModuleType("__main__")
        namespace = main.__dict__
        namespace["__loader__"] = BuiltinImporter
        namespace["__annotations__"] = {}
        namespace["__builtins__"] = builtins
        sys.modules["__main__"] = main
        self.importer.install()
        guard_forks(self.importer.remove)
        spare_compiled(self.importer)
        return main

    def _path_entry(self) -> str | None:
        if self.target.kind == CODE:
            return ""
        if self.target.kind == MODULE:
            return os.getcwd()
        if _holds_main(_absolute(self.target.name)):
            return None
        return os.path.dirname(os.path.realpath(self.target.name))

    # -- the three ways to run --------------------------------------------------------------------------------------

    def _run_file(self, main: ModuleType) -> None:
        path = _absolute(self.target.name)
        if _holds_main(path):
            sys.path.insert(0, path)
            self._run_as_main("__main__", False)
            return
        try:
            with open(self.target.source or path, "rb") as file:
                source = file.read()
        except OSError:
            self._refuse()
        if path.endswith(".pyc"):
            raise UsageError(f"{self.target.name} is compiled; name the source file that it was made from")
        namespace = main.__dict__
        namespace["__file__"] = path
        namespace["__cached__"] = None
        namespace["__loader__"] = SourceFileLoader("__main__", path)
        if self.target.source is not None:
            _show_lines(path, source)
        try:
            self._execute(source, path, namespace)
        finally:
            _flush_output()  # the interpreter does so behind a FILE, and an exit handler may end the process with `os._exit`

    def _run_code(self, main: ModuleType) -> None:
        if sys.version_info >= (3, 13):  # from here on tracebacks show the lines of `-c` code
            import linecache

            text = self.target.name + "\n"
            lines = [line + "\n" for line in text.splitlines()]
            linecache.cache["<string>"] = (len(text), None, lines, "<string>")
        self._execute(self.target.name.encode("utf-8", "surrogateescape"), "<string>", main.__dict__)

    def _execute(self, source: bytes, filename: str, namespace: dict[str, object]) -> None:
        try:
            code = compile(source, filename, "exec", dont_inherit=True)
        except (SyntaxError, ValueError, OverflowError, MemoryError, RecursionError):
            self._refuse()
        code = self.importer.compile_main(filename, source, code)
        exec(code, namespace)

    def _run_module(self, main: ModuleType) -> None:
        self._run_as_main(self.target.name, True)

    def _run_as_main(self, name: str, alter_argv: bool) -> None:
        import runpy  # is what `python -m` calls, and its frames stand in plain tracebacks too

        self.importer.expect_main(name)
        runpy._run_module_as_main(name, alter_argv)  # type: ignore[attr-defined]

    # -- the end ----------------------------------------------------------------------------------------------------

    def _refuse(self) -> NoReturn:
        """Plain Python will not even start this: let it say so itself, for its words depend on how it reads files."""
        self.status = 1
        self._finish()
        become_plain(self.command)

    def _finish(self) -> None:
        if self.finish is not None and os.getpid() == self._pid:
            finish, self.finish = self.finish, None
            finish(self.status)


def _show_lines(path: str, source: bytes) -> None:
    """Let tracebacks and warnings show the lines of the copy that is run, and not those of the file whose name it has."""
    import linecache
    import tokenize

    encoding, _ = tokenize.detect_encoding(iter(source.splitlines(keepends=True)).__next__)
    lines = source.decode(encoding, "replace").splitlines(keepends=True)
    linecache.cache[path] = (len(source), None, lines, path)


def _holds_main(path: str) -> bool:
    """Whether `python PATH` would import `__main__` from PATH: some path hook takes it for a folder or an archive."""
    for hook in sys.path_hooks:
        try:
            hook(path)
        except ImportError:
            continue
        return True
    return False


def _absolute(path: str) -> str:
    """As the interpreter makes FILE absolute: without following links or taking `.` and `..` out."""
    return os.path.join(os.getcwd(), path)


def _status(code: object) -> int:
    if code is None:
        return 0
    return code & 0xFF if isinstance(code, int) else 1


def _forget_file(main: ModuleType) -> None:
    """The interpreter takes these two away when a FILE has ended, so exit handlers do not find them."""
    if main.__dict__.get("__spec__") is None:
        main.__dict__.pop("__file__", None)
        main.__dict__.pop("__cached__", None)


def _strip(error: BaseException) -> None:
    """Take our frames out of the tracebacks of an exception and of those that it is chained to.

    Also the innermost ones: they stand for a builtin that plain Python would have called there (a clock, a stream's write).
    """
    waiting: list[BaseException | None] = [error]
    seen: set[int] = set()
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        waiting += [one.__cause__, one.__context__]
        entries = []
        entry = one.__traceback__
        while entry is not None:
            entries.append(entry)
            entry = entry.tb_next
        rest: TracebackType | None = None
        for entry in reversed(entries):
            if not _is_ours(entry):
                entry.tb_next = rest
                rest = entry
        one.__traceback__ = rest


def _is_ours(entry: TracebackType) -> bool:
    code = entry.tb_frame.f_code
    return code.co_filename.startswith(_OUR_FOLDER) or code.co_qualname in DISGUISED


def _remember(error: BaseException, traceback: TracebackType | None) -> None:
    sys.last_type, sys.last_value, sys.last_traceback = type(error), error, traceback
    if sys.version_info >= (3, 12):
        sys.last_exc = error


def _print_uncaught(error: BaseException) -> None:
    """What the interpreter does with an exception that nobody has caught."""
    _strip(error)
    traceback = error.__traceback__
    _remember(error, traceback)
    sys.audit("sys.excepthook", getattr(sys, "excepthook", None), type(error), error, traceback)
    hook = getattr(sys, "excepthook", None)
    if hook is None:
        _write_error("sys.excepthook is missing\n")
        sys.__excepthook__(type(error), error, traceback)
        return
    try:
        hook(type(error), error, traceback)
    except SystemExit:
        raise
    except BaseException as second:
        _strip(second)
        second.__context__ = None if second.__context__ is error else second.__context__
        _write_error("Error in sys.excepthook:\n")
        sys.__excepthook__(type(second), second, second.__traceback__)
        _write_error("\nOriginal exception was:\n")
        sys.__excepthook__(type(error), error, traceback)
    _flush_output()


def _write_error(text: str) -> None:
    if sys.stderr is not None:
        sys.stderr.write(text)


def _flush_output() -> None:
    for name in ("stderr", "stdout"):
        try:
            getattr(sys, name).flush()
        except BaseException:  # the interpreter ignores this here, and complains at its end
            continue


def _print_nothing_more() -> None:
    """Let the interpreter see one more exception without a word about it."""
    hook = sys.excepthook
    error = sys.last_value

    def silent(*_: object) -> None:
        sys.excepthook = hook
        if error is not None:
            _remember(error, error.__traceback__)

    sys.excepthook = silent
