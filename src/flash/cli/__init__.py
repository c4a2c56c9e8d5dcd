"""The command ``flashquad``: one short file per subcommand, named after it.

At its top a subcommand's module imports only what its options need; what does the work is imported when it runs, so
that ``--help`` answers at once.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from flash.cli import bench, evaluate, fill_mask, finetune, inspect, predict, prepare, pretrain, tokenizer
from flash.cli.console import one_line_errors


class _OneLineErrors(TyperGroup):
    """Runs a subcommand so that a mistake of the user ends in one line and exit code 2."""

    def invoke(self, ctx: Any) -> Any:
        with one_line_errors("flashquad", traceback=ctx.params["traceback"]):
            return super().invoke(ctx)


app = typer.Typer(cls=_OneLineErrors, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

# In the order of the work, as --help lists them.
app.command(epilog=tokenizer.EPILOG)(tokenizer.tokenizer)
app.command(epilog=prepare.EPILOG)(prepare.prepare)
app.command(epilog=pretrain.EPILOG, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(
    pretrain.pretrain
)
app.command("fill-mask", epilog=fill_mask.EPILOG)(fill_mask.fill_mask)
app.command(epilog=finetune.EPILOG, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(
    finetune.finetune
)
app.command(epilog=evaluate.EPILOG)(evaluate.evaluate)
app.command(epilog=predict.EPILOG)(predict.predict)
app.command(epilog=inspect.EPILOG)(inspect.inspect)
app.command(epilog=bench.EPILOG)(bench.bench)


@app.callback()
def flashquad(
    traceback: Annotated[bool, typer.Option("--traceback", help="Show where an error came from.")] = False,
) -> None:
    """Gated Attention Unit Transformers for Chinese: from raw text to a pretrained model and its use.

    Example: flashquad tokenizer --output runs/vocab && flashquad prepare --tokenizer runs/vocab --output runs/data
    """


def main() -> None:
    """Run the command line."""
    app(prog_name="flashquad")
