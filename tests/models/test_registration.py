"""What ``import flash`` brings along and what not: each program runs in a process of its own, with nothing imported."""

import subprocess
import sys

import pytest

SMALL = "hidden_size=16, num_hidden_layers=1, vocab_size=20"


def output_of(program):
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


@pytest.mark.parametrize(
    "imports",
    [
        "import flash; from transformers import AutoConfig, AutoModelForMaskedLM",
        "from transformers import AutoConfig, AutoModelForMaskedLM; import flash",
        "import flash, transformers.modeling_utils; from transformers import AutoConfig, AutoModelForMaskedLM",
        "import flash.models.modeling_flash; from transformers import AutoConfig, AutoModelForMaskedLM",
    ],
)
def test_auto_classes_know_the_models_in_whatever_order_all_is_imported(imports):
    program = f"{imports}\nfor name in ('flash_quad', 'flash', 'gau_alpha'):\n"
    program += f"    config = AutoConfig.for_model(name, {SMALL})\n"
    program += "    print(type(AutoModelForMaskedLM.from_config(config)).__name__)"
    assert output_of(program).split() == ["FLASHQuadForMaskedLM", "FLASHForMaskedLM", "GAUAlphaForMaskedLM"]


def test_a_configuration_that_was_pickled_is_as_good_as_a_new_one(tmp_path):
    file = str(tmp_path / "config.pickle")
    output_of(f"import flash, pickle\npickle.dump(flash.FLASHConfig({SMALL}), open({file!r}, 'wb'))")
    program = f"import pickle\nconfig = pickle.load(open({file!r}, 'rb'))\n"
    program += "from transformers import AutoModel\nprint(type(AutoModel.from_config(config)).__name__, config.s)"
    assert output_of(program) == "FLASHModel 128"


def test_what_has_no_use_for_models_does_not_import_them():
    program = "import flash.cli, flash.corpus.tokens.local_engine, sys\n"
    program += "print([name for name in ('torch', 'transformers', 'datasets') if name in sys.modules])\n"
    program += "import flash.corpus.tokens.prepare\n"
    program += "print([name for name in ('flash.models.modeling_flash', 'datasets') if name in sys.modules])"
    assert output_of(program).splitlines() == ["[]", "[]"]


def test_every_public_name_is_there_and_no_other():
    program = "import flash\nfrom flash import *\n"
    program += "assert all(globals()[name].__name__ == name for name in flash.__all__)\n"
    program += "assert set(flash.__all__) <= set(dir(flash))\n"
    program += "try: flash.FLASHForNothing\nexcept AttributeError as error: print(error)"
    assert output_of(program) == "module 'flash' has no attribute 'FLASHForNothing'"
