"""The fakes lie beside the tests and are imported by name, as the driver script does."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
