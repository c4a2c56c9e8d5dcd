"""Put the folder of the benchmarks on the import path, where Python finds it when it runs one of them."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
