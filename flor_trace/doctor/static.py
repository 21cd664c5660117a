"""Look for what will be inexact in sources, without running them."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence

from flor_trace.doctor.findings import INEXACT, PERHAPS, REMARK, Finding
from flor_trace.doctor.rules import RULES
from flor_trace.doctor.sources import Source
from flor_trace.runtime.nondeterminism import ADDING, ON_CUDA

_SEEDING = frozenset(
    ("random.seed", "numpy.random.seed", "torch.manual_seed", "torch.cuda.manual_seed", "torch.cuda.manual_seed_all",
     "numpy.random.default_rng", "numpy.random.RandomState", "lightning.seed_everything", "pytorch_lightning.seed_everything",
     "transformers.set_seed", "accelerate.utils.set_seed")
)  # fmt: skip
_DRAWING = ("random", "numpy", "torch")
# Flags of libraries that are library state, and captured.
_CAPTURED_FLAGS = ("torch.backends.", "torch.set_", "warnings.", "logging.", "os.environ", "sys.")
_TRAINING_CALLS = frozenset(("backward", "step", "partial_fit", "zero_grad"))


def examine(sources: Sequence[Source], installed: Sequence[str]) -> list[Finding]:
    """All findings about a script's sources; `installed` are the top-level modules that they import from elsewhere."""
    visitors = [_Examiner(source, frozenset(installed)) for source in sources]
    for visitor in visitors:
        visitor.visit(visitor.source.tree)
    findings = [finding for visitor in visitors for finding in visitor.findings]
    called = {callee for visitor in visitors for callee in visitor.called}
    if "torch.use_deterministic_algorithms" not in called:
        uses_cuda = any(visitor.mentions_cuda for visitor in visitors)
        findings += [finding for visitor in visitors for finding in visitor.operations(uses_cuda)]
    if set(_DRAWING) & set(installed) and not called & _SEEDING:
        findings.append(
            Finding("unseeded", REMARK, sources[0].path, "nothing is seeded",
                    "a replay is exact all the same, for the initial states of the generators are recorded; a plain second run is not",
                    "nothing need be done for replay"))  # fmt: skip
    return findings


