"""Nights on record: a year of them can be read, continued and shown."""

import time

import numpy as np
import pandas as pd
import pytest

from tasks.core.report import watch_feed, watch_page
from tasks.core.report.watch_history import History
from tasks.tracking import nights, recording, runs, store
from tasks.tracking.nights import Entry
from tests.shared import nights as made

YEAR, STUDIES, GROUPS = 365, [f"study{at}" for at in range(12)], [f"pytorch · law{at}" for at in range(16)]


@pytest.fixture
def year(stored):
    """Keep a year of nights of twelve studies of sixteen groups."""
    told = [made.night(at, studies=STUDIES) for at in range(YEAR)]
    history = made.values(YEAR, STUDIES, GROUPS)
    client = store.client(store.uri())
    experiment = recording.made_experiment(client, nights.WATCH)
    now = int(time.time() * 1000)
    entry = '{"run_id": "r", "identity": "i"}'
    runs.write(
        client.tracking_uri,
        experiment,
        [
            runs.Run(
                name=each.name,
                status="FINISHED",
                started=now - YEAR + at,
                ended=now - YEAR + at,
                tags={nights.NIGHT: each.name, **{f"{nights.STUDY}{study}": entry for study in STUDIES}},
                params={},
                points=[],
            )
            for at, each in enumerate(told[:-1])
        ],
    )
    run, book = nights.opened({})
    kept(run, book, told, history)
    return told, history


def kept(run, book, told, history):
    studies = {study: Entry("r", "i") for study in STUDIES}
    shown = History.of(history, told)
    page = watch_page.html(told, shown, {})
    feed = watch_feed.feed(told, name=book.link, link=book.file_link(nights.FEED))
    nights.keep(run, book, told, studies, page=page, feed=feed, history=history)
    return page, feed


def test_a_year(year):
    """All nights come back as they were kept, the newest first, and one more night costs a page of bounded size."""
    told, history = year
    found, read = nights.book()
    assert found == tuple(told)
    pd.testing.assert_frame_equal(read, history)
    assert [each.name for each in nights.nights()] == [each.name for each in reversed(told)]
    assert nights.nights()[0].studies[STUDIES[0]] == Entry("r", "i")
    assert not nights.nights()[0].accepted

    run, book = nights.opened({})
    tonight = made.night(YEAR, studies=STUDIES)
    page, feed = kept(run, book, [*told, tonight], pd.concat([history, made.values(YEAR + 1, STUDIES, GROUPS)]))
    assert nights.book()[0][-1] == tonight
    assert nights.nights()[0].name == tonight.name
    assert len(page) < 4_000_000
    assert feed.count(b"<entry>") == watch_feed.ENTRIES
    client = store.client(store.uri())
    assert len([*store.search(client, [book.experiment_id], f"tags.`{nights.BOOK}` = 'yes'")]) == 1
    assert np.isfinite(read["value"]).all()


def test_accepting(year):
    """A night becomes the baseline of the studies that are named, or of all; what it has no result of is refused."""
    name = year[0][-3].name
    assert nights.accept(name, STUDIES[:1], "better data") == (name, STUDIES[:1])
    assert nights.nights()[2].accepted == {STUDIES[0]: "better data"}
    newest, chosen = nights.accept("latest", (), "all is well")
    assert (newest, chosen) == (year[0][-1].name, sorted(STUDIES))
    assert not nights.nights()[2].accepted  # a baseline is the night that was accepted last, older or newer
    with pytest.raises(store.StoreError, match=r"has results of study0, .*; got 'other'"):
        nights.accept(name, ["other"], "x")
