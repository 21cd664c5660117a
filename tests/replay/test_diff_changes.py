"""What is allowed as hindsight and what is refused, and why."""

from __future__ import annotations

import textwrap

import pytest

from flor_trace.replay.diff import SourceDiff, diff

BASE = """
import sys
import logging
import torch

logger = logging.getLogger(__name__)
it = iter(range(9))
limit = 3

class Meter:
    def __init__(self):
        self.total = 0

    def update(self, x):
        self.total += x

@torch.no_grad()
def evaluate(model, n=3):
    for x in range(n):
        y = model(x)
    return y

def train(model):
    best = 0
    for epoch in range(limit):
        loss = evaluate(model)
        try:
            model.step()
        except ValueError:
            pass
        if loss > best:
            best = loss
        print("loss", float(loss), file=sys.stderr)
        print(next(it))
        logger.info("epoch %d", epoch)
    return best

train(model)
"""


def edit(old: str, new: str) -> SourceDiff:
    assert BASE.count(old) == 1, f"{old!r} must occur once"
    return diff(BASE.encode(), BASE.replace(old, new).encode(), "m")


def after(line: str, *new: str) -> SourceDiff:
    """BASE with lines added after one, at its indentation."""
    (found,) = [each for each in BASE.splitlines() if each.strip() == line]
    indent = found[: len(found) - len(found.lstrip())]
    if line.endswith(":"):
        indent += "    "
    return edit(found + "\n", found + "\n" + textwrap.indent("\n".join(new), indent) + "\n")


def why(found: SourceDiff) -> str:
    return "; ".join(change.why for change in found.changes)


@pytest.mark.parametrize(
    "new",
    [
        "norm = grad_norm(model)",
        "norm: float = grad_norm(model)",
        "import math",
        "from math import sqrt as root",
        "assert epoch >= 0, epoch",
        "model.check()",
        "print(epoch)",
        "for p in model.parameters():\n    if p is None:\n        break\n    print(p)",
        "while True:\n    break",
        "if epoch == 2:\n    print(epoch)\nelse:\n    print(1)",
        "with torch.no_grad():\n    print(model(1))",
        "try:\n    print(model.x)\nexcept AttributeError:\n    print('none')",
        "def helper(x):\n    return x",
        "class Probe:\n    pass",
        "seen = [p for p in model.parameters()]",
        "key = lambda x: x",
        "match epoch:\n    case 0:\n        print(0)",
        "def gen():\n    yield 1",
        "del_me = 1",
    ],
)
def test_any_inserted_statement_is_hindsight(new: str) -> None:
    found = after("loss = evaluate(model)", new)
    assert [statement.text for statement in found.hindsight] == [new]
    assert not found.changes
    assert found.hindsight[0].enclosing_loops == ["m:train:0"]
    assert sorted(found.loops.values()) == ["m:evaluate:0", "m:train:0"]
    assert not found.hindsight[0].rebinds


def test_statements_on_one_line_are_separate() -> None:
    found = after("loss = evaluate(model)", "a = 1; print(a)  # both")
    assert [statement.text for statement in found.hindsight] == ["a = 1", "print(a)"]


def test_new_else_branches_are_hindsight() -> None:
    found = edit("            best = loss\n", "            best = loss\n        else:\n            print('worse')\n")
    assert [s.text for s in found.hindsight] == ["print('worse')"]
    assert not found.changes
    found = edit("            best = loss\n", "            best = loss\n        elif loss == best:\n            print('same')\n")
    assert [s.text for s in found.hindsight] == ["elif loss == best:\n    print('same')"]
    assert not found.changes


def test_pass_may_be_replaced_by_a_log_statement() -> None:
    found = edit("            pass\n", "            print('failed')\n")
    assert [s.text for s in found.hindsight] == ["print('failed')"]
    assert not found.changes


@pytest.mark.parametrize(
    ("new", "reason"),
    [
        ("if loss > 9:\n    break", "`break`"),
        ("if loss > 9:\n    continue", "`continue`"),
        ("for a in b:\n    print(a)\nelse:\n    break", "`break`"),
        ("return loss", "`return`"),
        ("raise ValueError(loss)", "`raise`"),
        ("yield loss", "`yield`"),
        ("x = yield", "`yield`"),
        ("sys.exit(1)", "ends the script"),
        ("global best", "declaration of `best`"),
        ("limit = 4", "makes `limit` local"),
        ("for it in []:\n    pass", "makes `it` local"),
        ("import sys", "makes `sys` local"),
    ],
)
def test_what_changes_existing_code_is_refused(new: str, reason: str) -> None:
    found = after("loss = evaluate(model)", new)
    assert len(found.changes) == 1
    assert reason in why(found)


