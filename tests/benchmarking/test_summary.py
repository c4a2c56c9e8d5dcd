import pytest

from flash.benchmarking.benchmark import Results
from flash.benchmarking.figures import draw_benchmark
from flash.benchmarking.records import spread
from flash.benchmarking.summary import best_of, fastest_peer, speed_up
from flash.benchmarking.tables import format_results, markdown_table, memory_table, speed_up_table, timing_table

from measured import memory, padding, timing, without_numbers


def test_the_spread_is_least_quartiles_and_most():
    assert spread([5.0, 1.0, 3.0, 2.0, 4.0]) == (1.0, 2.0, 3.0, 4.0, 5.0)
    assert spread([7.0]) == (7.0,) * 5


def test_the_best_dtype_of_each_contestant_counts():
    slow, fast = timing("flash", (2.0, 2.0, 2.0)), timing("flash@bf16", (1.0, 1.0, 1.0))
    other = timing("flash", (0.1, 0.1, 0.1), length=128)
    assert best_of([slow, fast, other, without_numbers("bert", "oom")], "training", 64) == {"flash": fast}


def test_the_fastest_peer_is_one_of_transformers():
    rows = [timing("flash", (0.1,) * 3), timing("bert", (1.0,) * 3), timing("modernbert@bf16", (0.5,) * 3)]
    assert fastest_peer(best_of(rows, "training", 64)) == rows[2]
    assert fastest_peer(best_of(rows[:1], "training", 64)) is None


def test_speed_ups_of_one_session_pair_the_seconds_of_each_round():
    own, other = timing("flash", (1.0, 1.0, 2.0)), timing("bert", (2.0, 3.0, 2.0))
    assert speed_up(own, other) == pytest.approx([2.0, 3.0, 1.0])


def test_speed_ups_across_sessions_are_freed_from_the_speed_of_the_machine():
    own = timing("flash", (1.0, 1.0, 1.0), base=(2.0, 2.0, 2.0))
    # the machine was half as fast: baseline and contestant took twice as long
    other = timing("bert", (4.0, 4.0, 4.0), base=(4.0, 4.0, 4.0))
    assert speed_up(own, other) == pytest.approx([2.0, 2.0, 2.0])


def test_where_the_baseline_had_to_leave_seconds_are_compared():
    own, other = timing("flash", (1.0, 1.0, 1.0), base=()), timing("bert", (3.0, 3.0, 3.0), base=())
    assert speed_up(own, other) == [3.0, 3.0, 3.0]


def cells(table, contestant):
    (line,) = [line for line in table.splitlines() if f" {contestant} " in line]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_tables_show_known_times():
    rows = [timing(seconds=(1.0, 1.0, 1.0), base=(1.0, 1.0, 1.0)), timing("flash", (0.5, 1.0, 0.25), (1.0, 1.0, 1.0))]
    table = timing_table([*rows, without_numbers("bert", "oom")])
    assert cells(table, "flash")[4:] == ["256 [192 384] (128 ... 512)", "2.00 [1.50 3.00]", "0.0", "100%"]
    assert cells(table, "bert")[4:] == ["oom", "-", "-", "-"]
    rows.append(timing("earlier", (4.0, 4.0, 4.0), (1.0, 1.0, 1.0)))
    assert cells(speed_up_table(rows), "flash")[4:] == [
        "2.00 [1.50 3.00]",
        "2.00 [1.50 3.00]",
        "8.00 [6.00 12.00]",
        "modernbert",
    ]


def test_the_memory_table_gives_mebibytes_and_the_ratio_to_the_baseline():
    rows = [memory(), memory("flash", 3 << 20), memory("bert", status="oom")]
    table = memory_table(rows)
    assert cells(table, "flash")[2:] == ["3 (3.00)"]
    assert cells(table, "bert")[2:] == ["oom"]


def test_the_padding_table_counts_real_tokens():
    table = format_results(Results([], [], [padding(), padding("bert", packed=())]))
    assert cells(table, "flash-quad")[2:] == [
        "32 of 128",
        "flash-quad",
        "8 (8 ... 8)",
        "16 (8 ... 32)",
        "2.00 [1.50 3.00]",
    ]
    assert cells(table, "bert")[4:] == ["8 (8 ... 8)", "-", "-"]


@pytest.mark.parametrize(
    ("other", "compared"), [("modernbert", True), ("bert", True), ("earlier", True), ("flash-quad", False)]
)
def test_speed_ups_are_told_where_there_is_something_to_compare_with(other, compared):
    text = format_results(Results([timing("flash"), timing(other)], [], []))
    assert ("Speed-ups, median" in text) is compared


def test_a_table_is_aligned_markdown():
    assert markdown_table(["name", "n"], [["a", "10"], ["longer", "5"]], texts={0}).splitlines() == [
        "| name   |  n |",
        "| ------ | -: |",
        "| a      | 10 |",
        "| longer |  5 |",
    ]


@pytest.mark.parametrize("memories", [[], [memory()]], ids=["times", "with memory"])
def test_a_figure_is_drawn_also_where_nothing_could_be_measured(tmp_path, memories):
    rows = [timing(), timing("flash", length=1024), without_numbers("flash", "oom", mode="inference")]
    draw_benchmark(rows, memories, tmp_path / "bench.png")
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")
