"""What counts as a hindsight statement, what is refused, and which names loops keep."""

from __future__ import annotations

import ast
import textwrap

import pytest

from flor_trace.errors import SourceChanged, UsageError
from flor_trace.instrument.rewrite import rewrite
from flor_trace.replay.diff import SourceDiff, annotate, diff, diff_run, render_changes

RECORDED = """
import torch

def train(model, loader):
    for x, y in loader:
        loss = model(x)
        print("loss", loss.item())
    return loss

def main():
    for epoch in range(3):
        train(model, loader)
        if epoch % 2:
            print("epoch", epoch)

main()
"""


def compare(recorded: str, present: str) -> SourceDiff:
    return diff(textwrap.dedent(recorded).encode(), textwrap.dedent(present).encode(), "m")


def edit(old: str, new: str) -> SourceDiff:
    """RECORDED with one piece of text replaced."""
    assert old in RECORDED
    return compare(RECORDED, RECORDED.replace(old, new, 1))


def texts(found: SourceDiff) -> list[str]:
    return [statement.text for statement in found.hindsight]


def reasons(found: SourceDiff) -> str:
    return "; ".join(change.why for change in found.changes)


def test_same_source_is_identical() -> None:
    found = compare(RECORDED, RECORDED)
    assert found.identical
    assert sorted(found.loops.values()) == ["m:main:0", "m:train:0"]
    assert all(today == recorded for today, recorded in found.lines.items())


@pytest.mark.parametrize(
    "present",
    [
        ast.unparse(ast.parse(RECORDED)),
        "# a comment\n" + RECORDED.replace("    loss = model(x)", "    loss = (\n            model(x)\n        )  # why"),
        RECORDED.replace("def main():", 'def main():\n    """Now with a docstring."""\n'),
        RECORDED.replace("\n", "\r\n"),
        "\ufeff" + RECORDED,
    ],
    ids=["unparsed", "comments", "docstring", "crlf", "bom"],
)
def test_formatting_is_ignored(present: str) -> None:
    found = compare(RECORDED, present)
    assert found.identical
    assert sorted(found.loops.values()) == ["m:main:0", "m:train:0"]


def test_order_of_functions_is_ignored() -> None:
    head, train, main, call = RECORDED.partition("def train")[0], *_parts()
    found = compare(RECORDED, head + main + train + call)
    assert found.identical
    assert sorted(found.loops.values()) == ["m:main:0", "m:train:0"]


def _parts() -> tuple[str, str, str]:
    train = RECORDED[RECORDED.index("def train") : RECORDED.index("def main")]
    main = RECORDED[RECORDED.index("def main") : RECORDED.index("main()\n", RECORDED.index('print("epoch'))]
    return train, main, "main()\n"


def test_inserted_statement_is_described() -> None:
    found = edit("        train(model, loader)\n", "        train(model, loader)\n        norm = grad_norm(model)\n")
    (statement,) = found.hindsight
    assert (statement.kind, statement.text, statement.lineno) == ("inserted", "norm = grad_norm(model)", 13)
    assert (statement.function, statement.qualname) == ("m:main", "main")
    assert statement.enclosing_loops == ["m:main:0"]
    assert statement.binds == {"norm"}
    assert statement.reads == {"grad_norm", "model"}
    assert not found.changes
    assert not statement.rebinds


def test_edited_log_statement_keeps_its_recorded_lines() -> None:
    found = edit('print("loss", loss.item())', 'print("loss", loss.item(), y.sum())')
    (statement,) = found.hindsight
    assert (statement.kind, statement.recorded_lines) == ("edited", (7, 7))
    assert statement.enclosing_loops == ["m:train:0"]


def test_annotate_marks_the_tree_for_the_rewriter() -> None:
    present = RECORDED.replace("    return loss", "    for p in ps:\n        print(p)\n    return loss")
    found = compare(RECORDED, present)
    tree = ast.parse(present)
    annotate(tree, found)
    marked = {node.lineno: node.flor_hindsight for node in ast.walk(tree) if hasattr(node, "flor_hindsight")}
    assert marked == {8: 0}
    assert [info.key for info in rewrite(tree, "m").loops] == ["m:train:0", "m:main:0"]


def test_annotate_refuses_another_tree() -> None:
    found = edit("    return loss", "    print(1)\n    return loss")
    with pytest.raises(SourceChanged):
        annotate(ast.parse("pass"), found)


def test_todays_source_must_parse() -> None:
    with pytest.raises(SourceChanged, match="not valid Python"):
        compare(RECORDED, "def f(:")


def test_run_with_a_missing_file_is_refused() -> None:
    with pytest.raises(UsageError, match="script moved"):
        diff_run({"m": ("train.py", RECORDED.encode())}, lambda path: None)


def test_run_collects_all_modules() -> None:
    files = {"a.py": b"x = 1\nprint(x)\n", "b.py": b"for i in y: pass\n"}
    found = diff_run({"a": ("a.py", b"x = 1\n"), "b": ("b.py", b"for i in y: pass\n")}, files.get)
    assert [(name, each.text) for name, each in found.hindsight] == [("a", "print(x)")]
    assert found.modules["b"].identical
    assert not found.identical


def test_changes_are_rendered_with_both_versions() -> None:
    found = edit("loss = model(x)", "loss = model(x) * 2")
    text = render_changes(found.changes, "train.py")
    assert "train.py, line 6 today, line 6 as recorded: the statement was changed" in text
    assert "  - loss = model(x)\n  + loss = model(x) * 2" in text


def test_unchanged_bytes_take_a_short_way_to_the_same_names() -> None:
    short, long = compare(RECORDED, RECORDED), compare(RECORDED, RECORDED + "\n# a comment\n")
    assert short.identical
    assert long.identical
    assert (short.loops, short.functions) == (long.loops, long.functions)
    assert long.lines.items() <= short.lines.items()


def test_deep_sources_are_no_trouble() -> None:
    chain = "if a == 0:\n    x = 0\n" + "".join(f"elif a == {n}:\n    x = {n}\n" for n in range(1, 600))
    recorded = chain + "y = " + " + ".join(["a"] * 800) + "\n"
    found = compare(recorded, recorded.replace("    x = 500\n", "    x = 500\n    print(x)\n"))
    assert texts(found) == ["print(x)"]
    assert not found.changes
    annotate(ast.parse(recorded.replace("    x = 500\n", "    x = 500\n    print(x)\n")), found)