def test_a_new_global_for_new_names_is_hindsight() -> None:
    found = after("loss = evaluate(model)", "global seen", "seen = epoch")
    assert [s.text for s in found.hindsight] == ["global seen", "seen = epoch"]
    assert not found.changes


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("limit = 3", "limit = 4", "statement was changed"),
        ("        y = model(x)\n", "        y = model(x) + 1\n", "statement was changed"),
        ("        self.total += x\n", "        pass\n", "removed"),
        ("def evaluate(model, n=3):", "def evaluate(model, n=4):", "defaults"),
        ("def evaluate(model, n=3):", "def evaluate(model, n=3, extra=None):", "parameters"),
        ("@torch.no_grad()\n", "", "decorators"),
        ("class Meter:", "class Meter(Base):", "decorators"),
        ("for epoch in range(limit):", "for epoch in range(limit + 1):", "head of a `for`"),
        ("if loss > best:", "if loss >= best:", "head of a `if`"),
        ("except ValueError:", "except Exception:", "clauses"),
        ("        model.step()\n", "        if loss > 1:\n                model.step()\n", "moved into a new `if`"),
        ("            pass\n", "            pass\n        except KeyError:\n            pass\n", "clauses"),
        ("            pass\n", "            raise\n", "`raise`"),
        ("it = iter(range(9))\nlimit = 3\n", "limit = 3\nit = iter(range(9))\n", "moved"),
        ("        if loss > best:\n            best = loss\n", "        best = loss\n", "moved out of their `if`"),
        ("        print(next(it))\n", "", "`next(it)`"),
        ("print(next(it))", "print(1)", "`next(it)`"),
        ("print(next(it))", "print(next(it) if limit else 0)", "`next(it)`"),
        ("print(next(it))", "logger.info(next(it))", "`next(it)`"),
        ("import sys\n", "from __future__ import annotations\nimport sys\n", "__future__"),
        ("    def update(self, x):", "    def __getattr__(self, x):\n        return 1\n\n    def update(self, x):", "__getattr__"),
    ],
)
def test_changes_of_meaning_are_refused(old: str, new: str, reason: str) -> None:
    found = edit(old, new)
    assert reason in why(found)
    assert sorted(found.loops.values()) == ["m:evaluate:0", "m:train:0"]


def test_a_moved_statement_is_no_hindsight_statement() -> None:
    found = edit("it = iter(range(9))\nlimit = 3\n", "limit = 3\nit = iter(range(9))\n")
    assert not found.hindsight
    assert len(found.changes) == 1
    assert found.changes[0].recorded_lineno != found.changes[0].present_lineno


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('print("loss", float(loss), file=sys.stderr)', "print(loss)"),
        ("print(next(it))", "print('next', next(it), best)"),
        ('logger.info("epoch %d", epoch)', 'logger.info("epoch %d of %d", epoch, limit)'),
        ('logger.info("epoch %d", epoch)', 'logger.info("lr %s", model.lr())'),
    ],
)
def test_arguments_of_log_statements_may_change(old: str, new: str) -> None:
    found = edit(old, new)
    assert [(s.text, s.kind) for s in found.hindsight] == [(new, "edited")]
    assert not found.changes
    assert not found.removed_logs


def test_calls_kept_by_an_edited_log_statement_are_named() -> None:
    found = edit("print(next(it))", "print('next', next(it), model.size())")
    assert found.hindsight[0].shared_calls == ("next(it)",)
    found = edit('logger.info("epoch %d", epoch)', 'logger.info("%s", epoch)')
    assert found.hindsight[0].shared_calls == ()


@pytest.mark.parametrize("old", ['        logger.info("epoch %d", epoch)\n', '        print("loss", float(loss), file=sys.stderr)\n'])
def test_log_statements_may_be_removed(old: str) -> None:
    found = edit(old, "")
    assert [log.text for log in found.removed_logs] == [old.strip()]
    assert not found.changes
    assert not found.identical


def test_a_log_statement_may_be_put_under_a_condition() -> None:
    found = edit('        logger.info("epoch %d", epoch)\n', '        if epoch:\n            logger.info("epoch %d", epoch)\n')
    assert [s.text for s in found.hindsight] == ['if epoch:\n    logger.info("epoch %d", epoch)']
    assert len(found.removed_logs) == 1
    assert not found.changes


@pytest.mark.parametrize(
    ("new", "names"),
    [
        ("loss = loss * 2", {"loss"}),
        ("epoch += 1", {"epoch"}),
        ("for epoch in range(2):\n    pass", {"epoch"}),
        ("norm = 1", set()),
        ("model.total = 1", {"model.total"}),
        ("model.fresh = 1", set()),
        ("del best", {"best"}),
    ],
)
def test_rebinding_is_flagged(new: str, names: set[str]) -> None:
    found = after("loss = evaluate(model)", new)
    assert found.hindsight[0].rebinds == names
    assert not found.changes


def test_redefinitions_at_module_level_are_flagged() -> None:
    found = after("limit = 3", "def evaluate(m):\n    return 0", "import torch", "import json as logging", "def print(*a): ...")
    assert [s.rebinds for s in found.hindsight] == [{"evaluate"}, set(), {"logging"}, {"print"}]


def test_user_defined_log_methods_are_not_log_statements() -> None:
    recorded = b"class T:\n    def log(self, x):\n        self.h.append(x)\nt.log(1)\n"
    found = diff(recorded, recorded.replace(b"log(1)", b"log(2)"), "m")
    assert [change.why for change in found.changes] == ["the statement was changed"]
    other = diff(b"t.log(1)\n", b"t.log(2)\n", "m", own_functions=frozenset({"log"}))
    assert other.changes
    assert not diff(b"t.log(1)\n", b"t.log(2)\n", "m").changes


