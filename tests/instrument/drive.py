"""Run a target through the launcher with probes that record nothing.

    drive.py [--instrument PKG]… (FILE | -m MODULE | -c CODE) [ARGS…]
"""

from __future__ import annotations

import pathlib
import sys

from flor_trace.instrument.launcher import Target, ensure_hash_seed, run_target
from flor_trace.instrument.policy import Policy


def main(argv: list[str]) -> None:
    ensure_hash_seed()
    extra = []
    while argv and argv[0] == "--instrument":
        extra.append(argv[1])
        argv = argv[2:]
    kind = {"-m": "module", "-c": "code"}.get(argv[0], "file")
    if kind != "file":
        argv = argv[1:]
    sys.path.insert(0, str(pathlib.Path(__file__).parent))  # for -P keeps it out
    from fakes import FakeHooks, PassingLoop

    del sys.path[0]
    run_target(Target(kind, argv[0], argv[1:]), FakeHooks(loop=PassingLoop), policy=Policy(extra))


if __name__ == "__main__":
    main(sys.argv[1:])
