"""Source files: their text, line by line as the parser counts them, and room to walk their trees."""

from __future__ import annotations

import ast
import contextlib
import io
import sys
import textwrap
import tokenize
from collections.abc import Iterator

from flor_trace.replay.statements import blocks, first_line


@contextlib.contextmanager
def deep_recursion() -> Iterator[None]:
    """Room for a sum of a thousand terms or a chain of hundreds of `elif`, which are as deep as they are long."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(max(limit, 30_000))
    try:
        yield
    finally:
        sys.setrecursionlimit(limit)


class SourceText:
    """Source whose statements can be shown to the user."""

    def __init__(self, source: bytes) -> None:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(source).readline)
        text = source.decode(encoding).replace("\r\n", "\n").replace("\r", "\n")
        # Not splitlines(), which also splits at form feeds and the like.
        self._lines = text.removeprefix("\ufeff").split("\n")

    def __len__(self) -> int:
        return len(self._lines)

    def of(self, node: ast.stmt) -> str:
        """The statement as written, without the indentation that all its lines share."""
        lines = self._lines[first_line(node) - 1 : node.end_lineno]
        before = lines[0].encode()[: node.col_offset] if node.lineno == first_line(node) else b""
        after = lines[-1].encode()[node.end_col_offset :].strip()
        if before.strip() or (after and not after.startswith(b"#")):
            return ast.unparse(node)  # it shares a line with another statement
        return textwrap.dedent("\n".join(lines)).strip()

    def head(self, node: ast.stmt) -> str:
        """The first lines of a compound statement, up to its body."""
        inner = [first_line(block[0]) for _, block in blocks(node) if block]
        end = max(node.lineno, min(inner) - 1) if inner else node.end_lineno
        return textwrap.dedent("\n".join(self._lines[first_line(node) - 1 : end])).strip()

    def mentions(self, word: str) -> bool:
        """Whether the text has the word anywhere."""
        return any(word in line for line in self._lines)
