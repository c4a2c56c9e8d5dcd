"""CLUE's own files, row by row, where they are at hand."""

import pytest

from flash.tasks.loading import classes_of, find_file, load_split
from flash.tasks.task import load_task

# rows of train and dev, classes; a row of c3 and of cmrc2018 holds several questions
FILES = {
    "afqmc": (34334, 4316, 2),
    "bustm": (1389, 695, 2),
    "c3": (11869, 3816, 0),
    "chid_few": (1604, 802, 0),
    "chnsenticorp": (7589, 1178, 2),
    "cluener": (10748, 1343, 10),
    "cluewsc": (933, 312, 2),
    "cmrc2018": (2407, 812, 0),
    "csl": (2342, 789, 2),
    "csldcp": (4104, 1784, 67),
    "eprstmt": (266, 610, 2),
    "iflytek": (5955, 1966, 119),
    "lcqmc": (8801, 12500, 2),
    "ocnli": (10000 - 15, 3000 - 50, 3),  # rows on which the annotators did not agree
    "stsb": (5205, 1458, 0),
    "thucnews": (9985, 9989, 10),
    "tnews": (13071, 2010, 15),
    "waimai": (9980, 2000, 2),
}


@pytest.mark.parametrize("name", FILES)
def test_every_row_of_a_published_file_is_read(name, shared_data):
    task = load_task("chid" if name == "chid_few" else name)
    folder = shared_data / "clue" / name
    train = load_split(find_file(folder, "train"), task)
    labels = classes_of(train, task) if task.kind in ("classification", "entities") else ()
    dev = load_split(find_file(folder, "dev"), task, labels=labels)
    assert (len(train.examples), len(dev.examples), len(labels)) == FILES[name]
    test = find_file(folder, "test")
    if test is not None:
        assert not load_split(test, task, labels=labels, need_answers=False).left_out
