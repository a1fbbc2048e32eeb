"""make bench: its arithmetic, its tables and its plot."""

import shutil
import sys

import pytest
from harness.stage import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "bench"))

from immure_bench import plot  # noqa: E402
from immure_bench.client import Sample  # noqa: E402
from immure_bench.lab import ASYNC, FILE, Device  # noqa: E402
from immure_bench.measurements import handshake_rate  # noqa: E402
from immure_bench.plan import Cell  # noqa: E402
from immure_bench.table import Table  # noqa: E402

CELL = Cell("P-256", 2, Device(2), (FILE, ASYNC), 3)


def sample(rate, failed=0):
    return Sample(rate, failed, 1.5, 9.0, 250.0, 60.0)


def test_ratios_are_within_a_round_and_summed_up_by_their_median():
    samples = {
        (CELL, FILE): {0: sample(1000), 1: sample(2000), 2: sample(100)},
        (CELL, ASYNC): {0: sample(900), 1: sample(1600, failed=2), 2: sample(110)},
    }
    assert handshake_rate.ratios(samples, CELL, ASYNC) == [0.9, 0.8, 1.1]
    row = handshake_rate.row(samples, CELL, ASYNC)
    assert row[:5] == ["2 ms", "P-256", 2, 128, ASYNC]
    assert row[5:9] == [900, 0.9, "0.80..1.10", 2]


def test_a_table_is_aligned_text_and_markdown():
    table = Table("t", "Title", ["variant", "rate"], [["a", 1234.5], ["bcd", None]], ["A note."])
    assert table.text().split("\n")[2:6] == [
        "variant  rate", "-------------", "a        1234", "bcd         -"
    ]
    assert "| a | 1234 |\n| bcd | - |\n\nA note.\n" in table.markdown()


@pytest.mark.skipif(shutil.which("gnuplot") is None, reason="gnuplot is not here")
def test_the_plot_names_what_it_shows(directory):
    entry = {"server": "nginx", "token": "2 ms", "key": "P-256", "workers": 2}
    data = [entry | {"variant": v, "ratios": [0.9, 1.0]} for v in (FILE, ASYNC)]
    plot.draw(data, directory / "plot.svg")
    text = (directory / "plot.svg").read_text()
    for word in ("2 ms a signature", "P-256", "2 workers", *plot.VARIANTS):
        assert word in text
