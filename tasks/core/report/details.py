"""The details behind the answer: findings in sentences. Each function returns those about one kind of finding, or none.

A place is a backend with a level of every factor: where one initializer has the best mean.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache

import numpy as np
import pandas as pd

from tasks.core.design.columns import FINISHED, RANKED, RANKED_MEASURES, TITLES, Measure
from tasks.core.design.initializers import Backend
from tasks.core.design.settings import source
from tasks.core.design.study import Study
from tasks.core.report.wording import all_worded
from tasks.core.statistics import checks, inference, looks, tuning
from tasks.core.statistics.findings import Findings
from tasks.core.statistics.measures import factors, lucky
from tasks.core.statistics.ranks import Ranking
from tasks.core.statistics.spread import held, told
from tasks.core.statistics.standing import seen_from
from tasks.core.statistics.table import interval
from tasks.core.statistics.verdicts import (
    ALWAYS,
    BETTER,
    EQUIVALENT,
    NEVER,
    NOT_COMPARABLE,
    TURNED,
    UNDECIDED,
    WORSE,
    estimated,
    seeds_needed,
)

FRAMEWORKS = {"pytorch": "PyTorch", "keras": "Keras"}
TIED = 1e-9  # means that differ by less differ by rounding
PLACES = 6  # up to so many places are told one by one; of more, how often each initializer is best
DATA_TEACH_MORE = 50  # seeds; by loss 46 on samples of breast cancer and 96 on those of digits (tests/calibration)
REPORTED_DIGITS = 4  # of accuracies published elsewhere


@lru_cache(maxsize=1)  # a report asks for it five times, in as many forms
def details(findings: Findings) -> list[str]:
    """Return everything behind the answer, in sentences."""
    study, cells = findings.study, findings.cells
    lines = [
        *tuning.sentences(study, findings.tuned, findings.over_rates),
        *lost(cells),
        *finishing(findings.pairs, factors(cells)),
        *best(cells, findings.comparison, findings.pairs),
        *over_datasets(findings.rankings),
        *between_backends(study, cells, findings.backends),
        *from_defaults(study, findings.defaults),
        *by_source(findings.spread),
        *small(findings.pairs, real=study.regression),
        *again(findings.look),
        *caution(study),
        *([] if findings.misbehaved else validity(findings)),
    ]
    return all_worded(lines, study)


def validity(findings: Findings) -> list[str]:
    """Return what the controls say of a benchmark; nothing if it has none."""
    if findings.controls is None:
        return []
    lines, misbehaved = checks.lines(findings.controls), findings.misbehaved
    if misbehaved:
        return [f"INVALID, because controls misbehaved: {'; '.join(misbehaved)}. Trust nothing below.", *lines]
    return [f"Controls behaved. {'. '.join(lines)}."]


def placed(study: Study, cells: pd.DataFrame) -> list[str]:
    """Return where accuracies that were published elsewhere lie in the distribution over seeds."""
    return [
        _placed(backend, initializer, value, cells)
        for backend, value in study.reported.items()
        if backend in study.backends
        for initializer in study.initializers
    ]


def _placed(backend: Backend, initializer: str, value: float, cells: pd.DataFrame) -> str:
    group = f"{backend} · {initializer}"
    finished = cells[
        (cells["backend"] == backend) & (cells["initializer"] == initializer) & (cells["status"] == "finished")
    ]
    sample = finished["test_accuracy"].to_numpy(np.float64)
    if not len(sample):
        return f"The reported {value:.4f} cannot be placed among {group}: no cell of it finished."
    percentile = inference.percentile_of(value, sample, digits=REPORTED_DIGITS)
    return (
        f"The reported {value:.4f} is at percentile {percentile:.0f} of {group} over "
        f"{len(sample)} seeds (ties counted half), which run from {sample.min():.4f} to {sample.max():.4f} with mean "
        f"{sample.mean():.4f}."
    )


def lost(cells: pd.DataFrame) -> Iterator[str]:
    """Yield how many cells did not finish."""
    counts = cells["status"].value_counts().drop("finished", errors="ignore")
    if len(counts):
        told = " and ".join(f"{count} {status}" for status, count in counts.items())
        yield f"Of {len(cells)} cells {told}."


def finishing(pairs: pd.DataFrame, names: Sequence[str]) -> Iterator[str]:
    """Yield which initializers finish less often than others, and in how many places; names: columns of the factors."""
    rows = pairs[pairs["measure"] == FINISHED.name]
    for backend, part in rows.groupby("backend", sort=False):
        for verdict, words in {NEVER: "never finish, where others always do", WORSE: "finish less often"}.items():
            sides = {"left": part["verdict"] == verdict, "right": part["verdict"] == TURNED[verdict]}
            lost = [
                part.loc[meant, [*names, side]].set_axis([*names, "rival"], axis=1) for side, meant in sides.items()
            ]
            counts = pd.concat(lost).drop_duplicates()["rival"].value_counts(sort=False)
            told = [f"{rival} (in {count})" if names else str(rival) for rival, count in counts.items()]
            if told:
                yield f"{FRAMEWORKS[str(backend)]}, cells that {words}: {listed(told)}."


def best(cells: pd.DataFrame, comparison: pd.DataFrame, pairs: pd.DataFrame) -> Iterator[str]:
    """Yield the best initializer of each place by each ranked measure, with the verdicts against its rivals.

    If there are more than PLACES places, the sentences count how often each initializer is best.
    """
    keys = ["backend", *factors(cells)]
    groups = dict(iter(comparison.groupby(keys, sort=False)))
    places = list(cells[keys].drop_duplicates().itertuples(index=False, name=None))
    for measure in RANKED_MEASURES:
        if len(places) > PLACES:
            yield from _often_best(comparison, measure, len(places))
            continue
        for key in places:
            yield _place(dict(zip(keys, key, strict=True)), groups[key], pairs, measure)


def _often_best(comparison: pd.DataFrame, measure: Measure, places: int) -> Iterator[str]:
    rows = comparison.loc[comparison[f"{measure.name}_against_best"] == "best"]
    for backend, of_backend in rows.groupby("backend", sort=False):
        counts = [f"{name} in {count}" for name, count in of_backend["initializer"].value_counts().items()]
        levels = places // comparison["backend"].nunique()
        yield (
            f"{FRAMEWORKS[str(backend)]}, best {measure.centre_title} over {levels} levels: {listed(counts)}; "
            "each level's verdicts are in the tables."
        )


def _place(key: Mapping[str, object], group: pd.DataFrame, pairs: pd.DataFrame, measure: Measure) -> str:
    backend, *levels = key.values()
    at = [f"{name} {level}" for name, level in zip(list(key)[1:], levels, strict=True)]
    where = f"{', '.join([FRAMEWORKS[str(backend)], *at])}, by {measure.title}: "
    able = group[~lucky(group)]
    if able.empty:
        return f"{where}no initializer finished half of its cells."
    if len(group) == 1:
        return f"{where}{able['initializer'].iloc[0]} has the mean {interval(able.iloc[0], measure.name)}."
    row = group.loc[group[f"{measure.name}_against_best"] == "best"].iloc[0]
    meant = np.logical_and.reduce([pairs[name] == value for name, value in key.items()])
    rivals = seen_from(row["initializer"], pairs[meant & (pairs["measure"] == measure.name)])
    return f"{where}{_with_ties(row, able, measure)}{_decided(rivals)}{_open(rivals)}."


def _with_ties(row: pd.Series, able: pd.DataFrame, measure: Measure) -> str:
    """Return the best row of a place in words, and which other initializers have the same mean.

    Of a measure that is compared by ratios the mean is the geometric one. The plain mean stands beside it, for it is
    moved more by single large losses; and if another initializer is the best by it, this is told.
    """
    mean, name = row[measure.centre], row["initializer"]
    ties = able[np.isclose(able[measure.centre], mean, rtol=0, atol=TIED)]
    alike = [each for each in ties["initializer"] if each != name]
    same = f"; {listed(alike)} ha{'ve' if len(alike) > 1 else 's'} the same mean" if alike else ""
    if measure.scale == "difference":
        return f"{name} has the best mean, {mean:.3f}{same}"
    plain = able.set_index("initializer")[f"{measure.name}_mean"]
    first = str(plain.idxmax() if measure.higher_is_better else plain.idxmin())
    other = "" if np.isclose(plain[first], plain[name]) else f", where {first} is best with {plain[first]:.3f}"
    return f"{name} has the best geometric mean, {mean:.3f} (plain mean {plain[name]:.3f}{other}){same}"


def _decided(rivals: pd.DataFrame) -> str:
    words = [
        f"{phrase} {listed(list(rivals.loc[rivals['verdict'] == verdict, 'rival']))}"
        for verdict, phrase in ((BETTER, "better than"), (EQUIVALENT, "equivalent to"), (WORSE, "worse than"))
        if (rivals["verdict"] == verdict).any()
    ]
    lost = list(rivals.loc[rivals["verdict"] == ALWAYS, "rival"])
    never = f"; {listed(lost)} never finish{'' if len(lost) > 1 else 'es'}" if lost else ""
    return (f"; it is {', '.join(words)}" if words else "") + never


def _open(rivals: pd.DataFrame) -> str:
    """Return which rivals are undecided, and how many more seeds would settle the first and the last of them."""
    undecided = rivals[rivals["verdict"] == UNDECIDED]
    if undecided.empty:
        return ""
    told = f"; too few seeds to tell it from {listed(list(undecided['rival']))}"
    known = undecided.dropna(subset="more_seeds")
    if known.empty:
        return f"{told} ({seeds_needed(np.nan)})"
    first, last = known.iloc[0], known.iloc[-1]
    soon, late = seeds_needed(first["more_seeds"]), seeds_needed(last["more_seeds"])
    if soon == late:
        return f"{told}: {soon} would decide"
    return f"{told}: {soon} would decide about {first['rival']}, {late} about {last['rival']}"


def over_datasets(rankings: Sequence[Ranking]) -> Iterator[str]:
    """Yield the order of the initializers over datasets, where a study varies the dataset."""
    for each in rankings:
        if each.blocks == "datasets":
            order = np.argsort(each.ranks.mean)
            ranked = [f"{each.initializers[at]} {each.ranks.mean[at]:.2f}" for at in order]
            yield (
                f"{FRAMEWORKS[each.backend]}, mean rank by {each.title} over {each.ranks.blocks} datasets: "
                f"{listed(ranked)}; {_told_apart(each)}."
            )


def _told_apart(ranking: Ranking) -> str:
    """Return which initializers differ over the datasets, by the signed-rank test."""
    mean, names = ranking.ranks.mean, ranking.initializers
    apart = [
        f"{names[one]} is ahead of {names[other]}"
        for one, other in zip(*np.nonzero(ranking.ranks.apart), strict=True)
        if mean[one] < mean[other]
    ]
    if apart:
        return listed(apart)
    few = f", for that takes {ranking.least} datasets or more" if ranking.ranks.blocks < ranking.least else ""
    return f"none can be told apart{few}"


def between_backends(study: Study, cells: pd.DataFrame, backends: pd.DataFrame) -> Iterator[str]:
    """Yield under which initializers one backend is better than the other, and why some have no verdict."""
    if backends.empty:
        return
    differences = differing(study)
    if (backends["verdict"] == NOT_COMPARABLE).all():
        yield f"No verdict between the backends, because they differ in {'; '.join(differences)}."
        return
    comparable = backends[(backends["verdict"] != NOT_COMPARABLE) & backends["measure"].isin(RANKED)]
    apart = factors(cells) if len(study.levels()) <= PLACES else []
    for (name, *levels), rows in comparable.groupby(["measure", *apart], sort=False):
        where = "".join(f", {factor} {level}" for factor, level in zip(apart, levels, strict=True))
        yield _under(study, f"{where}, by {TITLES[name]}", rows)
    if differences:
        yield f"There is no verdict where the backends differ in {'; '.join(differences)}."


def differing(study: Study) -> list[str]:
    """Return what keeps the backends from being compared in any level."""
    return list(dict.fromkeys(each for levels in study.levels() for each in study.at(levels).backend_differences()))


def _under(study: Study, where: str, rows: pd.DataFrame) -> str:
    first, second = (FRAMEWORKS[backend] for backend in study.backends)
    phrases = {
        EQUIVALENT: "equivalent",
        BETTER: f"{first} better",
        WORSE: f"{second} better",
        ALWAYS: f"only {first} finishes",
        NEVER: f"only {second} finishes",
        UNDECIDED: "undecided",
    }
    counts = [
        f"{phrase} under {_few(rows, verdict)}"
        for verdict, phrase in phrases.items()
        if (rows["verdict"] == verdict).any()
    ]
    return f"{first} against {second}{where}: {'; '.join(counts)}."


def _few(rows: pd.DataFrame, verdict: str) -> str:
    """Return the initializers that have a verdict, or only how many rows, if an initializer has several rows."""
    meant = rows[rows["verdict"] == verdict]
    if rows["initializer"].is_unique and len(meant) < len(rows):
        return listed(list(meant["initializer"]))
    if len(rows) == 1:
        return str(meant["initializer"].iloc[0])
    every = "all " if len(meant) == len(rows) else f"{len(meant)} of "
    return f"{every}{len(rows)}"


def from_defaults(study: Study, defaults: pd.DataFrame) -> Iterator[str]:
    """Yield how much of the backends' difference their own initializers make, where a study asks for it."""
    if defaults.empty:
        return
    first, second = (FRAMEWORKS[backend] for backend in study.backends)
    for measure in RANKED_MEASURES:
        rows = defaults[defaults["measure"] == measure.name].dropna(subset="estimate")
        if rows.empty:
            continue
        clear = list(rows.loc[rows["p"] < inference.ALPHA, "initializer"])
        largest = rows.iloc[int(np.abs(measure.scaled(rows["estimate"].to_numpy(np.float64))).argmax())]
        yield (
            f"{first} against {second} in {measure.title}, native weights against shared ones: the difference that "
            f"native weights make is significant under {listed(clear) or 'no initializer'}; the largest is "
            f"{estimated(largest)}, under {largest['initializer']}."
        )


