"""The work that tells how fast a machine is."""

from itertools import count

import pytest

from tasks.core.training import reference


def test_the_work_is_the_same_every_time():
    """The reference is a fixed piece of work, so that its time tells of the machine alone."""
    assert reference.work() == reference.work()


def test_training_is_timed_between_two_rounds(monkeypatch):
    """The reference is timed right before and right after training, by both clocks, and does not count as training."""
    done = []
    monkeypatch.setattr(reference, "work", lambda: done.append("work"))
    clock, processor = count(0.0, 8.0), count(0.0, 2.0)
    trained = reference.timed(lambda: done.append("train"), 4, lambda: next(clock), lambda: next(processor))
    assert done == ["work", "train", "work"]
    assert trained == (None, 2.0, reference.Pace(processor=0.5, reference=8.0, reference_processor=2.0))


def test_without_processor_time_there_is_no_reference():
    """Whoever trains cells outside of a benchmark pays for no reference."""
    clock = count(0.0, 1.0)
    assert reference.timed(lambda: "found", 2, lambda: next(clock), None) == ("found", 0.5, None)


def test_the_record_has_the_pace():
    """A cell's record names the three times of its pace, in seconds."""
    told = reference.Pace(1.0, 2.0, 3.0).scalars
    assert list(told.values()) == pytest.approx([1.0, 2.0, 3.0])
    assert [*told] == ["processor_seconds", "reference_seconds", "reference_processor_seconds"]
