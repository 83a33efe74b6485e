"""Findings: all that a benchmark's cells allow one to say, in tables and in words."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from tasks.core.design.columns import MEASURES, RANKED, RANKED_MEASURES, TITLES, Measure
from tasks.core.design.settings import source
from tasks.core.design.study import Study
from tasks.core.statistics import checks, inference, table, verdicts
from tasks.core.statistics.measures import factors, lucky
from tasks.core.statistics.verdicts import (
    BETTER,
    EQUIVALENT,
    NOT_COMPARABLE,
    TURNED,
    UNDECIDED,
    WORSE,
    Ranking,
    Reaching,
    seeds_needed,
)

FRAMEWORKS = {"pytorch": "PyTorch", "keras": "Keras"}
METHODS = (
    "Multilayer perceptrons on {data} ({split}), network {network}, weights {weights}; initializers {initializers}; "
    "seeds {seeds}; target accuracy {target:g}. Recipe: {recipes}.{varied} What a seed decides (split, order of "
    "visits, weights, unless one is held) it decides alike for all initializers, and but for native weights for both "
    "backends, so all differences are paired by seed. Intervals are of 95 %: of a group's mean and interquartile mean"
    " by the bias-corrected and accelerated bootstrap over seeds ({resamples:,} resamples from seed {seed}), its "
    "level widened for small samples, and by Student's t below {few} seeds; of paired differences by Student's t, the"
    " SD being at least that of one seed one step off; of shares Wilson's. A pair is better or worse if the paired "
    "t-test says so at 5 % after Holm's adjustment over its family: all pairs of a backend, level and measure, or all"
    " initializers between two backends. It is equivalent if two one-sided tests, adjusted likewise, put the mean "
    "difference within the measure's margin, as far as these seeds show it: what happens to fewer than one in so many"
    " seeds cannot be seen. Else it is undecided, with the seeds that a power of {power:g} would take, were mean and "
    "SD as observed. Where a seed has a hole on one side, the hole loses, and the pair is judged by a sign test over "
    "seeds. Ranks: Friedman's test, then Nemenyi's. Epochs to target: pairs compare means restricted to the epochs "
    "trained, curves are Kaplan and Meier's, misses censored, and held against each other by a log-rank test that "
    "takes cells as independent. Train times count once a batch, whose cells share them. Effect sizes are Hedges' g "
    "of the paired differences. Measures: {margins}. The champion of a backend has the highest test accuracy, then "
    "the lowest test loss. Versions: {versions}; {machine}."
)
TIED = 1e-9  # means that differ by less are equal, but for rounding
PLACES = 6  # backends × levels whose best initializer is told one by one; of more, how often each is best


@dataclass(frozen=True)
class Findings:
    """What became of a study: its cells and claims, and all that was made of them."""

    study: Study
    cells: pd.DataFrame
    judged: pd.DataFrame
    controls: pd.DataFrame | None
    comparison: pd.DataFrame
    pairs: pd.DataFrame
    backends: pd.DataFrame
    defaults: pd.DataFrame
    rankings: list[Ranking]
    reaching: list[Reaching]
    spread: pd.DataFrame

    @classmethod
    def of(
        cls, study: Study, cells: pd.DataFrame, judged: pd.DataFrame, controls: pd.DataFrame | None = None
    ) -> "Findings":
        """Compare cells, rows of `columns.CELLS`; claims as `checks.judge` judged them, the controls' apart."""
        pairs = verdicts.pairs(cells, study.margins)
        return cls(
            study=study,
            cells=cells,
            judged=judged,
            controls=controls,
            comparison=verdicts.against_best(table.compare(cells), pairs),
            pairs=pairs,
            backends=verdicts.backends(study, cells),
            defaults=verdicts.defaults(study, cells),
            rankings=verdicts.rankings(cells),
            reaching=verdicts.reaching(cells),
            spread=verdicts.spread(study, cells),
        )

    @property
    def misbehaved(self) -> list[str]:
        """The claims of the controls that do not hold, or could not be tested."""
        return [] if self.controls is None else checks.not_held(self.controls)

    @cached_property
    def notes(self) -> list[str]:
        """What has to be known to read the table."""
        return [*checks.lines(self.judged), *table.notes(self.study, self.cells)]

    @cached_property
    def headline(self) -> list[str]:
        """The findings in words: what makes them invalid first, or last that nothing does."""
        validity = [] if self.controls is None else table.validity(checks.lines(self.controls), self.misbehaved)
        return [
            *(validity if self.misbehaved else []),
            *table.placed(self.study, self.cells),
            *self._lost(),
            *self._best(),
            *self._over_datasets(),
            *self._between(),
            *self._from_defaults(),
            *self._sources(),
            *self._caution(),
            *([] if self.misbehaved else validity),
        ]

    def _lost(self) -> Iterator[str]:
        counts = self.cells["status"].value_counts().drop("finished", errors="ignore")
        if len(counts):
            lost = " and ".join(f"{count} {status}" for status, count in counts.items())
            yield f"Of {len(self.cells)} cells {lost}."

    def _best(self) -> Iterator[str]:
        keys = ["backend", *factors(self.cells)]
        groups = dict(iter(self.comparison.groupby(keys, sort=False)))
        order = self.cells[keys].drop_duplicates().itertuples(index=False, name=None)
        places = [(key, groups[key]) for key in order]
        for measure in RANKED_MEASURES:
            column = f"{measure.name}_against_best"
            if len(places) <= PLACES:
                for key, group in places:
                    yield self._place(dict(zip(keys, key, strict=True)), group, measure)
                continue
            best = self.comparison.loc[self.comparison[column] == "best"]
            for backend, rows in best.groupby("backend", sort=False):
                counts = [f"{name} in {count}" for name, count in rows["initializer"].value_counts().items()]
                levels = len(places) // self.comparison["backend"].nunique()
                yield (
                    f"{FRAMEWORKS[str(backend)]}, best mean {measure.title} over {levels} levels: {_listed(counts)}; "
                    "each level's verdicts are in the tables."
                )

    def _place(self, key: Mapping[str, object], group: pd.DataFrame, measure: Measure) -> str:
        backend, *levels = key.values()
        at = [f"{name} {level}" for name, level in zip(list(key)[1:], levels, strict=True)]
        where = f"{', '.join([FRAMEWORKS[str(backend)], *at])}, by {measure.title}: "
        able = group[~lucky(group)]
        if able.empty:
            return f"{where}no initializer finished half of its cells."
        if len(group) == 1:
            return f"{where}{able['initializer'].iloc[0]} has the mean {table.interval(able.iloc[0], measure.name)}."
        row = group.loc[group[f"{measure.name}_against_best"] == "best"].iloc[0]
        rivals = self._rivals(key, measure, row["initializer"])
        words = [
            f"{phrase} {_listed(list(rivals.loc[rivals['verdict'] == verdict, 'rival']))}"
            for verdict, phrase in ((BETTER, "better than"), (EQUIVALENT, "equivalent to"), (WORSE, "worse than"))
            if (rivals["verdict"] == verdict).any()
        ]
        mean = row[f"{measure.name}_mean"]
        ties = group[np.isclose(group[f"{measure.name}_mean"], mean, rtol=0, atol=TIED) & ~lucky(group)]
        alike = [name for name in ties["initializer"] if name != row["initializer"]]
        told = f"{where}{row['initializer']} has the best mean, {mean:.3f}{', with ' if alike else ''}{_listed(alike)}"
        decided = f"; it is {', '.join(words)}" if words else ""
        return f"{told}{decided}{_open(rivals[rivals['verdict'] == UNDECIDED])}."

    def _rivals(self, key: Mapping[str, object], measure: Measure, best: str) -> pd.DataFrame:
        """Return the pairs of the best of a place with each of its rivals, as seen from the best."""
        meant = np.logical_and.reduce([self.pairs[name] == value for name, value in key.items()])
        pairs = self.pairs[meant & (self.pairs["measure"] == measure.name)]
        left, right = pairs[pairs["left"] == best], pairs[pairs["right"] == best]
        turned = right.assign(rival=right["left"], verdict=right["verdict"].replace(TURNED))
        rivals: pd.DataFrame = pd.concat([left.assign(rival=left["right"]), turned]).sort_values("more_seeds")
        return rivals

    def _over_datasets(self) -> Iterator[str]:
        for each in self.rankings:
            if each.blocks == "datasets":
                order = np.argsort(each.ranks.mean)
                ranked = [f"{each.initializers[at]} {each.ranks.mean[at]:.2f}" for at in order]
                differ = f"those more than {each.ranks.critical:.2f} apart differ"
                apart = differ if verdicts.apart(each.ranks).any() else "none can be told apart"
                yield (
                    f"{FRAMEWORKS[each.backend]}, mean rank by {each.title} over {each.ranks.blocks} datasets: "
                    f"{_listed(ranked)}; {apart}."
                )

    def _between(self) -> Iterator[str]:
        if self.backends.empty:
            return
        differences = self.differences
        if (self.backends["verdict"] == NOT_COMPARABLE).all():
            yield f"No verdict between the backends, for they differ in {'; '.join(differences)}."
            return
        first, second = (FRAMEWORKS[backend] for backend in self.study.backends)
        comparable = self.backends[self.backends["verdict"] != NOT_COMPARABLE]
        names = factors(self.cells)
        apart = names if len(self.study.levels()) <= PLACES else []
        for (name, *levels), rows in comparable.groupby(["measure", *apart], sort=False):
            if name not in RANKED:
                continue
            where = "".join(f", {factor} {level}" for factor, level in zip(apart, levels, strict=True))
            phrases = {
                EQUIVALENT: "equivalent",
                BETTER: f"{first} better",
                WORSE: f"{second} better",
                UNDECIDED: "undecided",
            }
            counts = [
                f"{phrase} under {_few(rows, verdict)}"
                for verdict, phrase in phrases.items()
                if (rows["verdict"] == verdict).any()
            ]
            yield f"{first} against {second}{where}, by {TITLES[name]}: {'; '.join(counts)}."
        if differences:
            yield f"Without a verdict where the backends differ in {'; '.join(differences)}."

    @property
    def differences(self) -> list[str]:
        """What keeps the backends from being compared, in any level."""
        study = self.study
        return list(dict.fromkeys(each for levels in study.levels() for each in study.at(levels).backend_differences()))

    def _from_defaults(self) -> Iterator[str]:
        if self.defaults.empty:
            return
        first, second = (FRAMEWORKS[backend] for backend in self.study.backends)
        for measure in RANKED_MEASURES:
            rows = self.defaults[self.defaults["measure"] == measure.name].dropna(subset="difference")
            if rows.empty:
                continue
            clear = list(rows.loc[rows["p"] < inference.ALPHA, "initializer"])
            largest = rows.iloc[int(rows["difference"].abs().argmax())]
            ends = f"{largest['difference']:+.3f} [{largest['low']:+.3f}, {largest['high']:+.3f}]"
            yield (
                f"{first} − {second} in {measure.title}, the part of it that native weights make (native less shared): "
                f"significant under {_listed(clear) or 'no initializer'}; the largest is {ends}, under "
                f"{largest['initializer']}."
            )

    def _sources(self) -> Iterator[str]:
        for measure, rows in self.spread.groupby("measure", sort=False) if len(self.spread) else ():
            ordered = rows.sort_values("sd", ascending=False)
            parts = [f"{row['source']} {row['sd']:.3f}" for _, row in ordered.iterrows()]
            yield f"Standard deviation of {TITLES[measure]} by source: {', '.join(parts)}."

    def _caution(self) -> Iterator[str]:
        if any(verdicts.held(self.study.at(levels)) for levels in self.study.levels()):
            yield "Where split, order or weights are held at one seed, verdicts are about that one draw."
        used = [source(dataset) for dataset in self.study.datasets]
        if len(used) == 1:
            yield f"All this is about {used[0]}: seeds of one dataset say nothing of others."

    def _margin(self, measure: Measure) -> str:
        chosen = self.study.margins.get(measure.name, measure.margin)
        if chosen is None:
            return "one test row" if measure.name == "test_accuracy" else ""
        return f"{chosen:g} {measure.unit}".rstrip()

    def methods(self, environment: Mapping[str, object]) -> str:
        """Return how all was measured and judged, in one paragraph with the settings and versions."""
        margins = "; ".join(
            f"{each.title}, {'higher' if each.higher_is_better else 'lower'} is better"
            + (f", margin {self._margin(each)}" if self._margin(each) else "")
            for each in MEASURES
        )
        recipes = "; ".join(
            f"{FRAMEWORKS[backend]} {_settings(self.study.recipe_for(backend).model_dump())}"
            for backend in self.study.backends
        )
        varied = [f"{factor} over {', '.join(map(str, levels))}" for factor, levels in self.study.factors.items()]
        packages = environment["packages"]
        versions = _settings(packages) if isinstance(packages, Mapping) else str(packages)
        return METHODS.format(
            data=", ".join(map(source, self.study.datasets)),
            split=_settings(self.study.split.model_dump()),
            network=_settings(self.study.network.spelled_out.model_dump()),
            weights=self.study.weights,
            recipes=recipes,
            varied=f" Varied: {'; '.join(varied)}." if varied else "",
            initializers=", ".join(self.study.initializers),
            seeds=", ".join(map(str, self.study.seed_list)),
            target=self.study.target,
            resamples=inference.RESAMPLES,
            seed=table.BOOTSTRAP_SEED,
            few=inference.FEW,
            margins=margins,
            power=inference.POWER,
            versions=versions,
            machine=f"{environment['processor']}, {environment['precision']}",
        )


