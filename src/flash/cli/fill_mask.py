"""``flashquad fill-mask``: sentences with [MASK] -> candidates."""

import json
import logging
import os
from dataclasses import asdict
from typing import Annotated

import typer

from flash.cli.console import BAD_INPUT_EXIT_CODE
from flash.cli.standard_input import lines_of_standard_input
from flash.errors import InputError
from flash.packaged import PACKAGED_MODEL

logger = logging.getLogger(__name__)

EPILOG = "\n\n".join(
    (
        'Example:  flashquad fill-mask "今天的天[MASK]很好"',
        'Example:  flashquad fill-mask ./wwm_flash_small "天气预报说今天的天[MASK]很好，那么我[MASK]一起去公园玩吧！"',
    )
)


def fill_mask(
    model: Annotated[
        str, typer.Argument(help="Hub id or folder of a masked language model; tiny-zh comes with the package.")
    ] = PACKAGED_MODEL,
    text: Annotated[
        list[str] | None,
        typer.Argument(help="Sentences with one or more [MASK]; none: a line of standard input each."),
    ] = None,
    top_k: Annotated[int, typer.Option(help="Candidates for each mask.")] = 5,
    tokenizer: Annotated[str | None, typer.Option(help="Another tokenizer: hub id, folder or vocab.txt.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a sentence.")] = False,
) -> None:
    """Fill the masks: print each sentence with its best candidates and their probabilities."""
    from flash.cli.console import quiet_libraries
    from flash.inference.fill_mask import MaskFiller

    quiet_libraries()
    # not pathlib's, which raises where a sentence is longer than a file name can be
    if not os.path.exists(model):  # noqa: PTH110
        if "[MASK]" in model:
            text = [model, *(text or [])]  # no model is named
            model = PACKAGED_MODEL
        elif not model.isascii():  # no name on the hub has such letters
            raise InputError(
                f"{model!r} is neither a model's folder nor a sentence with [MASK]; write [MASK] where a token is to "
                "be filled in"
            )
    filler = MaskFiller(model, tokenizer=tokenizer)
    failed = False
    for sentence in text or lines_of_standard_input():
        try:
            filled = filler.fill(sentence, top_k=top_k)
        except InputError as error:
            # one bad sentence does not cost the answers to the others
            logger.error("%s", error)
            failed = True
            continue
        if as_json:
            masks = [[asdict(candidate) for candidate in mask] for mask in filled.masks]
            print(json.dumps({"text": filled.text, "masks": masks}, ensure_ascii=False))
        else:
            print(filled.in_brackets())
    if failed:
        raise typer.Exit(BAD_INPUT_EXIT_CODE)
