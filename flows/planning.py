"""How a plan is made: resolve the levels of a study, hash the keys of its cells, and look up earlier cells.

Batches carry the settings and the keys from here on, so that no later step of the benchmark has to resolve or hash.
Only a worker elsewhere hashes and looks up again, because its platform may be another one.
"""

from collections.abc import Sequence
from math import ceil

from flows import data, studies
from flows.examined import changed, examined
from flows.plan import Plan, Planned
from flows.serving.server import check_home, check_servers
from tasks import machine, remote
from tasks.core.design import grid
from tasks.core.design.columns import RANKED
from tasks.core.design.grid import UNTUNED, Batch, Cell, Picks
from tasks.core.design.own import Loaded, OwnNetwork
from tasks.core.design.parts import Level
from tasks.core.design.settings import CellSettings, Network
from tasks.core.design.study import Study
from tasks.core.statistics import planning, ranks, tuning
from tasks.core.training import datasets
from tasks.here import slots, threads
from tasks.tracking import reading, reuse, store

OF_THE_STUDY: Level = ("setting", "of the study")
"""The level of the controls at which they have the settings of the study that trains them along."""


def _unreachable(study: Study) -> list[str]:
    """Return the verdicts that so few seeds, test rows or datasets can never give; empty for real targets."""
    if study.regression:
        return []
    found = [datasets.load(dataset) for dataset in study.datasets]
    rows = min(each.held or ceil(len(each.y) * study.split.test_fraction) for each in found)
    rivals, seeds, families = len(study.initializers), len(study.seed_list), len(study.backends) * len(RANKED)
    missed = planning.unreachable(rivals, seeds, families, rows, study.margins.get("test_accuracy"))
    if rivals < ranks.LEAST_RIVALS or len(study.datasets) < ranks.LEAST_BLOCKS:
        return missed
    if len(study.datasets) < (least := ranks.least_blocks(rivals, families)):
        missed.append(f"ahead over the datasets, even in the same order on all ({least} datasets could show it)")
    return missed


def plan(study: Study, *, fresh: bool) -> Plan:
    """Return the plan of a study: resolve it and its controls, and look up earlier cells.

    If the study tunes, and all cells by which initializers pick are in the record, the plan has what they have picked.

    fresh: look up no earlier cells, so that every cell is trained.

    Raises:
        StoreError: if the tracking store cannot be used.
        ServerError: if no Prefect server is configured, and a private one cannot keep its data.
        ValueError: if there are no such controls, the data may not be read, or cannot be split as the study says,
            or the cells do not fit into memory.
    """
    check_home()
    data.check_temporary()
    notes = store.check(study.name)
    with datasets.read_once():  # files can be large
        made = _planned(data.spelled_out(study), fresh=fresh)
    return made.model_copy(update={"notes": (*notes, *made.notes)})


def _planned(study: Study, *, fresh: bool) -> Plan:
    made = _plan_of_tuning(study, fresh=fresh) if study.tune else picked(study, UNTUNED, fresh=fresh)
    # for workers, too, if the framework is here: the report has the layers, and a broken builder is refused now
    networks = examined(study, [each for each in study.backends if machine.has(each)])
    if study.runner == "local":  # what is planned again later, when trainers hold memory, is not checked again
        data.check_memory(dict.fromkeys(batch.settings.shared for batch in made.left), slots())
        networks.in_flight()  # refuses if not even one cell fits
        store.check_room(networks.recorded(made.left))
    made = made.model_copy(update={"networks": networks})
    elsewhere = _on_workers(study) if study.runner == "workers" else ()
    since = (*elsewhere, *changed(made.own.batches, study))
    notes = (*made.notes, *made.networks.notes, *since)
    return made.model_copy(update={"notes": notes, "unreachable": tuple(_unreachable(study))})


def _on_workers(study: Study) -> tuple[str, ...]:
    """Return what to know of code of one's own that workers train: it does not travel with the parts."""
    own, loaded = study.network, study.dataset
    used = [*(own.build[each] for each in study.backends)] if isinstance(own, OwnNetwork) else []
    used += [loaded.load] if isinstance(loaded, Loaded) else []
    rule = "in a folder that INITBENCH_CODE lists there, or as an installed package; cells of a worker without it fail"
    return (f"every worker must have the code of {', '.join(used)}, {rule}",) if used else ()