def _settings(settings: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {_plain(value)}" for name, value in settings.items() if value is not None)


def _plain(value: object) -> str:
    if isinstance(value, tuple | list):
        return "-".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _few(rows: pd.DataFrame, verdict: str) -> str:
    """Return the initializers that have a verdict, or how many rows where there are several of each."""
    meant = rows[rows["verdict"] == verdict]
    if rows["initializer"].is_unique and len(meant) < len(rows):
        return _listed(list(meant["initializer"]))
    if len(rows) == 1:
        return str(meant["initializer"].iloc[0])
    every = "all " if len(meant) == len(rows) else f"{len(meant)} of "
    return f"{every}{len(rows)}"


def _open(rivals: pd.DataFrame) -> str:
    """Return who is not told apart, and what it would take."""
    if rivals.empty:
        return ""
    told = f"; nothing separates it from {_listed(list(rivals['rival']))}"
    known = rivals.dropna(subset="more_seeds")
    if known.empty:
        return f"{told} ({seeds_needed(np.nan)})"
    first, last = known.iloc[0], known.iloc[-1]
    rest = f", {seeds_needed(last['more_seeds'])} {last['rival']}" if len(known) > 1 else ""
    return f"{told}: {seeds_needed(first['more_seeds'])} would settle {first['rival']}{rest}"


def _listed(names: Sequence[str]) -> str:
    """Return names as a sentence lists them.

    >>> _listed(["he_normal", "lsuv", "zeros"])
    'he_normal, lsuv and zeros'
    """
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
