"""Pretrain with the flags of the earlier repository: a thin door to ``flashquad pretrain``; works under torchrun."""

import argparse
import shlex
import sys

from flash.cli.console import one_line_errors, quiet_libraries


def main() -> None:
    """Run the training."""
    from flash.training.pretrain import pretrain, result_summary
    from flash.training.recipes import parse_arguments

    parser = argparse.ArgumentParser(
        prog="run_mlm_wwm.py",
        usage="%(prog)s [--recipe RECIPE] [flags below]",
        description="Pretrain with the flags of the earlier repository, listed below; a recipe gives their defaults.",
        epilog="Example: python run_mlm_wwm.py --do_train --train_dir clue_small_wwm_data --output_dir wwm_flash_small",
        add_help=False,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--recipe", help="recipe of the package (small, tiny-zh, demo, earlier) or a YAML file; none by default"
    )
    own, command_line = parser.parse_known_args()
    if {"-h", "--help", "--help-all"} & set(command_line):
        parser.print_help()  # that of the other flags follows
        print()
    quiet_libraries()
    with one_line_errors("run_mlm_wwm.py"):
        args = parse_arguments(command_line, own.recipe, command="run_mlm_wwm.py")
        result = pretrain(args, command=shlex.join(["python", *sys.argv]))
        if args.process_index == 0:
            print(result_summary(result))


if __name__ == "__main__":
    main()
