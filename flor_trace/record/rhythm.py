"""Which iterations of an outermost loop are unlike the others: in every hundredth it prints, or enters a loop.

That is how trainings that count steps are written (`if step % 100 == 0: evaluate()`). A replay of a statement that stands there
executes these iterations alone (`replay.reached`), so that is where snapshots of heads help: at the beginning of such an iteration, to
jump there, and at its end, to jump from there to the next one.
"""

from __future__ import annotations

# As in `record.session`.
from builtins import len
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flor_trace.runtime.loops import Activation

# So many iterations with something in them, equally far apart, make a rhythm.
_BEATS = 3


class Rhythm:
    """What happened in the present outermost activation, iteration by iteration."""

    def __init__(self) -> None:
        self._key: tuple[str, int] | None = None
        self._happened = self._seen = 0
        self._iteration = 0
        self._at = 0.0
        self._beats: list[tuple[int, float]] = []

    def happened(self) -> None:
        """The script has printed something, or entered a loop, in the present iteration."""
        self._happened += 1

    def head(self, activation: Activation, now: float) -> None:
        """An iteration begins, at `now` seconds."""
        key = (activation.probe.key, activation.entry)
        if key != self._key:
            self._key, self._beats = key, []
        elif self._happened != self._seen:
            self._beats = [*self._beats, (self._iteration, self._at)][-_BEATS:]
        self._seen = self._happened
        self._iteration, self._at = activation.iteration, now

    @property
    def period(self) -> int:
        """Every how many iterations something happens; 0 where that is not known, or where hardly any lies between."""
        if len(self._beats) < _BEATS:
            return 0
        first, second, third = (iteration for iteration, _ in self._beats)
        return third - second if third - second == second - first > 2 else 0

    @property
    def seconds(self) -> float:
        """How long a period took."""
        return self._beats[-1][1] - self._beats[-2][1]

    @property
    def is_on_beat(self) -> bool:
        """Whether something is expected in the iteration that begins now."""
        return (self._iteration - self._beats[-1][0]) % self.period == 0