def by_source(spread: pd.DataFrame) -> Iterator[str]:
    """Yield the standard deviation that each source gives to a measure, where a study asks for it."""
    for measure, rows in spread.groupby("measure", sort=False) if len(spread) else ():
        ordered = rows.sort_values("sd", ascending=False)
        sources = [f"{row['source']} {told(row)}" for _, row in ordered.iterrows()]
        yield f"Standard deviation of {TITLES[measure]} by source: {', '.join(sources)}."


def small(pairs: pd.DataFrame, *, real: bool = False) -> Iterator[str]:
    """Yield which differences by the primary measures are too small to matter, in words."""
    told = []
    for measure in RANKED_MEASURES:
        margins = pairs.loc[pairs["measure"] == measure.name, "margin"].dropna()
        if len(margins):
            share = 1 if real and measure.step_is_a_test_row else 100
            ends = dict.fromkeys(f"{share * end:.2g}" for end in (margins.min(), margins.max()))
            errors = "less R²" if real else "more errors in 100"
            what = errors if measure.step_is_a_test_row else f"% more {measure.title}"
            told.append(f"up to {' to '.join(ends)} {what}")
    if told:
        yield f"Too small to matter, so equivalent if it is shown, is a difference of {listed(told, 'or')}."


def again(look: int) -> Iterator[str]:
    """Yield what it costs that the question was looked at before, if it was."""
    if look > 1:
        yield (
            f"This is look {look} at this question: earlier benchmarks of this study judged other seeds. Verdicts pay "
            f"for that: p-values are multiplied by {looks.price(look):.0f}, so that all looks together see a false "
            "difference in 6 % of families at most."
        )


def caution(study: Study) -> Iterator[str]:
    """Yield what the findings do not cover."""
    if any(held(study.at(levels)) for levels in study.levels()):
        yield "Where split, order or weights are held at one seed, verdicts are about that one draw."
    used = [source(dataset) for dataset in study.datasets]
    if len(used) == 1:
        yield (
            f"All this is about {used[0]}: seeds of one dataset say nothing of others. "
            f"Past some {DATA_TEACH_MORE} seeds new data teach more than new seeds."
        )


def listed(names: Sequence[str], word: str = "and") -> str:
    """Return names as a sentence lists them.

    >>> listed(["he_normal", "lsuv", "zeros"])
    'he_normal, lsuv and zeros'
    """
    return f" {word} ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
