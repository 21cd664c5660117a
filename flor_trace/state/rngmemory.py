"""The states of `random` and of NumPy's global generator as raw memory.

Their own `getstate` and `get_state` take 16 and 50 µs, and every hindsight statement is enclosed in a pair; a copy of
2.5 kB takes less than one. Where a generator's memory is not laid out as expected, `None` stands for its access, and
the callers use the slow way.
"""

from __future__ import annotations

import ctypes
import random
import struct
import sys
from typing import Any

_WORDS = 624


class PythonState:
    """Mersenne Twister behind the functions of `random`: an index and 624 words behind the object's head."""

    SIZE = 4 + 4 * _WORDS

    def __init__(self, generator: random.Random) -> None:
        self._generator = generator
        self._address = id(generator) + object.__basicsize__

    @classmethod
    def of(cls, generator: Any) -> PythonState | None:
        """Access to `random`'s generator, if its memory holds what it says of itself."""
        if type(generator) is not random.Random:
            return None
        made = cls(generator)
        words = generator.getstate()[1]
        expected = struct.pack(f"={_WORDS + 1}I", words[-1], *words[:-1])
        return made if made.read()[0] == expected else None

    def read(self) -> tuple[bytes, Any]:
        """The state, and the second of a pair of normal numbers if it is kept."""
        return ctypes.string_at(self._address, self.SIZE), self._generator.gauss_next  # type: ignore[attr-defined]

    def write(self, state: tuple[bytes, Any]) -> None:
        """Set what `read` returned."""
        if self.read() != state:
            ctypes.memmove(self._address, state[0], self.SIZE)
            self._generator.gauss_next = state[1]  # type: ignore[attr-defined]


class NumpyState:
    """NumPy's global generator: 624 words and a position, and in the RandomState the second of a pair of normals.

    That second number is taken without a draw, so the words alone do not tell whether anything was drawn.
    """

    SIZE = 4 * _WORDS + 4

    def __init__(self, generator: Any, kept: int) -> None:
        self._generator = generator
        self._bits = generator._bit_generator
        self._address = self._bits.ctypes.state_address
        self._kept = kept

    @classmethod
    def of(cls, generator: Any) -> NumpyState | None:
        """Access to a RandomState over MT19937, if its memory holds what it says of itself."""
        if type(generator._bit_generator).__name__ != "MT19937":
            return None
        trial = type(generator)(1)
        size = type(generator).__basicsize__
        base = id(trial)
        for offset in range(object.__basicsize__, size - 24, 8):
            # the one pointer into the object itself: to its bit generator's functions, before the kept number
            pointer = ctypes.c_size_t.from_address(base + offset).value
            if base < pointer < base + size:
                made, other = cls(trial, base + offset + 8), cls(generator, id(generator) + offset + 8)
                return other if made._agrees(1, 0.125) and made._agrees(0, 0.5) and other._is_current() else None
        return None

    def _agrees(self, has: int, value: float) -> bool:
        state = self._generator.get_state(legacy=False)
        self._generator.set_state({**state, "has_gauss": has, "gauss": value})
        return self._is_current()

    def _is_current(self) -> bool:
        """Whether this is what the generator says its state is."""
        state = self._generator.get_state(legacy=False)
        words = struct.pack(f"={_WORDS}Ii", *state["state"]["key"].tolist(), state["state"]["pos"])
        kept = struct.pack("=i4xd", state["has_gauss"], state["gauss"])
        found = self.read()
        return found[0] == words and (found[1][:4], found[1][8:]) == (kept[:4], kept[8:])

    def over(self, generator: Any) -> bool:
        """Whether `generator` is the one that is accessed, still over the same bit generator."""
        return generator is self._generator and generator._bit_generator is self._bits

    def put_back(self) -> None:
        """Give NumPy's global generator the bit generator again that is accessed here."""
        sys.modules["numpy.random.mtrand"].set_bit_generator(self._bits)

    def read(self) -> tuple[bytes, bytes]:
        """The words with the position, and the kept number."""
        return ctypes.string_at(self._address, self.SIZE), ctypes.string_at(self._kept, 16)

    def write(self, state: tuple[bytes, bytes]) -> None:
        """Set what `read` returned."""
        if self.read() != state:
            with self._bits.lock:
                ctypes.memmove(self._address, state[0], self.SIZE)
                ctypes.memmove(self._kept, state[1], 16)
