"""Positions: where in the nest of loops execution is, and the names of boundaries."""

from __future__ import annotations

from typing import Final, NamedTuple

EXIT: Final = "exit"
END: Final = "end"


class Boundary(NamedTuple):
    """A place where state may be snapshotted.

    `iteration` is the number of the iteration whose item is about to be taken; 0 is the entry of the activation,
    before its iterable has been evaluated; `"exit"` follows exhaustion or `break`. `entry` counts the activations
    of the loop over the whole run. The end of the script is `Boundary("", 0, "end")`.
    """

    loop: str
    entry: int
    iteration: int | str

    def __str__(self) -> str:
        if self.iteration == END:
            return "the end of the run"
        where = "exit" if self.iteration == EXIT else f"iteration {self.iteration}"
        return f"{self.loop} (entry {self.entry}), {where}"


class Place(NamedTuple):
    """One level of a position: an activation and the iteration that it is in."""

    loop: str
    entry: int
    iteration: int


Position = tuple[Place, ...]
END_OF_RUN: Final = Boundary("", 0, END)
