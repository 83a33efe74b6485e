"""The answer: which initializer to use, for each backend in a few plain sentences, as a colleague would say it.

`details.py` has everything behind the answer. A place is a backend with a level of every factor.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache

import pandas as pd

from tasks.core.design.columns import RANKED, RANKED_MEASURES, TITLES
from tasks.core.design.initializers import Backend
from tasks.core.design.settings import source
from tasks.core.design.study import Study
from tasks.core.report.details import FRAMEWORKS, differing, listed, placed, validity
from tasks.core.report.wording import all_worded
from tasks.core.statistics.findings import Findings
from tasks.core.statistics.measures import factors
from tasks.core.statistics.standing import Standing
from tasks.core.statistics.table import interval
from tasks.core.statistics.tuning import AT_ONE_RECIPE, standpoint
from tasks.core.statistics.verdicts import ALWAYS, BETTER, EQUIVALENT, NEVER, NOT_COMPARABLE, WORSE

FIRST, SECOND = RANKED_MEASURES
NAMED = 4  # up to so many initializers are named; of more it is told how many they are


@lru_cache(maxsize=1)  # a report asks for it five times, in as many forms
def answer(findings: Findings) -> list[str]:
    """Return the answer: for each backend which initializer to use, then whether the backends differ.

    Controls that misbehaved come before it, because nothing else holds then.
    """
    invalid = validity(findings) if findings.misbehaved else []
    backends = (_of_backend(findings, backend) for backend in findings.study.backends)
    lines = [*invalid, *placed(findings.study, findings.cells), *backends, *_between(findings)]
    return all_worded(lines, findings.study)


def _of_backend(findings: Findings, backend: Backend) -> str:
    names, seeds = factors(findings.cells), len(findings.study.seed_list)
    rows = findings.comparison[findings.comparison["backend"] == backend]
    first, second = (findings.standings[backend, measure.name] for measure in RANKED_MEASURES)
    if len(first) > 1:
        words = _of_places(first, second, rows, _places(names, len(first)), seeds)
    else:
        data = source(findings.study.datasets[0])
        where = f"On {data}," if findings.study.tune else f"On {data}, at this recipe,"
        words = _of_place(first[0], second[0], rows, where, seeds)
    return f"{FRAMEWORKS[backend]}{_under(findings.study, len(first))}: {' '.join(words)}"


def _under(study: Study, places: int) -> str:
    """Return under what settings a backend compares, where neither the places nor the sentences about one say it."""
    words = standpoint(study)
    return f", {words}" if study.tune or (places > 1 and words == AT_ONE_RECIPE) else ""


def _of_place(
    first: Standing | None, second: Standing | None, rows: pd.DataFrame, where: str, seeds: int
) -> Iterator[str]:
    """Yield the sentences about the one place of a backend, given its rows of the comparison."""
    if first is None or second is None:
        yield f"no initializer trains here. Of each, more than half of the cells {_fate(rows)}."
    elif len(rows) == 1:
        yield f"{first.best}, the only initializer here, has a {FIRST.title} of {interval(rows.iloc[0], FIRST.name)}."
    else:
        good = [first.best, *first.alike]
        yield _undecided(first, rows, seeds) if first.open else _recommended(first, good, rows, where)
        if len(first.seeming):
            yield f"{_looks(first)}{'' if first.open else f', but {_too_few(seeds)}'}."
        yield from _by_second(second, good, "" if first.open else _too_few(seeds))
        yield from _avoided(first, good, rows)


def _fate(rows: pd.DataFrame) -> str:
    """Return what became of the cells that did not finish."""
    return listed([status for status in ("diverged", "failed") if rows[status].any()], "or")


def _recommended(first: Standing, good: Sequence[str], rows: pd.DataFrame, where: str) -> str:
    """Return which initializers to take. If all but a few are good, later sentences name these few."""
    if len(good) == 1:
        others = "every other one" if len(first.worse) == len(rows) - 1 > 1 else _few(first.worse)
        return f"{good[0]}. {where} its {FIRST.title} is better than that of {others}."
    alike = "nothing separates them"
    if set(first.alike) <= set(first.rows(EQUIVALENT)["rival"]):
        alike = "they are equivalent"
    return f"{_any_of(good, len(rows))}. {where} {alike} by {FIRST.title}."


def _any_of(good: Sequence[str], number: int) -> str:
    """Return initializers that are all good, of a number: by their names, or only how many where most of many are."""
    named = len(good) <= NAMED or number - len(good) > NAMED
    return listed(good, "or") if named else f"any of {'the' if number > len(good) else 'all'} {len(good)}"


def _undecided(first: Standing, rows: pd.DataFrame, seeds: int) -> str:
    mean = rows.loc[rows["initializer"] == first.best, f"{FIRST.name}_mean"].iloc[0]
    return f"{_too_few(seeds)}. So far {first.best} has the best {FIRST.title}, {mean:.3f}."


def _too_few(seeds: int) -> str:
    """Return that so many seeds are too few.

    >>> _too_few(3), _too_few(1)
    ('3 seeds are too few to tell', '1 seed is too few to tell')
    """
    return f"{seeds} seeds are too few to tell" if seeds > 1 else f"{seeds} seed is too few to tell"


def _looks(first: Standing) -> str:
    """Return which rivals look worse, though no test says so, and by how much."""
    rivals = list(first.seeming["rival"])
    amount = _amount(first.seeming)
    return f"{_few(rivals)} look{'s' if len(rivals) == 1 else ''} worse{f' by {amount}' if amount else ''}"


def _amount(rows: pd.DataFrame) -> str:
    """Return by how much the best differs from its rivals: one number, or the least and the most.

    A ratio is told in per cent of the rival. Where little is left of 100 %, the most is 99 %.

    >>> _amount(pd.DataFrame({"scale": "difference", "estimate": [-0.25, 0.5, float("nan")]}))
    '0.250 to 0.500'
    >>> _amount(pd.DataFrame({"scale": "ratio", "estimate": [0.88, 0.6]}))
    '12 to 40 %'
    """
    known = rows.dropna(subset="estimate")
    ratio = (known["scale"] == "ratio").any()
    numbers = 100 * (known["estimate"] - 1).abs().clip(upper=0.99) if ratio else known["estimate"].abs()
    ends = dict.fromkeys(f"{end:.{0 if ratio else 3}f}" for end in (numbers.min(), numbers.max()) if len(numbers))
    return " to ".join(ends) + (" %" if ratio else "")


def _by_second(second: Standing, good: Sequence[str], too_few: str) -> Iterator[str]:
    """Yield what the second measure says of the initializers that are good by the first one.

    too_few: the words that say so; if they are empty, the second measure is only told if it decides something.
    """
    lowest = f"the {'highest' if SECOND.higher_is_better else 'lowest'} {SECOND.title}"
    others = set(good) - {second.best}
    beaten = second.rows(BETTER)
    beaten = beaten[beaten["rival"].isin(others)]
    if len(beaten):
        whom = "the others" if 1 < len(beaten) == len(others) else _few(list(beaten["rival"]))
        side = "above" if SECOND.higher_is_better else "below"
        yield f"{second.best} has {lowest}, {_amount(beaten)} {side} {whom}."
    elif len(good) > 1 and too_few:
        if others <= set(second.rows(EQUIVALENT)["rival"]):
            yield f"By {SECOND.title} they are equivalent, too."
        elif others <= set(second.alike):
            yield f"By {SECOND.title} nothing separates them either."
        else:
            yield f"{second.best} has {lowest} so far, but {too_few} it from the other{'s' if len(others) > 1 else ''}."


def _avoided(first: Standing, good: Sequence[str], rows: pd.DataFrame) -> Iterator[str]:
    """Yield which initializers to avoid, because they are worse or do not train."""
    if first.worse and len(good) > 1:
        yield f"Avoid {_few(first.worse)}."
    if first.idle:
        idle = rows[rows["initializer"].isin(first.idle)]
        share = "more than half of the" if idle["finished"].any() else "all"
        yield f"Avoid {_few(first.idle)}: {share} cells {_fate(idle)}."


def _places(names: Sequence[str], number: int) -> str:
    """Return a number of places in words.

    >>> _places(["dataset"], 4), _places(["depth"], 3), _places(["depth", "width"], 6)
    ('the 4 datasets', 'the 3 values of depth', 'the 6 combinations of depth and width')
    """
    if len(names) > 1:
        return f"the {number} combinations of {listed(names)}"
    return f"the {number} datasets" if names[0] == "dataset" else f"the {number} values of {names[0]}"


def _of_places(
    first: Sequence[Standing | None], second: Sequence[Standing | None], rows: pd.DataFrame, places: str, seeds: int
) -> Iterator[str]:
    """Yield the sentences about a backend with several places."""
    names = list(dict.fromkeys(rows["initializer"]))
    known = [each for each in first if each]
    if not known:
        yield f"no initializer trains in any of {places}. Of each, more than half of the cells {_fate(rows)}."
    elif len(names) == 1:
        yield f"{names[0]}, the only initializer here, trains in {len(known)} of {places}."
    elif all(each.open for each in known):
        yield f"{_too_few(seeds)} anything by {FIRST.title} in any of {places}."
    else:
        yield from _holding(names, first, places)
        yield from _in_some(first, seeds)
        yield from _turning(known)
        yield from _often([each.best for each in second if each], places)
        if unsure := sum(each.open for each in known):
            yield f"In {unsure} of {places} {_too_few(seeds)} anything by {FIRST.title}."


def _holding(names: Sequence[str], first: Sequence[Standing | None], places: str) -> Iterator[str]:
    """Yield which initializers are worse, or do not train, in none of the places, and which in all."""
    faults = _faults(first, names)
    holding = [name for name in names if not faults[name]]
    if holding:
        whom = "it" if len(holding) == 1 else "one of them"
        yield f"{_any_of(holding, len(names))}."
        yield f"In none of {places} is {whom} shown to be worse than the best by {FIRST.title}."
    else:
        least = min(names, key=lambda name: faults[name])
        yield f"it depends. {least} does best, and still is worse, or does not train, in {faults[least]} of {places}."
    if avoided := [name for name in names if faults[name] == len(first)]:
        yield f"Avoid {_few(avoided)}: worse, or untrained, in all."


def _faults(first: Sequence[Standing | None], names: Sequence[str]) -> Counter[str]:
    """Return in how many places each initializer is worse or does not train."""
    return Counter(name for each in first for name in ([*each.worse, *each.idle] if each else names))


def _in_some(first: Sequence[Standing | None], seeds: int) -> Iterator[str]:
    """Yield which initializers are worse, or look worse, in some places and not in all."""
    faults = _faults(first, ())
    looks = Counter(name for each in first if each for name in each.seeming["rival"] if not faults[name])
    told = {"Worse, or untrained, in some": faults, f"Looking worse in some, where {_too_few(seeds)}": looks}
    for words, counts in told.items():
        if some := [f"{name} in {count}" for name, count in counts.most_common() if count < len(first)]:
            yield f"{words}: {_few(some)}."


def _turning(first: Sequence[Standing]) -> Iterator[str]:
    """Yield the pair of initializers whose order turns most from place to place."""
    ahead = Counter((each.best, rival) for each in first for rival in each.worse)
    turning = [pair for pair in ahead if (pair[1], pair[0]) in ahead]
    if turning:
        one, other = max(turning, key=lambda pair: (min(ahead[pair], ahead[pair[::-1]]), ahead[pair]))
        yield f"The order turns: {one} is better than {other} in {ahead[one, other]}, and worse in {ahead[other, one]}."


def _often(best: Sequence[str], places: str) -> Iterator[str]:
    """Yield which initializer is best by the mean of the second measure most often."""
    (name, count), *_ = Counter(best).most_common(1)
    yield f"Best by {SECOND.centre_title} most often: {name}, in {count} of {places}."


def _between(findings: Findings) -> Iterator[str]:
    """Yield whether one backend is better than the other one, by each ranked measure."""
    known = (findings.backends["n"] > 0) | findings.backends["verdict"].isin((ALWAYS, NEVER))
    rows = findings.backends[findings.backends["measure"].isin(RANKED) & known]
    if rows.empty:
        return
    names = [FRAMEWORKS[backend] for backend in findings.study.backends]
    comparable = rows[rows["verdict"] != NOT_COMPARABLE]
    by_words: dict[str, list[str]] = {}
    for measure, part in comparable.groupby("measure", sort=False):
        by_words.setdefault(_framework(names, part), []).append(TITLES[measure])
    told = [f"{words} by {listed(titles)}" for words, titles in by_words.items()]
    if len(comparable) < len(rows):
        told.append(f"not compared where they differ in {'; '.join(differing(findings.study))}")
    yield f"{' or '.join(names)}: {'; '.join(told)}."


def _framework(names: Sequence[str], rows: pd.DataFrame) -> str:
    """Return which backend is better, and under which initializers, given their pairs by one measure."""
    better = [
        f"{name} {words} under {_few(list(dict.fromkeys(rows.loc[rows['verdict'] == verdict, 'initializer'])))}"
        for words, verdicts in {"is better": (BETTER, WORSE), "alone finishes": (ALWAYS, NEVER)}.items()
        for name, verdict in zip(names, verdicts, strict=True)
        if (rows["verdict"] == verdict).any()
    ]
    if better:
        return " and ".join(better)
    unsure = list(dict.fromkeys(rows.loc[rows["verdict"] != EQUIVALENT, "initializer"]))
    alike = [name for name in dict.fromkeys(rows["initializer"]) if name not in unsure]
    if not unsure:
        return "equivalent"
    if not alike:
        return "too few seeds to tell"
    return f"equivalent under {_few(alike)}, too few seeds to tell under {_few(unsure)}"


def _few(names: Sequence[str]) -> str:
    """Return a few names, or how many there are.

    >>> _few(["zeros", "ones"]), _few(list("abcdef"))
    ('zeros and ones', '6 others')
    """
    return listed(names) if len(names) <= NAMED else f"{len(names)} others"
