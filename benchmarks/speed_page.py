"""Write the tables and figures of docs/speed.md from what `flashquad bench` measured; the prose there is by hand.

    python benchmarks/speed_page.py           # writes, seconds
    python benchmarks/speed_page.py --check   # exit code 1 if a table is not what the results give

What was measured into `benchmarks/results/speed_NAME` stands between `<!-- results NAME -->` and `<!-- end -->`.
"""

import argparse
import json
import re
import sys
from pathlib import Path

from flash.benchmarking.benchmark import NUMBERS_FILE, Results, read_results
from flash.benchmarking.figures import draw_benchmark
from flash.benchmarking.tables import format_results

from generated_page import DOCS, write_or_compare

RESULTS = Path(__file__).parent / "results"
PAGE = DOCS / "speed.md"
_RESULTS = re.compile(r"(<!-- results (?P<name>\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def result_folders() -> dict[str, Path]:
    """Find the folders of measurements, by name."""
    return {folder.name.removeprefix("speed_"): folder for folder in sorted(RESULTS.glob("speed_*"))}


def figure_of(name: str) -> Path:
    """Name the figure of a folder."""
    return DOCS / "figures" / f"speed-{name.replace('_', '-')}.png"


def section(name: str) -> str:
    """Write machine, figure and tables of one folder."""
    folder = result_folders()[name]
    results = read_results(folder)
    environment = json.loads((folder / NUMBERS_FILE).read_text(encoding="utf-8"))["environment"]
    parts = [f"{describe(environment)}\n{commits(results)}"]
    if results.timings:
        parameters = {row.parsed.family: row.parameters for row in results.timings}
        parts.append(f"Parameters: {', '.join(f'{family} {count:,}' for family, count in parameters.items())}.")
    if has_figure(results):
        caption = "Speed-up over Transformer++, tokens/s and memory against the length"
        parts.append(f"![{caption}](figures/{figure_of(name).name})")
    return "\n\n".join([*parts, format_results(results)])


def has_figure(results: Results) -> bool:
    """Say whether there is something to see: times of more than one model at more than one length."""
    return min(len({row.length for row in results.timings}), len({row.contestant for row in results.timings})) > 1


def describe(environment: dict) -> str:
    """Name machine and versions in one paragraph."""
    machine = f"{environment['device']}, {environment['cores']} cores"
    if environment["device_type"] == "cuda":
        machine = f"{environment['device']} ({environment['device_memory_gib']} GiB), CUDA {environment['cuda']}"
    versions = ", ".join(f"{name} {environment[name]}" for name in ("torch", "transformers", "triton", "python"))
    setting = f"; with `{variables}`" if (variables := environment.get("variables")) else ""
    return f"{machine}; PyTorch threads: {environment['threads']}; {versions}{setting}."


def commits(results: Results) -> str:
    """Name the commits of the rows: a folder that was gone on with has rows of several."""
    kinds = {"times": results.timings, "memory": results.memories, "padding": results.paddings}
    found = {kind: ", ".join(dict.fromkeys(row.commit for row in rows)) for kind, rows in kinds.items()}
    return f"Commits: {'; '.join(f'{kind} {names}' for kind, names in found.items() if names)}."


def fill(text: str) -> str:
    """Write each folder's section between its marks."""
    return _RESULTS.sub(lambda match: f"{match[1]}\n{section(match['name'])}\n\n{match[3]}", text)


def main() -> int:
    """Write or check the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    arguments = parser.parse_args()
    if not arguments.check:
        for name, folder in result_folders().items():
            results = read_results(folder)
            if has_figure(results):
                draw_benchmark(results.timings, results.memories, figure_of(name))
    return write_or_compare(PAGE, fill(PAGE.read_text(encoding="utf-8")), check=arguments.check)


if __name__ == "__main__":
    sys.exit(main())
