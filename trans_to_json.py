"""Folders of text files -> one shuffled JSON lines file, a document a line."""

import argparse
from pathlib import Path

from flash.cli.console import one_line_errors
from flash.corpus.documents import ReadingSettings
from flash.corpus.jsonl import JsonlSettings, convert_to_jsonl, merge_to_jsonl


def parse_arguments() -> argparse.Namespace:
    """Return the arguments of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="Example: python trans_to_json.py --input_path news --output_path data/news.jsonl",
    )
    parser.add_argument("--input_path", type=Path, required=True, help="a folder of .txt files, or a file")
    parser.add_argument("--output_path", type=Path, required=True, help=".jsonl is added if missing")
    parser.add_argument("--json_key", default="text", help="key of the text (text)")
    parser.add_argument("--doc_spliter", default="", help="line between documents; a blank one by default")
    parser.add_argument("--min_doc_length", type=int, default=10, help="leave out shorter documents (10 characters)")
    parser.add_argument("--encoding", default="utf-8", help="of the input, such as gb18030 (utf-8)")
    parser.add_argument("--workers", type=int, default=1, help="processes, at most one a core (1)")
    parser.add_argument("--log_interval", type=int, default=10_000, help="documents between log lines (10000)")
    parser.add_argument("--no-merge", action="store_true", help="leave FILE.jsonl beside each input instead")
    parser.add_argument("--no-shuffle", action="store_true", help="keep the order of the files")
    parser.add_argument("--overwrite", action="store_true", help="replace an output that is there")
    return parser.parse_args()


def main() -> None:
    """Convert what the command line names."""
    arguments = parse_arguments()
    with one_line_errors("trans_to_json.py"):
        settings = JsonlSettings(
            min_document_chars=arguments.min_doc_length,
            shuffle_seed=None if arguments.no_shuffle else JsonlSettings().shuffle_seed,
            reading=ReadingSettings(arguments.encoding, arguments.json_key, arguments.doc_spliter.strip()),
        )
        common = {
            "workers": arguments.workers,
            "overwrite": arguments.overwrite,
            "log_interval": arguments.log_interval,
        }
        if arguments.no_merge:
            counts = convert_to_jsonl(arguments.input_path, settings, **common)
            place = "one file beside each input"
        else:
            place = arguments.output_path
            if place.suffix != ".jsonl":
                place = place.with_name(place.name + ".jsonl")
            counts = merge_to_jsonl(arguments.input_path, place, settings, **common)
        print(f"{place}: {counts['documents']:,} documents, {counts['characters']:,} characters")


if __name__ == "__main__":
    main()
