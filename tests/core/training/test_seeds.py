import numpy as np

from tasks.core.training.seeds import STREAMS, chosen, integer, stream


def test_streams_repeat():
    """The same seed, name and index give the same numbers."""
    assert integer(stream(7, "weights", 2)) == integer(stream(7, "weights", 2))


def test_streams_are_distinct():
    """Another seed, name or index gives other numbers."""
    drawn = [integer(stream(seed, name, index)) for seed in range(5) for name in STREAMS for index in range(5)]
    assert len(set(drawn)) == len(drawn)


def test_streams_are_uncorrelated():
    """The split and the order of one seed share nothing."""
    split, order = (np.random.default_rng(stream(0, name)).normal(size=100_000) for name in ("split", "order"))
    assert abs(np.corrcoef(split, order)[0, 1]) < 5 / np.sqrt(100_000)


def test_a_redrawn_stream_is_another_one_of_the_same_seed():
    """Redrawn, each seed has other numbers than any seed has that is not redrawn, and the same ones every time."""
    given = [chosen(way, seed) for way in ("cell", "redrawn") for seed in (0, 1, 2**32 - 1)]
    assert len({integer(stream(seed, "split")) for seed in given}) == len(given)
    assert chosen("redrawn", 1) == chosen("redrawn", 1)
