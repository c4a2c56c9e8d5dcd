"""``examples/causal_lm.py`` at toy size."""

import importlib.util
import json
import math
import random
from types import ModuleType

import pytest
import torch
import zstandard
from torch.nn.functional import log_softmax
from transformers import AutoModelForCausalLM

from toy_pretraining import REPOSITORY, SENTENCES

SMALL = {
    "hidden-size": 32,
    "layers": 2,
    "query-key-dim": 16,
    "head-dim": 16,
    "window": 64,
    "chunk": 16,
    "batch-size": 8,
    "steps": 60,
    "held-out": 0.1,
    "new-bytes": 12,
}
PROMPT = "天气"


def load_example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("causal_lm", REPOSITORY / "examples" / "causal_lm.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


causal_lm = load_example()


def small_arguments(*inputs, **changes):
    flags = SMALL | {name.replace("_", "-"): value for name, value in changes.items()}
    return [*map(str, inputs), *(part for name, value in flags.items() for part in (f"--{name}", str(value)))]


def error_of(capsys, *arguments):
    """Run the example on a mistake; return what it says, which must be one line."""
    with pytest.raises(SystemExit) as stopped:
        causal_lm.main(arguments)
    assert stopped.value.code == 2
    message = capsys.readouterr().err.strip()
    assert message.startswith("causal_lm.py: ")
    assert "\n" not in message
    return message


@pytest.fixture(scope="module")
def text_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "everyday.txt"
    chooser = random.Random(0)
    path.write_text("\n".join(chooser.choice(SENTENCES) for _ in range(300)), encoding="utf-8")
    return path


@pytest.fixture(scope="module", params=causal_lm.MODELS)
def trained(request, text_file, tmp_path_factory):
    """The folder of a finished run."""
    output = tmp_path_factory.mktemp("run") / request.param
    causal_lm.main(small_arguments(text_file, model=request.param, output=output, prompt=PROMPT))
    return output


def results_of(output):
    return json.loads((output / "results.json").read_text(encoding="utf-8"))


def test_training_leaves_the_uniform_distribution_far_behind(trained):
    results = results_of(trained)
    assert results["last_loss_nats"] < 0.7 * math.log(256)
    assert results["bits_per_byte"] < 0.7 * 8


def test_the_results_describe_the_run(trained, text_file):
    results = results_of(trained)
    content = text_file.read_bytes()
    assert results["model"] == trained.name
    assert results["training_bytes"] + results["held_out_bytes"] == len(content)
    assert results["held_out_characters"] == len(content[-results["held_out_bytes"] :].decode(errors="ignore"))
    bits = (results["bits_per_character"] * results["held_out_characters"], results["bits_per_byte"])
    assert bits[0] == pytest.approx(bits[1] * results["held_out_bytes"])
    # every step has full rows but the last of an epoch
    assert 0.9 * 60 * 8 * 64 < results["bytes_read"] <= 60 * 8 * 64
    assert results["settings"]["window"] == 64
    assert results["written"].startswith(PROMPT)


def test_the_saved_model_scores_and_writes_what_the_results_say(trained, text_file):
    results = results_of(trained)
    model = AutoModelForCausalLM.from_pretrained(trained)
    assert sum(parameter.numel() for parameter in model.parameters()) == results["parameters"]
    options = causal_lm.parse_arguments(small_arguments(text_file))
    split = causal_lm.split_text(causal_lm.read_text([text_file]), window=64, held_out=0.1)
    assert causal_lm.score(model, *split, options) == pytest.approx(
        results["bits_per_byte"] * results["held_out_bytes"], rel=1e-6
    )
    assert causal_lm.write_paragraph(model, PROMPT, options) == results["written"]


@pytest.mark.parametrize("model", causal_lm.MODELS)
def test_every_held_out_byte_is_scored_once_behind_half_a_window(model):
    options = causal_lm.parse_arguments(small_arguments(model=model, window=16, chunk=4, batch_size=2))
    network = causal_lm.build_model(options).eval()
    data = torch.randint(0, 256, (104,), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    nats = 0.0
    for position in range(64, 104):
        begin = (position // 8 - 1) * 8
        with torch.no_grad():
            logits = network(input_ids=data[None, begin:position].long()).logits[0, -1]
        nats -= log_softmax(logits, dim=-1)[int(data[position])].item()
    assert causal_lm.score(network, data[:64], data[64:], options) == pytest.approx(nats / math.log(2), rel=1e-5)


def test_the_last_bytes_of_the_text_are_held_out_and_no_others():
    text = "".join(SENTENCES)
    training, held_out = causal_lm.split_text(text, window=16, held_out=0.25)
    assert bytes(torch.cat((training, held_out)).tolist()).decode() == text
    share = len(held_out) / len(text.encode())
    assert len(held_out) % 8 == 0
    assert 0.25 - 8 / len(text.encode()) < share <= 0.25


def test_half_a_character_of_json_counts_as_a_question_mark():
    training, _ = causal_lm.split_text("\ud83d" + "a" * 40, window=16, held_out=0.2)
    assert bytes(training.tolist()) == b"?" + b"a" * 32


def test_rows_of_training_follow_each_other_without_overlap():
    rows = causal_lm.Windows(torch.arange(50, dtype=torch.uint8), window=16)
    assert len(rows) == 3
    assert torch.cat([rows[index]["input_ids"] for index in range(3)]).tolist() == list(range(48))
    assert torch.equal(rows[1]["labels"], rows[1]["input_ids"])


@pytest.mark.parametrize(("hidden_size", "layers"), [(128, 4), (160, 6), (192, 8)])
def test_the_three_models_have_the_same_number_of_parameters(hidden_size, layers):
    counts = []
    for model in causal_lm.MODELS:
        flags = {"model": model, "hidden-size": hidden_size, "layers": layers}
        options = causal_lm.parse_arguments([f"--{name}={value}" for name, value in flags.items()])
        counts.append(causal_lm.build_model(options).num_parameters())
    assert max(counts) < 1.03 * min(counts)


def test_the_settings_of_the_architecture_reach_the_model():
    flags = ["--model=flash", "--chunk=32", "--token-shift=0.125", "--no-attention-norm", "--query-key-dim=16"]
    config = causal_lm.build_model(causal_lm.parse_arguments(flags)).config
    assert (config.chunk_size, config.token_shift, config.query_key_dim) == (32, 0.125, 16)
    assert not config.attention_norm
    heads = causal_lm.build_model(causal_lm.parse_arguments(["--model=transformer", "--head-dim=64"])).config
    assert (heads.num_hidden_layers, heads.num_attention_heads, heads.head_dim) == (2, 2, 64)


def test_documents_of_text_and_json_lines_are_joined_by_a_blank_line(tmp_path):
    text = tmp_path / "a.txt"
    text.write_text("一\n二\n\n三\n", encoding="utf-8")
    lines = "".join(json.dumps({"text": document}) + "\n" for document in ("四", "五\n六"))
    (tmp_path / "b.jsonl.zst").write_bytes(zstandard.compress(lines.encode()))
    assert causal_lm.read_text([tmp_path]) == "一\n二\n\n三\n\n四\n\n五\n六"


def test_the_embedded_corpus_is_the_default_and_nothing_is_left_behind(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    causal_lm.main(small_arguments(steps=2, held_out=0.01))
    assert "bits per character" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_an_empty_file_is_named(tmp_path, capsys):
    empty = tmp_path / "empty.txt"
    empty.touch()
    assert f"no text to train on: {empty}: it holds no text" in error_of(capsys, str(empty))


def test_a_line_that_is_left_out_is_told_and_the_rest_is_read(tmp_path, caplog):
    path = tmp_path / "lines.jsonl"
    path.write_text('{"text": "一"}\n{"body": "二"}\n', encoding="utf-8")
    assert causal_lm.read_text([path]) == "一"
    assert f"{path}:2: no key 'text' among ['body']" in caplog.text


def test_an_output_that_is_a_file_is_refused_before_training(text_file, capsys):
    assert "File exists" in error_of(capsys, *small_arguments(text_file, output=text_file))


def test_a_text_shorter_than_a_window_is_refused(tmp_path, capsys):
    path = tmp_path / "short.txt"
    path.write_text("天" * 100, encoding="utf-8")
    message = error_of(capsys, str(path), "--window", "512")
    assert "the text has 300 bytes, too few to train on a window of 512" in message


def test_a_missing_file_is_refused(tmp_path, capsys):
    assert f"{tmp_path / 'nowhere.txt'} does not exist" in error_of(capsys, str(tmp_path / "nowhere.txt"))


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["--window=63"], "--window must be even, got 63"),
        (["--layers=3"], "--layers must be even, got 3"),
        (["--steps=0"], "--steps must be at least 1, got 0"),
        (["--head-dim=48"], "--head-dim must be even and divide --hidden-size 128, got 48"),
        (["--held-out=1"], "--held-out must lie between 0 and 1, got 1.0"),
        (["--learning-rate=0"], "--learning-rate must be above 0, got 0.0"),
        (["--model=gpt"], "invalid choice: 'gpt'"),
    ],
)
def test_settings_that_make_no_model_are_refused(flags, complaint, capsys):
    with pytest.raises(SystemExit) as stopped:
        causal_lm.main(flags)
    assert stopped.value.code == 2
    assert complaint in capsys.readouterr().err
