"""``python -m flor_trace``."""

import os
import sys

if not sys.flags.safe_path and sys.path:
    # The working directory, which may hold the user's own `copy.py` or `json.py`. The launcher puts the script's folder here.
    sys.path[0] = os.path.dirname(os.__file__)

from flor_trace.cli import main

if __name__ == "__main__":
    sys.exit(main())
