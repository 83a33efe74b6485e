"""Made-up nights of the watch, and the values of their measures."""

import numpy as np
import pandas as pd

from tasks.core.watch.night import Night
from tasks.core.watch.watched import Flag, Watched

STUDIES = ("iris", "digits")
GROUPS = ("pytorch · he_normal", "keras · zeros")
UPGRADE = ("packages.torch: 2.12 before, 2.13 after", "commit: 1a2b3c4 before, 5d6e7f8 after")
LOST = Flag(
    *("results", GROUPS[0], "test_accuracy", "worse", "last night"),
    "9 of 10 seeds lost accuracy, by more than the margin of 0.016.",
    *(-0.02, -0.03, -0.01, 0.0004),
)
LESS = Flag("results", GROUPS[1], "test_loss", "better", "recent nights", "", 0.9, 0.85, 0.95, 0.02, nights=9)
BITS = Flag("bits", GROUPS[0], "", "changed", "last night", "the start weights of layer 2 differ in 10 of 10 cells")


def named(at):
    """Return the name of a night: the date, so many days after 2025-12-01."""
    return str(np.datetime64("2025-12-01") + at)


def night(at, *watched, studies=STUDIES):
    """Return a night on which every study is quiet that is not among those given."""
    own = {each.study: each for each in watched}
    name = named(at)
    all_ = tuple(own.get(study, Watched(study, "quiet", link=f"http://mlflow/#/{study}/{name}")) for study in studies)
    return Night(name, all_, f"{name}T02:41:07+00:00", f"http://mlflow/#/{name}/watch.html")


def changed(study="iris", *flags, differing=UPGRADE):
    return Watched(study, "changed", flags or (LOST, LESS), differing, f"http://mlflow/#/{study}")


def values(count, studies=STUDIES, groups=GROUPS, measures=("test_accuracy", "test_loss")):
    """Return a history of so many nights, equal in every bit on all of them but for train times."""
    rng = np.random.default_rng(0)
    rows = [
        (named(at), study, group, measure, level * (rng.uniform(0.9, 1.1) if measure == "train_seconds" else 1))
        for study in studies
        for group in groups
        for measure in measures
        for level in [rng.uniform(0.5, 0.95)]
        for at in range(count)
    ]
    history = pd.DataFrame(rows, columns=["night", "study", "group", "measure", "value"])
    return history.assign(link="http://mlflow/#/" + history["study"] + "/" + history["night"])
