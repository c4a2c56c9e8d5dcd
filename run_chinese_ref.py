"""JSON lines -> data/refids.txt, data/reftext.txt and the dataset clue_small_wwm_data, in the current folder."""

import argparse
from pathlib import Path

from flash.cli.console import one_line_errors
from flash.corpus.documents import ReadingSettings
from flash.corpus.prepare import PrepareSettings
from flash.corpus.reference_files import prepare_with_reference_files


def parse_arguments() -> argparse.Namespace:
    """Return the arguments of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="Example: python run_chinese_ref.py --model_name vocab.txt --input_path data/news.jsonl",
    )
    parser.add_argument(
        "--model_name",
        default="junnyu/roformer_chinese_char_base",
        help="hub id, folder or vocab.txt of the tokenizer (junnyu/roformer_chinese_char_base)",
    )
    parser.add_argument(
        "--input_path",
        type=Path,
        default=Path("data/clue_corpus_small_14g.jsonl"),
        help="a JSON lines file, or a folder of them (data/clue_corpus_small_14g.jsonl)",
    )
    parser.add_argument("--json_key", default="text", help="key of the text (text)")
    parser.add_argument("--encoding", default="utf-8", help="of the input, such as gb18030 (utf-8)")
    parser.add_argument("--max_length", type=int, default=512, help="most tokens of a block (512)")
    parser.add_argument("--workers", type=int, default=12, help="processes, at most one a core (12)")
    parser.add_argument("--log_interval", type=int, default=10_000, help="documents between log lines (10000)")
    parser.add_argument("--overwrite", action="store_true", help="replace outputs that are there")
    return parser.parse_args()


def main() -> None:
    """Prepare what the command line names."""
    arguments = parse_arguments()
    with one_line_errors("run_chinese_ref.py"):
        manifest = prepare_with_reference_files(
            [arguments.input_path],
            Path("clue_small_wwm_data"),
            arguments.model_name,
            PrepareSettings(arguments.max_length, reading=ReadingSettings(arguments.encoding, arguments.json_key)),
            reference_folder=Path("data"),
            workers=arguments.workers,
            overwrite=arguments.overwrite,
            log_interval=arguments.log_interval,
        )
        counts = manifest["counts"]
        print(f"clue_small_wwm_data: {counts['blocks']:,} blocks from {counts['documents']:,} documents")


if __name__ == "__main__":
    main()
