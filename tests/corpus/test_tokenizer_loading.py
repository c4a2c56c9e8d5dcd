import json
import resource

import pytest
from transformers import BertTokenizerFast, PreTrainedTokenizerFast
from vocabularies import SPECIAL_TOKENS, tokenizers_by_kind, vocabulary

from flash.corpus.tokenizer_loading import load_tokenizer, save_tokenizer, tokenizer_description
from flash.errors import InputError


def write_vocab(path, tokens, *, encoding="utf-8", line_end="\n"):
    path.write_bytes("".join(f"{token}{line_end}" for token in tokens).encode(encoding))
    return path


@pytest.mark.parametrize(("encoding", "line_end"), [("utf-8", "\n"), ("utf-8-sig", "\n"), ("utf-8", "\r\n")])
def test_plain_vocabulary_keeps_its_ids(tmp_path, encoding, line_end):
    path = write_vocab(tmp_path / "vocab.txt", vocabulary(), encoding=encoding, line_end=line_end)
    tokenizer = load_tokenizer(path)
    assert tokenizer.get_vocab() == vocabulary()
    assert tokenizer.mask_token_id == vocabulary()["[MASK]"]
    assert tokenizer.tokenize("今天 Hello [MASK]") == ["今", "天", "hello", "[MASK]"]


def test_folder_with_a_plain_vocabulary_alone_is_loaded(vocab_file):
    tokenizer = load_tokenizer(vocab_file.parent)
    assert tokenizer.get_vocab() == vocabulary()
    assert tokenizer("今天")["input_ids"][0] == tokenizer.cls_token_id


def test_folder_of_a_model_whose_type_transformers_does_not_know_is_loaded(vocab_file):
    (vocab_file.parent / "config.json").write_text('{"model_type": "of_nobody"}')
    assert load_tokenizer(vocab_file.parent).get_vocab() == vocabulary()


def test_folder_says_whether_it_is_cased(vocab_file):
    (vocab_file.parent / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    assert load_tokenizer(vocab_file.parent).tokenize("H") == ["H"]


def test_saved_tokenizer_is_loaded_again(vocab_file, tmp_path):
    tokenizer = load_tokenizer(vocab_file)
    tokenizer.save_pretrained(str(tmp_path / "saved"))
    again = load_tokenizer(tmp_path / "saved")
    assert tokenizer_description(again, "x") == tokenizer_description(tokenizer, "x")


def test_full_disk_is_an_error_of_the_disk(vocab_file, tmp_path):
    tokenizer = load_tokenizer(vocab_file)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))  # to the tokenizers library the same as a full disk
    try:
        with pytest.raises(OSError, match="the tokenizer cannot be written: File too large"):
            save_tokenizer(tokenizer, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_folder_with_a_description_alone_is_loaded(vocab_file, tmp_path):
    (tmp_path / "bare").mkdir()
    load_tokenizer(vocab_file).backend_tokenizer.save(str(tmp_path / "bare" / "tokenizer.json"))
    assert load_tokenizer(tmp_path / "bare").get_vocab() == vocabulary()


@pytest.mark.parametrize("token", SPECIAL_TOKENS)
def test_vocabulary_without_a_special_token_is_refused(tmp_path, token):
    path = write_vocab(tmp_path / "vocab.txt", [entry for entry in vocabulary() if entry != token])
    for name in (path, tmp_path):
        with pytest.raises(InputError, match=rf"vocab\.txt has no entry \{token[:-1]}\]: add it"):
            load_tokenizer(name)


def test_saved_tokenizer_without_mask_is_refused(tmp_path):
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizers_by_kind()["bert uncased"], unk_token="[UNK]")
    tokenizer.save_pretrained(str(tmp_path / "saved"))
    config = tmp_path / "saved" / "tokenizer.json"
    config.write_text(config.read_text().replace("[MASK]", "[NONE]"))
    with pytest.raises(InputError, match=r"saved has no entry \[MASK\]"):
        load_tokenizer(tmp_path / "saved")


def test_tokenizer_that_adds_no_cls_is_refused(tmp_path):
    names = dict(zip(["pad_token", "unk_token", "cls_token", "sep_token", "mask_token"], SPECIAL_TOKENS, strict=True))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizers_by_kind()["bert uncased"], **names)
    tokenizer.save_pretrained(str(tmp_path / "saved"))
    with pytest.raises(InputError, match=r"does not put \[CLS\] before and \[SEP\] after"):
        load_tokenizer(tmp_path / "saved")


def test_vocabulary_that_knows_no_chinese_is_refused(tmp_path):
    path = write_vocab(tmp_path / "vocab.txt", [*SPECIAL_TOKENS, "a", "##a", "，"])
    with pytest.raises(InputError, match=r"vocab\.txt makes 13 of 14 tokens of ordinary Chinese .* \[UNK\]"):
        load_tokenizer(path)


def test_vocabulary_in_gbk_is_refused(tmp_path):
    path = write_vocab(tmp_path / "vocab.txt", vocabulary(), encoding="gb18030")
    with pytest.raises(InputError, match="no vocabulary in UTF-8"):
        load_tokenizer(path)


@pytest.mark.parametrize("content", ["{broken", "{}", json.dumps({"model": {"type": "Other"}})])
def test_broken_description_is_refused(tmp_path, content):
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(InputError, match=r"holds no tokenizer that can be loaded|no entry"):
        load_tokenizer(tmp_path)


def test_folder_without_a_tokenizer_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"holds neither tokenizer\.json nor vocab\.txt"):
        load_tokenizer(tmp_path)


def test_description_file_is_refused_with_the_way_out(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(InputError, match="name the folder it is in"):
        load_tokenizer(tmp_path / "tokenizer.json")


@pytest.mark.parametrize("name", ["nobody/nothing", "typo", "no/such/path/vocab.txt", "with space.txt"])
def test_name_of_nothing_is_refused_in_one_line(name):
    with pytest.raises(
        InputError, match="is no file or folder here, and not to be had from the Hugging Face hub"
    ) as caught:
        load_tokenizer(name)
    assert repr(name) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_description_tells_two_vocabularies_apart(vocab_file, tmp_path):
    other = write_vocab(tmp_path / "other.txt", [*vocabulary(), "龘"])
    first, second = (tokenizer_description(load_tokenizer(path), "same") for path in (vocab_file, other))
    assert first["vocab_size"] == len(vocabulary())
    assert first["sha256"] != second["sha256"]


def test_bert_class_reads_it_too(vocab_file):
    assert isinstance(load_tokenizer(vocab_file), BertTokenizerFast)
