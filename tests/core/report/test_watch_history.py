"""The history of nights: series, their small lines, and the strip of verdicts."""

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from tasks.core.report.watch_history import COLUMNS, HEIGHT, History, Series, spark, strip
from tests.shared.nights import BITS, GROUPS, LESS, LOST, changed, named, night, values


def drawn(*heights, marks=None):
    """Return the path of a line through values, and all of the line."""
    line = spark(
        Series("iris", "g", "m", np.array(heights, float), marks or {}), [named(at) for at in range(len(heights))]
    )
    return re.search(r'<path d="([^"]*)"', line)[1], line


def points(path):
    """Return the places that a path visits; a move begins a list of its own."""
    found = []
    for move, step in re.findall(r"M(\d+ \d+)|l(-?\d+ -?\d+)", path):
        at = np.array((move or step).split(), int)
        if move:
            found.append([at])
        else:
            found[-1].append(found[-1][-1] + at)
    return [[tuple(at.tolist()) for at in part] for part in found]


def test_line_goes_from_highest_to_lowest():
    """The line shows its lowest value at the bottom and its highest at the top; on a level only the ends are drawn."""
    path, _ = drawn(1, 1, 1, 3, 2)
    assert points(path) == [[(0, HEIGHT), (2, HEIGHT), (3, 0), (4, HEIGHT // 2)]]


def test_line_breaks_where_nothing_is_known():
    """A night without a finite value breaks the line; a night between two of these is a dot."""
    path, _ = drawn(1, np.nan, 2, np.inf, 1, 1)
    assert points(path) == [[(0, HEIGHT)], [(2, 0)], [(4, HEIGHT), (5, HEIGHT)]]
    assert drawn(np.nan, np.nan)[0] == ""


def test_equal_values_are_a_level_line():
    """A series that never changes is a line in the middle, of two points."""
    assert points(drawn(*[0.3] * 365)[0]) == [[(0, HEIGHT // 2), (COLUMNS - 1, HEIGHT // 2)]]


def test_a_single_bad_night_in_years_is_seen():
    """Where nights share a column, the column shows their lowest and highest value, so that no peak is lost."""
    heights = np.full(1000, 0.9)
    heights[637] = 0.1
    (line,) = points(drawn(*heights)[0])
    assert max(down for _, down in line) == HEIGHT
    assert min(down for _, down in line) == 0
    assert len(line) < 2 * COLUMNS


def test_a_year_of_noise_is_a_short_line():
    """Whatever its values, a line of a year has at most 2 points a column and stays below 2 kB."""
    path, line = drawn(*np.random.default_rng(0).normal(size=365))
    assert len(points(path)[0]) <= 2 * COLUMNS
    assert len(line) < 2_000


def test_flags_are_marked_and_told():
    """Each flagged night has a dot where its value is, and the line says in words what it shows."""
    _, line = drawn(1, 3, 1, marks={"worse": [1], "better": [2]})
    assert f'<path class="dot worse" d="M1 0h0"/><path class="dot better" d="M2 {HEIGHT}h0"/>' in line
    assert 'aria-label="iris, g, m: 3 nights from 1 to 3, flagged on 2025-12-02, 2025-12-03"' in line


@pytest.fixture(scope="module")
def nights():
    return [night(0), night(1, changed("digits", LESS)), night(2, changed("iris", LOST, BITS))]


def test_flags_belong_to_what_they_are_about(nights):
    """A flag marks the series of its study, group and measure; one without a measure marks all of the group."""
    found = {(each.study, each.group, each.measure): each.marks for each in History.of(values(3), nights).series}
    accuracy = ("iris", GROUPS[0], "test_accuracy")
    assert found[accuracy] == {"worse": [2], "changed": [2]}
    assert found["iris", GROUPS[0], "test_loss"] == {"changed": [2]}
    assert found["digits", GROUPS[1], "test_loss"] == {"better": [1]}
    assert sum(bool(marks) for marks in found.values()) == 3


def test_a_flag_on_all_initializers_marks_each(nights):
    """A flag on all initializers of a backend marks each initializer of it, and those of no other backend."""
    flagged = night(2, changed("iris", replace(LOST, group="pytorch · all initializers"), replace(LESS, group="")))
    found = History.of(values(3), [*nights[:2], flagged])
    told = [(each.group, each.measure) for each in found.changed(flagged.watched[0])]
    assert told == [(GROUPS[0], "test_accuracy"), (GROUPS[1], "test_loss"), (GROUPS[0], "test_loss")]


def test_what_is_flagged_tonight_comes_first(nights):
    """The history begins with what is flagged tonight; the rest is by study in the night's order, then by measure."""
    order = [(each.study, each.measure) for each in History.of(values(3), nights).series]
    assert order[:2] == [("iris", "test_accuracy"), ("iris", "test_loss")]
    assert order[2:] == [
        *(("iris", "test_accuracy"), ("iris", "test_loss")),
        *([("digits", "test_accuracy")] * 2 + [("digits", "test_loss")] * 2),
    ]


def test_nights_without_values_keep_their_place(nights):
    """A night on which a study has no values has a place in its series all the same; a later row of a night holds."""
    history = values(3, studies=("iris",), groups=GROUPS[:1], measures=("test_loss",))
    again = history.iloc[[2]].assign(value=7.0, link="again")
    history = pd.concat([history[history["night"] != named(1)], again], ignore_index=True)
    (found,) = History.of(history, nights).series
    assert found.values[1:].tolist()[1:] == [7.0]
    assert np.isnan(found.values[1])
    assert (found.before, found.tonight) == ("", "again")


def test_no_values_at_all(nights):
    """The first night that failed altogether has a history without series."""
    assert History.of(values(0), nights).series == []


def test_strip_has_a_bar_for_each_night():
    """Each night has a bar, as wide as the others, in the path of its verdict; equal neighbours share one."""
    bars = strip(["quiet", "quiet", "changed", "failed", "quiet"])
    assert re.findall(r'class="(\w+)" d="([^"]*)"', bars) == [
        ("failed", "M3 0h1V10H3z"),
        ("changed", "M2 2h1V10H2z"),
        ("quiet", "M0 8h2V10H0zM4 8h1V10H4z"),
    ]