def test_iterators_are_not_used_up_by_logging() -> None:
    recorded = b"g = (x for x in y)\nprint(list(g))\nprint(sum(y))\n"
    assert diff(recorded, recorded.replace(b"list(g)", b"1"), "m").changes
    assert not diff(recorded, recorded.replace(b"sum(y)", b"1"), "m").changes


@pytest.mark.parametrize(
    "call",
    ["pbar.set_description(f'{a}')", "pbar.set_postfix(loss=a)", "tqdm.write(a)", "sys.stdout.write(a)", "wandb.log({'l': a})",
     "writer.add_scalar('l', a, 1)", "writer.add_scalars('l', {'a': a})", "logging.warning(a)", "pprint.pprint(a)",
     "mlflow.log_metric('l', a)",
     "logging.getLogger(__name__).debug(a)", "self.trainer.logger.log_metrics({'a': a})"],
)  # fmt: skip
def test_known_log_statements(call: str) -> None:
    recorded = f"import sys\n{call}\nx = 1\n"
    found = diff(recorded.encode(), recorded.replace("a}", "b}").replace("a)", "b)").replace("a,", "b,").replace("=a", "=b").encode(), "m")
    assert [s.kind for s in found.hindsight] == ["edited"], found
    assert not found.changes


def test_not_log_statements() -> None:
    for call in ["f.write(a)", "model.step(a)", "torch.save(a)", "scheduler.step(a)", "get().info(a)"]:
        assert diff(call.encode(), call.replace("(a)", "(b)").encode(), "m").changes, call


def test_docstrings_matter_where_they_are_read() -> None:
    recorded = b'"""usage: a"""\nargs = parse(__doc__)\n'
    found = diff(recorded, recorded.replace(b"usage: a", b"usage: b"), "m")
    assert "__doc__" in why(found)


def test_decorated_functions_that_move_are_refused_unless_harmless() -> None:
    recorded = b"@register\ndef f(): ...\nx = 1\ny = 2\nz = 3\n"
    moved = b"x = 1\ny = 2\nz = 3\n@register\ndef f(): ...\n"
    assert "moved" in why(diff(recorded, moved, "m"))
    harmless = [each.replace(b"register", b"torch.no_grad()") for each in (recorded, moved)]
    assert diff(*harmless, "m").identical


def test_a_function_whose_name_is_bound_again_must_not_move() -> None:
    recorded = b"def f(): ...\nf = fast(f)\nx = 1\n"
    assert "moved" in why(diff(recorded, b"f = fast(f)\nx = 1\ndef f(): ...\n", "m"))


def test_an_inserted_duplicate_leaves_the_rest_matched() -> None:
    recorded = "for i in a:\n    print(i)\n    step(i)\nfor i in a:\n    print(i)\n"
    for present, count in [
        ("for i in a:\n    print(i)\n    print(i)\n    step(i)\nfor i in a:\n    print(i)\n", 1),
        ("for i in a:\n    print(i)\n    step(i)\n    print(i)\nfor i in a:\n    print(i)\n", 1),
        ("for i in a:\n    print(i)\nfor i in a:\n    print(i)\n    step(i)\nfor i in a:\n    print(i)\n", 1),
    ]:
        found = diff(recorded.encode(), present.encode(), "m")
        assert len(found.hindsight) == count
        assert not found.changes
        assert sorted(found.loops.values()) == ["m:<module>:0", "m:<module>:1"]


def test_inserted_loop_before_a_like_one_keeps_names_apart() -> None:
    recorded = "for x in xs:\n    train(x)\n    step()\n"
    present = "for x in xs:\n    print(x)\n" + recorded.replace("train(x)", "train(x)\n    print(x)")
    found = diff(recorded.encode(), present.encode(), "m")
    assert found.loops == {(3, 0): "m:<module>:0"}
    assert [s.lineno for s in found.hindsight] == [1, 5]
    assert not found.changes


def test_names_of_loops_are_those_of_the_recorded_source() -> None:
    recorded = "def f():\n    for a in b: pass\ndef f():\n    for a in b: pass\n    def g():\n        while 1: break\n"
    present = "def f():\n    for q in r: pass\n    for a in b: pass\n" + recorded[recorded.index("def f", 3) :]
    found = diff(recorded.encode(), present.encode(), "m")
    assert found.loops == {(3, 4): "m:f:0", (5, 4): "m:f#2:0", (7, 8): "m:f#2.<locals>.g:0"}


def test_lines_of_changed_layout_map_to_recorded_lines() -> None:
    recorded = "a = 1\nfor i in x:\n    print(i,\n          a)\n    step()\n"
    present = "# new\na = 1\n\nfor i in x:\n    hello = 1\n    print(i, a)\n    step()\n"
    found = diff(recorded.encode(), present.encode(), "m")
    assert found.lines == {2: 1, 4: 2, 6: 3, 7: 5}
