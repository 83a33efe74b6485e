"""The methods: how a benchmark was trained, measured and judged, in one paragraph for a report or a paper."""

from collections.abc import Mapping

from tasks.core.design.columns import MEASURES, RANKED_MEASURES, RESOLUTION, Measure
from tasks.core.design.initializers import Backend
from tasks.core.design.own import OwnNetwork
from tasks.core.design.settings import source
from tasks.core.design.study import Study
from tasks.core.report.details import FRAMEWORKS, listed
from tasks.core.statistics import inference, planning
from tasks.core.statistics.measures import ERRORS
from tasks.core.statistics.tuning import standpoint

METHODS = (
    "{networks} on {data} ({split}), network {network}, weights {weights}; initializers {initializers}; "
    "seeds {seeds}; target accuracy {target:g}. Recipe: {recipes}.{varied} A seed decides the split, the order of "
    "visits and the weights, unless one of these is held. A seed fixes these for all initializers. It fixes them for "
    "both backends as well, except weights that each framework draws itself. So all differences are paired by seed. "
    "Intervals are of 95 %. Those of a group's mean are the bootstrap-t over seeds ({resamples:,} resamples from seed "
    "{seed}); below {few} seeds, and where most resamples are alike, they are Student's t. Those of interquartile "
    "means are Tukey and McLaughlin's. Pairs are compared by {ratios} as ratios: the differences that are tested are "
    "those of logarithms, and a loss below {least:.1g} counts as {least:.1g}. Pairs are compared by the other measures "
    "as differences. Intervals of both are Student's t, with an SD of at least that of one seed one step off. Those of "
    "shares are Wilson's. A family is all pairs of a backend, level and measure, or all initializers between two "
    "backends. Among all pairs one is better or worse if the range test of Ryan, Einot, Gabriel and Welsch says so at "
    "5 %, with seeds as blocks; between backends, if the paired t-test does, after Holm's adjustment. By the primary "
    "measures, which are {primary}, p-values are multiplied by the number of backends and primary measures, so that a "
    "run of equals has a false claim somewhere in 5 % of cases at most. What other measures say is exploratory. A pair "
    "is equivalent if two one-sided t-tests at 5 %, after Holm's adjustment over the family, put the mean difference "
    "within the measure's margin. This holds as far as these seeds show it: what happens in fewer than one of so many "
    "seeds cannot be seen. Otherwise the pair is undecided, with a number of seeds that probably settles it: with a "
    "power of {power:g} in nine of ten draws of mean, SD and margin. If one side finishes in every seed and the other "
    "one in none, this is told, and not tested. If in some seeds only one side has a hole, a cell that did not finish, "
    "it loses these seeds, and a sign test over seeds judges the pair. How often two finish is compared by Boschloo's "
    "exact test, after Holm's adjustment over all pairs. Ranks: Friedman's test in Iman and Davenport's form, then the "
    "tests of pairs or, over several datasets, Wilcoxon's signed-rank test, adjusted likewise. Epochs to target: pairs "
    "compare means restricted to the epochs trained; curves are Kaplan and Meier's, with misses censored. A log-rank "
    "test that is stratified by seed compares the curves. The train time of a batch counts once, because its cells "
    "share it. Effect sizes are Hedges' g of the "
    "paired differences. Measures: {margins}. The champion of a backend is the median cell, by test accuracy, of the "
    "initializer with the best mean; the accuracy that is expected of it comes from seeds that had no part in choosing "
    "the initializer. Versions: {versions}; {machine}."
)


def methods(study: Study, environment: Mapping[str, object]) -> str:
    """Return the methods of a study that ran in an environment: its settings, margins, versions and machine.

    environment: `packages`, a version by name; `processor`; `precision`.
    """
    packages = environment["packages"]
    return METHODS.format(
        networks="Networks of one's own" if isinstance(study.network, OwnNetwork) else "Multilayer perceptrons",
        data=", ".join(map(source, study.datasets)),
        split=_settings(study.split.model_dump()),
        network=_settings(study.network.spelled_out.model_dump()),
        weights=study.weights,
        recipes="; ".join(_recipe(study, backend) for backend in study.backends),
        varied=_varied(study) + _compared(study),
        initializers=", ".join(study.initializers),
        seeds=", ".join(map(str, study.seed_list)),
        target=study.target,
        resamples=inference.RESAMPLES,
        seed=inference.BOOTSTRAP_SEED,
        few=inference.FEW,
        ratios=listed([each.title for each in MEASURES if each.scale == "ratio"]),
        least=RESOLUTION,
        primary=listed([each.title for each in RANKED_MEASURES]),
        margins="; ".join(_measure(study, each) for each in MEASURES),
        power=planning.POWER,
        versions=_settings(packages) if isinstance(packages, Mapping) else str(packages),
        machine=f"{environment['processor']}, {environment['precision']}",
    )


def _recipe(study: Study, backend: Backend) -> str:
    return f"{FRAMEWORKS[backend]} {_settings(study.recipe_for(backend).model_dump())}"


def _varied(study: Study) -> str:
    factors = [f"{factor} over {', '.join(map(str, levels))}" for factor, levels in study.factors.items()]
    return f" Varied: {'; '.join(factors)}." if factors else ""


def _compared(study: Study) -> str:
    """Return under what settings initializers are compared, as a sentence."""
    if study.tune is None:
        return f" Initializers are compared {standpoint(study)}."
    values, seeds = (", ".join(map(str, each)) for each in (study.tune.values, study.tune.seed_list))
    by = study.tune.by.replace("_", " ")
    best = "lowest" if study.tune.by == "validation_loss" else "highest"
    return (
        f" Initializers are compared {standpoint(study)}: of {values} each has the one that gave the {best} mean {by} "
        f"over the seeds {seeds}, in each backend and level by itself; validation rows are held out of the train rows, "
        "in the comparison as well."
    )


def _measure(study: Study, measure: Measure) -> str:
    """Return a measure's title, which of its values are better, and its margin."""
    margin = _margin(study, measure)
    better = "higher" if measure.higher_is_better else "lower"
    return f"{measure.title}, {better} is better" + (f", margin {margin}" if margin else "")


def _margin(study: Study, measure: Measure) -> str:
    chosen = study.margins.get(measure.name, measure.margin)
    if chosen is None:
        return f"{100 * ERRORS:.0f} % of the fewest errors" if measure.step_is_a_test_row else ""
    return f"{100 * chosen:g} %" if measure.scale == "ratio" else f"{chosen:g} {measure.unit}".rstrip()


def _settings(settings: Mapping[str, object]) -> str:
    """Return settings as a sentence lists them.

    >>> _settings({"hidden": (64, 32), "residual": False, "clip_norm": None})
    'hidden 64-32, residual false'
    """
    return ", ".join(f"{name} {_plain(value)}" for name, value in settings.items() if value is not None)


def _plain(value: object) -> str:
    if isinstance(value, tuple | list):
        return "-".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