def _plan_of_tuning(study: Study, *, fresh: bool) -> Plan:
    first = picked(study.tuning(), UNTUNED, fresh=fresh)
    if first.own.batches:
        return first.model_copy(update={"own": Planned(study, {}, ()), "tuning": first.own})
    cells = reading.read(store.record_of(study.name), first.study, first.own.run_ids(first.reused))
    later = picked(study, tuning.picks(study, cells), fresh=fresh)
    return later.model_copy(update={"tuning": first.own, "reused": first.reused | later.reused})


def picked(study: Study, picks: Picks, *, fresh: bool) -> Plan:
    """Return the plan of a study whose initializers have picked, or pick nothing; `plan` says how."""
    controls = _controls(study)
    asked = [study, *([controls] if controls else [])]
    rows = [grid.resolved(study, picks), *([_under(study, controls)] if controls else [])]
    found = data.checksums((settings, cells[0].seed) for row in rows for settings, cells in row)
    platform = machine.platform_for(found, threads())
    batches = [
        [Batch.of(settings, cells, platform, each.target, study.record) for settings, cells in row]
        for each, row in zip(asked, rows, strict=True)
    ]
    # a worker looks up earlier cells itself, because keys depend on its platform
    local = study.runner == "local"
    known = reuse.find(study.name, [each for row in batches for each in row] if local and not fresh else [])
    own, *others = _left(asked, batches, known.run_ids)
    bare = f"the files of cells that earlier runs recorded are gone; these cells are trained anew: {len(known.bare)}"
    return Plan(
        own=own,
        controls=others[0] if others else None,
        fresh=fresh,
        reused=known.run_ids,
        data=found,
        notes=(*([bare] if known.bare else []), *data.notes(study.datasets)),
    )


def ready(study: Study, *, fresh: bool) -> Plan:
    """Return the plan of a study, after a check that the plan can be carried out at once.

    Raises:
        StoreError: if the tracking store cannot be used.
        ValueError: if the study cannot be planned; or if the study asks for workers, and there are no workers, or no
            servers that workers can reach.
    """
    if study.runner == "workers":
        check_servers()
        remote.check_workers(study.backends)
    return plan(study, fresh=fresh)


def _controls(study: Study) -> Study | None:
    """Return the controls of a study, or None if it has none.

    The controls get the study's name, because their cells belong in the study's experiment.

    Raises:
        ValueError: if there are no such controls.
    """
    if not study.controls:
        return None
    shipped = studies.load(study.controls) if study.controls in studies.names() else None
    if shipped is None or not shipped.checks:
        able = [name for name in studies.names() if studies.load(name).checks]
        raise ValueError(f"controls must be a study that has checks: {', '.join(able)}; got {study.controls!r}")
    own = {"name": study.name, "backends": study.backends, "runner": study.runner, "record": study.record}
    changes = {**own, "controls": None}
    return shipped.model_copy(update=changes)


def _under(study: Study, controls: Study) -> list[tuple[CellSettings, list[Cell]]]:
    """Return the cells of the controls in rows; rows at the level OF_THE_STUDY get the study's settings.

    The network is the study's, but its biases start at zero and its output layer has the initializer of the others:
    the claims are about networks that an initializer starts as a whole. If the first hidden layer has only one unit,
    its units cannot stay alike, and the controls' own network is used. The controls' network and data are also used in
    place of a network of one's own, for which no outcome is known in advance.
    """
    rows = []
    for settings, cells in grid.resolved(controls):
        if OF_THE_STUDY in cells[0].levels and isinstance(study.network, Network):
            theirs = study.settings(settings.backend, ())
            whole = theirs.perceptron.model_copy(update={"bias": "zeros", "output_initializer": "same"})
            able = max(whole.units[:1], default=0) > 1
            settings = theirs.model_copy(update={"network": whole if able else settings.network})
        rows.append((settings, cells))
    return rows


def _left(asked: Sequence[Study], batches: Sequence[Sequence[Batch]], reused: dict[str, str]) -> list[Planned]:
    """Return each study with the batches that are left to train; a key stands in the first batch that has it."""
    known, found = set(reused), []
    for study, whole in zip(asked, batches, strict=True):
        left = []
        for batch in whole:
            left.append(batch.without(known))
            known |= {*batch.keys.values()}
        most = grid.largest_batch(study, sum(len(batch.keys) for batch in left))
        keys = {cell: key for batch in whole for cell, key in batch.keys.items()}
        in_order = {cell: keys[cell] for cell in grid.cells(study)}  # batches of a tuned study are sorted by pick
        found.append(Planned(study, in_order, tuple(part for batch in left for part in batch.cut(most))))
    return found
