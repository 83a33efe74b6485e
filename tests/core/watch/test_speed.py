"""Steps in the history of measures of speed: found when they are there, and seldom when they are not."""

import numpy as np
import pandas as pd
import pytest

from tasks.core.watch import pace, speed

NOISE = 0.04  # standard deviation of the logarithm of a night's value


def quiet(rng, nights, noise=NOISE):
    """Return nights without a change: mostly normal noise, and now and then a night that is far slower."""
    logs = rng.normal(0, noise, nights) + np.where(rng.random(nights) < 0.03, 0.5, 0)
    return np.exp(logs)


def test_quiet_nights_keep_the_rate():
    """Of quiet nights with rare slow ones, no more raise something than the level says; a level of 2 % shows it."""
    rng = np.random.default_rng(0)
    series, nights, alpha = 30, 50, 0.02
    found = sum(len(speed.steps(quiet(rng, nights), alpha)) for _ in range(series))
    assert 0 < found < series * nights * alpha


@pytest.mark.parametrize(("factor", "within"), [(1.25, 7), (1.10, 18), (0.80, 7)])
def test_a_step_is_found_once(factor, within):
    """A step is found within some nights, with the night that it began and a factor whose interval has the true one."""
    rng = np.random.default_rng(1)
    values = quiet(rng, 60)
    values[40:] *= factor
    (step,) = speed.steps(values, 1e-4)
    assert abs(step.at - 40) <= 1
    assert step.found < 40 + within
    assert step.low < factor < step.high
    assert step.p <= 1e-4


def test_a_step_back_is_found_as_well():
    """Nights before a step are moved to its new level, so that the way back is found as soon as the way there."""
    rng = np.random.default_rng(2)
    values = quiet(rng, 60)
    values[40:50] *= 1.25
    there, back = speed.steps(values, 1e-4)
    assert (there.at, back.at) == (40, 50)
    assert back.found - back.at <= there.found - there.at + 2


def test_a_small_step_raises_nothing():
    """A step within the margin is not worth a flag, however sure it is."""
    rng = np.random.default_rng(3)
    values = np.exp(rng.normal(0, 0.001, 60))
    values[40:] *= 1 + speed.MARGIN / 2
    assert not speed.steps(values, 1e-4)
    values[40:] *= 1 + speed.MARGIN
    assert len(speed.steps(values, 1e-4)) == 1


def test_a_night_that_is_judged_again_is_judged_alike():
    """The orders are drawn from a seed of their own; those of another number of nights are other ones."""
    values = quiet(np.random.default_rng(4), 40)
    assert speed.steps(values, 0.05) == speed.steps(values, 0.05)
    assert not np.array_equal(speed._orders(40, 0)[:, :39], speed._orders(39, 0))
    assert not np.array_equal(speed._orders(40, 0), speed._orders(40, 1)[:100])


def nights(factors, loads, rng):
    """Return nights of a study in which training takes so many times as long, and everything is so much slower."""
    told = []
    for number, (factor, load) in enumerate(zip(factors, loads, strict=True)):
        beside = 0.02 * load
        noise = rng.lognormal(0, NOISE, 3)
        cells = pd.DataFrame(
            {
                "backend": ["pytorch", "keras"],
                "ended": [40 * load * noise[0], 60 * load * noise[0]],
                "processor_seconds": [0.05 * load * noise[1] * factor, 0.03 * load * noise[2]],
                "reference_seconds": beside,
                "reference_processor_seconds": beside,
            }
        )
        told.append(speed.Night(f"night {number}", pace.followed(pace.measured(cells, begun=0.0))))
    return told


def test_a_busy_machine_raises_nothing():
    """A machine on which cells and reference take twice as long from one night on is no change of speed."""
    rng = np.random.default_rng(5)
    loads = np.r_[np.ones(30), np.full(10, 2.0)]
    told = nights(np.ones(40), loads, rng)
    assert not [flag for at in range(30, 41) for flag in speed.flags(told[:at], series=4)]


def test_a_flag_names_measure_and_night():
    """A slower backend raises one flag, once: with the measure, since when, how many times as long, and how sure."""
    rng = np.random.default_rng(6)
    loads = rng.uniform(1, 3, 40)
    told = nights(np.r_[np.ones(30), np.full(10, 1.25)], loads, rng)
    (flag,) = [flag for at in range(30, 41) for flag in speed.flags(told[:at], series=4)]
    assert (flag.level, flag.group, flag.direction, flag.against) == ("speed", "pytorch", "worse", "recent nights")
    assert flag.low < 1.25 < flag.high
    assert flag.p <= speed.RATE
    assert flag.words.startswith(f"since night 30 training a cell takes {flag.size:.2f} [")


def test_a_measure_that_is_gone_raises_nothing():
    """Nights in which no cell was trained have no measures, and are left out; without any night nothing is raised."""
    assert pace.measured(pd.DataFrame(columns=pace.PACED), begun=0.0) == {}
    assert pace.followed({"test_loss": 0.1}) == {}
    assert speed.flags([], series=4) == ()
    rng = np.random.default_rng(7)
    told = nights(np.ones(8), np.ones(8), rng)
    gap = speed.Night("gap", {})
    assert {len(each.values) for each in speed.histories([*told[:4], gap, *told[4:]], series=4)} == {8}
    assert speed.histories([*told, gap], series=4) == []
