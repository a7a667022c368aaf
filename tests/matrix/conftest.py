# SPDX-License-Identifier: Apache-2.0
"""The fixtures of the wire tests, for the acceptance matrix."""
import importlib.util
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
for place in (HERE.parent / "hub", HERE.parent / "e2e", HERE):
    sys.path.insert(0, str(place))

_spec = importlib.util.spec_from_file_location("e2e_fixtures", HERE.parent / "e2e" / "conftest.py")
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)
globals().update({name: value for name, value in vars(_module).items() if not name.startswith("_")})
