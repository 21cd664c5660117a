"""A worker's machine made like the recording one, as far as that goes, and what is left of the difference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flor_trace.runtime import machine


class Surroundings:
    """The recorded facts against this machine's.

    Args:
        recorded: what `machine.capture` gave while recording, each time with more libraries imported.
        environment: the recorded environment.
    """

    def __init__(self, recorded: Sequence[machine.Facts], environment: Mapping[str, str]) -> None:
        self._recorded: machine.Facts = {}
        for facts in recorded:
            # The first facts about a library are those from before the script could change much.
            versions = {**facts["versions"], **self._recorded.get("versions", {})}
            self._recorded = {**facts, **self._recorded, "versions": versions}
        self._environment = environment
        self._here: machine.Facts = {}
        self._compared: frozenset[str] | None = None

    def prepare(self) -> None:
        """Before the script, and so before any library, starts."""
        if self._recorded:
            self._here = machine.present()
            machine.set_for_c(machine.variables(self._recorded, self._environment, self._here))

    def torch_imported(self) -> None:
        """Right after torch's import."""
        if self._recorded:
            machine.set_torch_threads(self._recorded, self._environment, self._here)

    def numpy_imported(self) -> None:
        """Right after NumPy's import."""
        if self._recorded:
            machine.set_numpy_threads(self._recorded, self._environment, self._here)

    def mismatches(self) -> list[str]:
        """What differs, each as a clause, where a library has been imported since the last call; else nothing."""
        imported = machine.imported()
        if not self._recorded or imported == self._compared:
            return []
        self._compared = imported
        return machine.mismatches(self._recorded, machine.capture())
