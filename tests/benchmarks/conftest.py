"""Put the folders of the benchmarks on the import path, where Python finds them when it runs one of them."""

import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path[:0] = [str(BENCHMARKS), str(BENCHMARKS / "quality"), str(BENCHMARKS / "finetuning")]
