"""How often references found by matching a set of words differ from the segmenter's own cuts.

    python benchmarks/compare_word_refs.py clue_small_wwm_data

The earlier script collected a block's words of two and more Chinese characters in a set and marked, from left to right,
the longest run of characters that is in the set. A run may be in the set though the segmenter did not cut it here.
Only marks of Chinese characters are compared: the earlier script had no others.
"""

import argparse
import re
from collections.abc import Sequence
from itertools import accumulate

import datasets

from flash.corpus.segment import RjiebaSegmenter

_HAN = re.compile("[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0002fa1f]+")


def greedy_marks(text: str, words: Sequence[str]) -> set[int]:
    """Return the characters that continue a word by longest match in the set of the block's words."""
    known = {word for word in words if len(word) > 1 and _HAN.fullmatch(word)}
    longest = max(map(len, known), default=0)
    marks, position = set(), 0
    # the tokens that were matched leave out white space
    characters = [(index, character) for index, character in enumerate(text) if not character.isspace()]
    joined = "".join(character for _, character in characters)
    while position < len(joined):
        length = next(
            (n for n in range(min(longest, len(joined) - position), 1, -1) if joined[position : position + n] in known),
            1,
        )
        marks.update(characters[position + offset][0] for offset in range(1, length))
        position += length
    return marks


def segmenter_marks(text: str, words: Sequence[str]) -> set[int]:
    """Return the Chinese characters that continue a word by the segmenter's cuts."""
    begins = set(accumulate(map(len, words), initial=0))
    return {index for index, character in enumerate(text) if index not in begins and _HAN.fullmatch(character)}


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", help="a folder made by `flashquad prepare --format text`")
    arguments = parser.parse_args()
    segmenter = RjiebaSegmenter()
    block_count = different_blocks = mark_count = different_marks = 0
    for text in datasets.load_from_disk(arguments.dataset)["text"]:
        words = segmenter.cut(text)
        greedy, cuts = greedy_marks(text, words), segmenter_marks(text, words)
        block_count += 1
        different_blocks += greedy != cuts
        mark_count += len(cuts)
        different_marks += len(greedy ^ cuts)
    print(
        f"{different_blocks:,} of {block_count:,} blocks ({different_blocks / block_count:.1%}) have other marks, "
        f"{different_marks:,} marks besides {mark_count:,} ({different_marks / mark_count:.3%})"
    )


if __name__ == "__main__":
    main()