class _Examiner(ast.NodeVisitor):
    """Walks one file, knowing what its names were imported as."""

    def __init__(self, source: Source, installed: frozenset[str]) -> None:
        self.source = source
        self.findings: list[Finding] = []
        self.called: set[str] = set()
        self.mentions_cuda = False
        self._installed = installed
        self._names = dict(_aliases(source.tree))
        self._operations: list[tuple[str, ast.Call, str]] = []
        self._generator: str | None = None
        self._loops = 0
        self._branches = 0

    # -- the tree -------------------------------------------------------------------------------------------------------

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        """A function: remember whether it is a generator."""
        outer, loops = self._generator, self._loops
        self._generator = f"generator {node.name}" if _is_generator(node) else None
        self._loops = 0
        self.generic_visit(node)
        self._generator, self._loops = outer, loops

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        """A coroutine."""
        outer, self._generator = self._generator, f"coroutine {node.name}"
        self.generic_visit(node)
        self._generator = outer

    def visit_For(self, node: ast.For) -> None:
        """A loop: does it train where no loop is instrumented?"""
        self._loop(node)

    def visit_While(self, node: ast.While) -> None:
        """As `visit_For`."""
        self._loop(node)

    def visit_If(self, node: ast.If) -> None:
        """A branch: what is in it may never be executed, but for what guards a module against being imported."""
        self._branch(node.test, [*node.body, *node.orelse])

    def visit_IfExp(self, node: ast.IfExp) -> None:
        """As `visit_If`."""
        self._branch(node.test, [node.body, node.orelse])

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        """A class: does it define what snapshots or the garbage collector care for?"""
        methods = {part.name: part for part in node.body if isinstance(part, ast.FunctionDef)}
        if "__hash__" in methods:
            self._find("user-hash", REMARK, methods["__hash__"], f"{node.name} defines __hash__",
                       "a snapshot with a new dict or set that holds such objects is not restored, since that would run your code: replay "
                       "executes instead", "key by a string or a number where replay is to be fast")  # fmt: skip
        if "__del__" in methods:
            self._finalizer(methods["__del__"], f"{node.name} defines __del__")
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        """A call: what is known of its callee?"""
        callee = self._full_name(node.func)
        method = node.func.attr if isinstance(node.func, ast.Attribute) else callee
        self.called.add(callee)
        for rule in RULES:
            if rule.matches(callee):
                self._find(rule.name, rule.grade, node, rule.what.format(callee=callee), rule.effect, rule.advice)
                break
        self._loader(callee, node)
        if callee == "weakref.finalize":
            self._finalizer(node, callee)
        if method.rstrip("_") in {name.rstrip("_") for name in ON_CUDA | ADDING} or method in ("interpolate", "grid_sample", "ctc_loss"):
            self._operations.append((method, node, self._graded(INEXACT)))
        if isinstance(node.func, ast.Attribute) and node.func.attr == "cuda":
            self.mentions_cuda = True
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        """A text: does it name a CUDA device, or one that gives entropy?"""
        if isinstance(node.value, str):
            self.mentions_cuda = self.mentions_cuda or node.value.startswith("cuda")
            if node.value in ("/dev/urandom", "/dev/random"):
                self._find("entropy", INEXACT, node, f"{node.value}: the system's entropy, outside what is recorded",
                           "replay draws other values", "use os.urandom, which is recorded, or a seeded generator")  # fmt: skip

    def visit_Assign(self, node: ast.Assign) -> None:
        """An assignment: does it change what an installed package holds?"""
        for target in node.targets:
            self._package_state(target)
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        """As `visit_Assign`."""
        self._package_state(node.target)
        self.generic_visit(node)

    # -- what is looked for ---------------------------------------------------------------------------------------------

    def operations(self, uses_cuda: bool) -> Iterator[Finding]:
        """Nondeterministic operations that are called by name, where nothing asks for deterministic ones."""
        for method, node, grade in self._operations:
            accumulates = any(k.arg == "accumulate" and getattr(k.value, "value", False) is True for k in node.keywords)
            if uses_cuda or (method in ADDING and accumulates):
                place = "CUDA" if uses_cuda else "several CPU threads"
                yield Finding("operations", grade, self._where(node), f"{method}: nondeterministic on {place}",
                              "its result may differ from one execution to the next in the last bits, and training carries that on",
                              "call torch.use_deterministic_algorithms(True), or accept a verdict within tolerance")  # fmt: skip

    def _branch(self, test: ast.expr, parts: Sequence[ast.AST]) -> None:
        self.visit(test)
        guard = any(isinstance(part, ast.Name) and part.id == "__name__" for part in ast.walk(test))
        self._branches += not guard
        for part in parts:
            self.visit(part)
        self._branches -= not guard

    def _finalizer(self, node: ast.stmt | ast.expr, what: str) -> None:
        self._find("finalizers", REMARK, node, f"{what}: code that runs when an object dies",
                   "objects in reference cycles die when the garbage collector or the interpreter's end comes to them, which is elsewhere "
                   "in replay: what such code prints or changes then may differ",
                   "release by an explicit call, or break the cycle")  # fmt: skip

    def _graded(self, grade: str) -> str:
        """The grade of a finding here: what is inexact only in a branch is so perhaps."""
        return PERHAPS if grade == INEXACT and self._branches else grade

    def _loop(self, node: ast.For | ast.While) -> None:
        if self._generator is not None and self._loops == 0 and _trains(node):
            self._find("generator-loop", REMARK, node, f"the loop that trains is in the {self._generator}",
                       "loops in generators and coroutines get no snapshots: replay executes them from their beginning",
                       "put the loop into an ordinary function")  # fmt: skip
        self._loops += 1
        self.generic_visit(node)
        self._loops -= 1

    def _loader(self, callee: str, node: ast.Call) -> None:
        if not callee.endswith("DataLoader"):
            return
        given = {keyword.arg: keyword.value for keyword in node.keywords}
        persistent = given.get("persistent_workers")
        workers = given.get("num_workers")
        if persistent is not None and getattr(persistent, "value", True) and getattr(workers, "value", 1):
            self._find("persistent-workers", INEXACT, node, "persistent_workers=True: loader processes that live through epochs",
                       "random numbers drawn inside the workers continue from one epoch to the next, in processes that cannot be restored",
                       "leave persistent_workers out, or draw no random numbers in the data set")  # fmt: skip

    def _package_state(self, target: ast.expr) -> None:
        if not isinstance(target, ast.Attribute):
            return
        full = self._full_name(target)
        top = full.partition(".")[0]
        root: ast.expr = target
        while isinstance(root, ast.Attribute):
            root = root.value
        imported = isinstance(root, ast.Name) and root.id in self._names
        if imported and top in self._installed and not full.startswith(_CAPTURED_FLAGS) and self._loops:
            self._find("package-state", INEXACT, target, f"{full} is assigned in a loop: state inside an installed package",
                       "the globals of installed packages are not part of a snapshot",
                       f"keep the value in an object of your own, or record with --instrument {top}")  # fmt: skip

    # -- tools ----------------------------------------------------------------------------------------------------------

    def _find(self, rule: str, grade: str, node: ast.expr | ast.stmt, what: str, effect: str, advice: str) -> None:
        self.findings.append(Finding(rule, self._graded(grade), self._where(node), what, effect, advice))

    def _where(self, node: ast.expr | ast.stmt) -> str:
        return f"{self.source.path}:{node.lineno}"

    def _full_name(self, node: ast.expr) -> str:
        """Such as `torch.nn.functional.interpolate` for `F.interpolate`; what begins with no name is left as `.method`."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        parts.append(self._names.get(node.id, node.id) if isinstance(node, ast.Name) else "")
        return ".".join(reversed(parts))


def _aliases(tree: ast.Module) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield (alias.asname, alias.name) if alias.asname else (alias.name.partition(".")[0],) * 2
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                yield alias.asname or alias.name, f"{node.module}.{alias.name}"


def _is_generator(function: ast.FunctionDef) -> bool:
    todo: list[ast.AST] = list(function.body)
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Yield | ast.YieldFrom):
            return True
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            todo += ast.iter_child_nodes(node)
    return False


def _trains(loop: ast.AST) -> bool:
    return any(
        isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _TRAINING_CALLS for node in ast.walk(loop)
    )
