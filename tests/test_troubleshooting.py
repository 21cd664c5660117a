"""Every message that TROUBLESHOOTING.md explains is one that the program can say."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import flor_trace

PACKAGE = Path(flor_trace.__file__).parent
GAP = "…"


def explained() -> list[str]:
    text = (PACKAGE / "TROUBLESHOOTING.md").read_text()
    return re.findall(r"^### `(.+)`$", text, re.MULTILINE) + re.findall(r"^and `(.+?)`:", text, re.MULTILINE)


def said() -> list[str]:
    """All texts of the package, with a gap where a value is put in."""
    found = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                found.append("".join(part.value if isinstance(part, ast.Constant) else GAP for part in node.values))  # type: ignore[misc]
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return found


SAID = said()


def test_there_are_messages() -> None:
    assert len(explained()) > 20


@pytest.mark.parametrize("message", explained())
def test_the_program_says_it(message: str) -> None:
    pattern = ".*".join(re.escape(part) for part in re.split(f"{GAP}", message))
    assert any(re.search(pattern, text) for text in SAID), f"nothing in the package says {message!r}"
