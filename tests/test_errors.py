import pytest
import torch

from flash.errors import InputError


def test_the_traceback_that_torch_puts_in_front_is_no_part_of_the_message():
    raised_again = InputError("Caught InputError in worker 0.\nTraceback ...\nflash.errors.InputError: no such file\n")
    assert str(raised_again) == "no such file"
    assert str(InputError("--lengths: write numbers")) == "--lengths: write numbers"


def test_a_compiled_graph_names_the_reason():
    def refuse(x):
        if x.shape[0] % 2:
            raise InputError(f"{x.shape[0]} is no even length")
        return x + 1

    with pytest.raises(Exception, match="3 is no even length"):
        torch.compile(refuse, fullgraph=True, backend="eager")(torch.ones(3))
