"""``python -m flor_trace``."""

import sys

from flor_trace.cli import main

if __name__ == "__main__":
    sys.exit(main())
