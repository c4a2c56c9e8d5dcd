"""Pretrain with the flags of the earlier repository: a thin door to ``flashquad pretrain``; works under torchrun."""

import shlex
import sys

from flash.cli.console import one_line_errors, quiet_libraries


def main() -> None:
    """Run the training."""
    from flash.training.pretrain import pretrain, result_summary
    from flash.training.recipes import parse_arguments

    command_line = sys.argv[1:]
    recipe = None
    if "--recipe" in command_line[:-1]:
        at = command_line.index("--recipe")
        recipe = command_line[at + 1]
        del command_line[at : at + 2]
    quiet_libraries()
    with one_line_errors("run_mlm_wwm.py"):
        args = parse_arguments(command_line, recipe)
        result = pretrain(args, command=shlex.join(["python", *sys.argv]))
        if args.process_index == 0:
            print(result_summary(result))


if __name__ == "__main__":
    main()
