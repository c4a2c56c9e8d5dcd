"""A JSON lines file of any size, made from the documents of a smaller corpus."""

import json
import random
from collections.abc import Iterator
from pathlib import Path

from flash.corpus.documents import ReadingSettings, read_documents
from flash.corpus.input_files import find_input_files
from flash.corpus.records import Document


def write_synthetic(inputs: list[str], path: Path, size_bytes: int, seed: int = 2022) -> int:
    """Write lines until the file has ``size_bytes``, and return their characters.

    Each line is a document of the input with its paragraphs in a random order and its number before it, so that lines
    differ however often the input is gone through.
    """
    generator = random.Random(seed)
    written = characters = 0
    with path.open("wb") as file:
        for number, text in enumerate(_texts_without_end(inputs)):
            paragraphs = text.split("\n")
            generator.shuffle(paragraphs)
            text = f"{number}\n" + "\n".join(paragraphs)
            written += file.write(json.dumps({"text": text}, ensure_ascii=False).encode() + b"\n")
            characters += len(text)
            if written >= size_bytes:
                return characters
    raise AssertionError("the texts have no end")


def _texts_without_end(inputs: list[str]) -> Iterator[str]:
    files, _ = find_input_files(inputs)
    while True:
        for file in files:
            for record in read_documents(file, ReadingSettings(), on_read=lambda count: None):
                if isinstance(record, Document):
                    yield record.text
