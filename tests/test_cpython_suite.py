"""The interpreter's own regression tests as the outside judge: instrumented, each gives the result that it gives plain."""

from __future__ import annotations

import functools
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "instrument"))
from runners import recorder

QUICK = ["test_grammar", "test_generators", "test_with", "test_scope"]
_OTHERS = """
test_coroutines test_exceptions test_patma test_dataclasses test_inspect test_pickle test_runpy test_traceback
test_multiprocessing_spawn test_iter test_enumerate test_itertools test_range test_unpack test_unpack_ex
test_named_expressions test_listcomps test_genexps test_global test_funcattrs test_class test_descr test_super
test_decorators test_raise test_except_star test_exception_group test_baseexception test_contextlib
test_contextlib_async test_string test_fstring test_dict test_set test_list test_tuple test_deque test_collections
test_functools test_enum test_typing test_operator test_int test_float test_sort test_heapq test_bisect test_random
test_statistics test_copy test_copyreg test_pickletools test_json test_re test_struct test_array test_weakref
test_weakset test_gc test_code test_augassign test_binop test_compare test_contains test_call test_extcall
test_keywordonlyarg test_positional_only_arg test_property test_metaclass test_subclassinit test_abc test_types
test_warnings test_atexit test_import test_importlib test_pkgutil test_zipimport test_threading test_yield_from
"""
OTHERS = _OTHERS.split()

_COUNTS_NAMES = "looks at `co_names`, where the probes' methods stand among the attribute names"
_ORDER_OF_CONSTANTS = "takes a constant by its number from `co_consts`, where the function's probe comes first"
_TRACES = "counts line events of sys.settrace, which sees a probe's first call"
EXCLUDED = {
    "test_inspect": {
        "test_getclosurevars_empty": _COUNTS_NAMES,
        "test_method_closure": _COUNTS_NAMES,
        "test_name_resolution": _COUNTS_NAMES,
        "test_signature_bind_implicit_arg": _ORDER_OF_CONSTANTS,
    },
    "test_patma": {
        "test_default_wildcard": _TRACES,
        "test_unreachable_code": _TRACES,
        "test_only_default_capture": _TRACES,
        "test_default_capture": _TRACES,
        "test_only_default_wildcard": _TRACES,
        "test_no_default": _TRACES,
    },
    "test_exceptions": {
        "test_recursion_in_except_handler": "sets the limit to the present depth, where nothing can be called, not even a probe"
    },
    "test_descr": {"test_slots": "counts all objects alive"},
    "test_gc": {
        "test_resurrection_does_not_block_cleanup_of_other_objects": "counts objects, some of which a snapshot may hold"
    },
    "test_array": {"test_bug_782369": "counts references to the int 10, which a loop's items are too"},
    "test_import": {"test_foreign_code": _ORDER_OF_CONSTANTS},
}
LEFT_OUT = {
    "test_compile": "counts instructions and looks at constants by number: it tests the compiler's output itself",
    "test_dis": "compares disassemblies with recorded ones",
    "test_sys_settrace": "compares whole sequences of trace events",
    "test_monitoring": "the same for sys.monitoring",
    "test_pdb": "steps through functions line by line",
    "test_bdb": "steps through functions line by line",
    "test_closure": "does not exist in all versions",
}
STATUS = re.compile(r"\.\.\. (ok|FAIL|ERROR|skipped|expected failure|unexpected success)")


def results(before: tuple[str, ...], name: str, folder: Path) -> tuple[dict[str, str], str]:
    """The status of every test of a module, and unittest's last lines for the reader of a failure."""
    result = subprocess.run(
        [sys.executable, *before, "-m", "unittest", "-v", f"test.{name}"],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=580,
    )
    found: dict[str, str] = {}
    current = ""
    for line in result.stderr.splitlines():
        header = re.match(r"(\w+) \((test[\w.]+)\)", line)
        if header:
            current = f"{header[2]} {header[1]}"
        status = STATUS.search(line)
        if current and (status or line in ("ok", "FAIL", "ERROR")):
            found[current] = status[1] if status else line
            current = ""
    return found, result.stderr[-3000:]


@functools.cache
def instrumenting() -> tuple[str, ...]:
    return (*recorder(), "--instrument", "test")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)])
def test_same_results(name: str, tmp_path: Path) -> None:
    if importlib.util.find_spec(f"test.{name}") is None:
        pytest.skip("this interpreter came without it")
    plain, _ = results((), name, tmp_path)
    instrumented, tail = results(instrumenting(), name, tmp_path)
    excluded = EXCLUDED.get(name, {})
    differing = {
        test: (plain.get(test), instrumented.get(test))
        for test in plain.keys() | instrumented.keys()
        if plain.get(test) != instrumented.get(test) and test.rsplit(" ", 1)[1] not in excluded
    }
    assert not differing, tail
    assert plain or name in ("test_extcall", "test_abc"), "no test ran"


def test_every_exclusion_has_a_reason() -> None:
    assert all(reason for tests in EXCLUDED.values() for reason in tests.values())
    assert not set(LEFT_OUT) & {*QUICK, *OTHERS} and set(EXCLUDED) <= {*QUICK, *OTHERS}
