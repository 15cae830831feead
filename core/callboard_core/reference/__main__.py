"""Write the reference into the folder that is named."""

from __future__ import annotations

import argparse
from pathlib import Path

from callboard_core.reference import write

parser = argparse.ArgumentParser(prog="python -m callboard_core.reference", description=__doc__)
parser.add_argument("folder", type=Path, help="for example docs/reference")
write(parser.parse_args().folder)
