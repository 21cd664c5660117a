"""Warnings that are shown once per process, and so again in each worker that has jumped over where they were shown first."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

# What `warnings.formatwarning` makes: `file:line: Category: message`, more lines of the message, the source line indented.
_HEAD = re.compile(r"\S.*:\d+: [A-Za-z_][\w.]*: ")
# The same behind a progress bar of tqdm's, which does not end its line, and ends with a bracket or by going up a line.
_BEHIND = re.compile(r"(?:(?<=\])|(?<=\x1b\[A))[^\s\x1b].*:\d+: [A-Za-z_][\w.]*: ")
_LONGEST_MESSAGE = 30


class KnownWarnings:
    """The warnings in recorded output that has been passed: each with all its lines, by the first one."""

    def __init__(self) -> None:
        self.blocks: dict[str, list[str]] = {}

    def learn(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Pass over recorded output."""
        for text in _stderr_texts(records):
            lines = text.splitlines(keepends=True)
            for number, line in enumerate(lines):
                _, head = _parted(line)
                if head:
                    self.blocks.setdefault(head, _block([head, *lines[number + 1 : number + _LONGEST_MESSAGE]]))


class Repeats:
    """Recognises, in one stretch of a replay, the warnings that the recorded run had shown before it.

    Only what the stretch shows more often than it did when recorded, and what is the same to the last character, counts.

    Args:
        expected: the recorded output records of the stretch.
        before: those of what precedes the stretch, and of the loops that were skipped in it; or what was learnt from them.
    """

    def __init__(self, expected: Iterable[Mapping[str, Any]], before: Iterable[Mapping[str, Any]] | KnownWarnings) -> None:
        lines = (line for text in _stderr_texts(expected) for line in text.splitlines(keepends=True))
        self._due = Counter(head for _, head in map(_parted, lines) if head)
        if not isinstance(before, KnownWarnings):
            known = KnownWarnings()
            known.learn(before)
            before = known
        self._known = before.blocks
        self.dropped = 0

    def drop(self, text: str, as_recorded: Callable[[str], str]) -> str:
        """A text written to stderr without the repeated warnings in it; `as_recorded` undoes what insertions did to line
        numbers."""
        if not self._known:
            return text
        shown, lines = text.splitlines(keepends=True), as_recorded(text).splitlines(keepends=True)
        kept: list[str] = []
        at = 0
        while at < len(lines):
            other, head = _parted(lines[at])
            block = self._known.get(head)
            if block is not None and self._due[head] <= 0 and [head, *lines[at + 1 : at + len(block)]] == block:
                self.dropped += 1
                kept.append(other)
                at += len(block)
                continue
            if self._due[head] > 0:  # of other lines there may be millions
                self._due[head] -= 1
            kept.append(shown[at])
            at += 1
        return "".join(kept)


def _stderr_texts(records: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    # A warning is written in one piece, and so stands whole in a record.
    return (record["text"] for record in records if record["stream"] == "stderr")


def _parted(line: str) -> tuple[str, str]:
    """A line as what stands before a warning's first line, and that; the latter is empty where there is none."""
    found = _BEHIND.search(line) or _HEAD.match(line)
    return (line, "") if found is None else (line[: found.start()], line[found.start() :])


def _block(lines: list[str]) -> list[str]:
    """The lines of one warning: to the indented source line, if it has one, else its head."""
    for number, line in enumerate(lines[1:], start=1):
        if line.startswith("  "):
            return lines[: number + 1]
        if _HEAD.match(line):
            break
    return lines[:1]
