"""Text and whole-word references -> token ids with the references cut to the same length."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase


def tokenize_rows(
    rows: dict[str, list[Any]],
    row_numbers: list[int],
    *,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    mark_word_pieces: bool,
) -> dict[str, list[Any]]:
    """Tokenize a batch of rows; a row longer than ``max_length`` becomes several, so that no text is lost.

    A row whose references are null or point outside its text is returned without tokens, for the caller to count and
    leave out.

    Args:
        rows: Columns ``text`` and ``chinese_ref``: positions, [CLS] counted, of the tokens that continue a word.
        row_numbers: Number of each row in its dataset.
        tokenizer: A tokenizer with [CLS] and [SEP].
        max_length: Most tokens in a row, [CLS] and [SEP] counted.
        mark_word_pieces: Also let every ``##`` piece continue its word. The earlier repository's references mark
            Chinese characters only; those written by ``flash.corpus`` are complete.

    Returns:
        Columns ``input_ids``, ``continuations`` (positions in ``input_ids``) and ``row`` (number of the source row).
    """
    columns: dict[str, list[Any]] = {"input_ids": [], "continuations": [], "row": []}
    encoded = tokenizer(
        [text or "" for text in rows["text"]],
        add_special_tokens=False,
        return_attention_mask=False,
        return_token_type_ids=False,
    )["input_ids"]
    piece_ids = _word_piece_ids(tokenizer) if mark_word_pieces else None
    for token_ids, references, number in zip(encoded, rows["chinese_ref"], row_numbers, strict=True):
        tokens = np.asarray(token_ids, dtype=np.int32)
        continues = np.zeros(len(tokens), dtype=bool)
        positions = np.asarray(references or [], dtype=np.int64) - 1  # [CLS] is not among the tokens here
        if references is None or np.any((positions < 0) | (positions >= len(tokens))):
            columns["input_ids"].append(tokens[:0])
            columns["continuations"].append(np.zeros(0, dtype=np.int32))
            columns["row"].append(number)
            continue
        continues[positions] = True
        if piece_ids is not None:
            continues |= np.isin(tokens, piece_ids)
        for start, end in _pieces(continues, max_length - 2):
            ids = (tokenizer.cls_token_id, *tokens[start:end], tokenizer.sep_token_id)
            columns["input_ids"].append(np.asarray(ids, dtype=np.int32))
            # the first token starts a word for this row, also where its word began in the row before
            columns["continuations"].append(np.flatnonzero(continues[start + 1 : end]).astype(np.int32) + np.int32(2))
            columns["row"].append(number)
    return columns


def _pieces(continues: NDArray[np.bool_], longest: int) -> list[tuple[int, int]]:
    """Cut tokens into pieces of at most ``longest``, at word starts; a longer word is cut within."""
    pieces = []
    start, total = 0, len(continues)
    while total - start > longest:
        end = start + longest
        word_starts = np.flatnonzero(~continues[start + 1 : end + 1])
        if len(word_starts):
            end = start + 1 + int(word_starts[-1])
        pieces.append((start, end))
        start = end
    if total > start:
        pieces.append((start, total))
    return pieces


def _word_piece_ids(tokenizer: PreTrainedTokenizerBase) -> NDArray[np.int64]:
    return np.array([index for token, index in tokenizer.get_vocab().items() if token.startswith("##")])
