"""From a user module's source to code with live probes: parse, mark, rewrite, compile, cache, bind."""

from __future__ import annotations

import sys
from types import CodeType

from .binding import PREFIX, bind
from .cache import CodeCache
from .infos import RewrittenInfo
from .policy import Policy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .hooks import Hooks

_SHALLOW = 3
"""Loops nested deeper than this are left alone in a module whose blocks nest too deep for the compiler otherwise."""


class Compiler:
    """Compiles user modules with probes; falls back to the plain code where it must, and says so in the info."""

    def __init__(self, hooks: Hooks, policy: Policy, cache: CodeCache) -> None:
        self.hooks = hooks
        self.policy = policy
        self.cache = cache

    def compile(self, filename: str, source: bytes, module: str, plain: CodeType) -> CodeType:
        """The instrumented code of a module, or `plain` where it cannot be instrumented."""
        loops = self.policy.recorded_loops(module, filename)
        # What a trainer can compile it mentions whether this script wants it or not.
        spare = self.policy.spares_functions(source if loops is None else b"")
        info, code = self._rewritten(filename, source, module, spare, loops, plain)
        resolve = self.hooks.resolver(info, filename, source)
        return bind(code, resolve) if code is not plain else plain

    def _rewritten(
        self, filename: str, source: bytes, module: str, spare: bool, loops: frozenset[str] | None, plain: CodeType
    ) -> tuple[RewrittenInfo, CodeType]:
        if PREFIX.encode() in source:
            return RewrittenInfo(module, f"it contains the text {PREFIX!r}, which is reserved"), plain
        options = f"{module} {spare} {sys.flags.optimize}" + ("" if loops is None else f" {sorted(loops)}")
        may_mark = getattr(self.hooks, "annotates", True)
        if not may_mark:
            found = self.cache.load(filename, source, options)
            if found is not None:
                return found
        info, code, marked = _instrument(self.hooks, filename, source, module, spare, loops)
        if code is None:
            return info, plain
        if not marked:
            self.cache.save(filename, source, options, info, code)
        return info, code


def compile_user_module(
    path: str, source_bytes: bytes, module_name: str, hooks: Hooks, policy: Policy | None = None, cache: CodeCache | None = None
) -> CodeType:
    """The instrumented code of one module; what the source does wrong raises as in plain Python."""
    plain = compile(source_bytes, path, "exec", dont_inherit=True)
    return Compiler(hooks, policy or Policy(), cache or CodeCache(None)).compile(path, source_bytes, module_name, plain)


def _instrument(
    hooks: Hooks, filename: str, source: bytes, module: str, spare: bool, loops: frozenset[str] | None
) -> tuple[RewrittenInfo, CodeType | None, bool]:
    import ast  # here, for cached code needs neither

    from .rewrite import rewrite

    reason = ""
    for max_depth in (None, _SHALLOW):
        try:
            tree = _quietly(source, filename, ast.PyCF_ONLY_AST)
            marked = hooks.annotate(tree, module, filename, source)
            rewritten = rewrite(tree, module, no_function_probes=spare, max_depth=max_depth, loops_of=loops)
            code = _quietly(rewritten.tree, filename, 0)
        except (SyntaxError, RecursionError, MemoryError) as error:
            # the plain code did compile: too many nested blocks, or an expression too deep to be walked from Python
            reason = f"{type(error).__name__}: {error}"
            continue
        return rewritten.info(), code, marked
    return RewrittenInfo(module, reason), None, False


def _quietly(source, filename: str, flags: int):  # type: ignore[no-untyped-def]
    """Compile without warnings, which compiling the plain source has given already.

    Not by `warnings.catch_warnings`: it makes all warnings shown before appear again. Between the two assignments nothing but
    the compiler runs, which never lets go of the interpreter.
    """
    import warnings

    kept = warnings.filters
    warnings.filters = [("ignore", None, Warning, None, 0)]
    try:
        return compile(source, filename, "exec", flags, dont_inherit=True)
    finally:
        warnings.filters = kept
