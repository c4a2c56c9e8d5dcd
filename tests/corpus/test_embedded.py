from flash.corpus.documents import ReadingSettings
from flash.corpus.embedded import embedded_corpus, portable_path
from flash.corpus.input_files import find_input_files
from flash.corpus.read_inputs import read_inputs
from flash.corpus.records import Document, Reject


def test_corpus_of_the_package_is_read_without_a_complaint():
    files, skipped = find_input_files([embedded_corpus()])
    records = list(read_inputs(files, ReadingSettings(), title="read", log_interval=1000))
    assert skipped == []
    assert not any(isinstance(record, Reject) for record in records)
    assert sum(len(record.text) for record in records if isinstance(record, Document)) > 50_000


def test_path_of_its_files_says_nothing_of_the_machine():
    files, _ = find_input_files([embedded_corpus()])
    assert portable_path(files[0].name) == f"everyday_zh/{files[0].path.name}"
    assert portable_path("/home/some/everyday_zh/a.txt") == "/home/some/everyday_zh/a.txt"
