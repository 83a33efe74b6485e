"""Networks of one's own, examined before anything is recorded: whether they can be built, and how large they are."""

from collections.abc import Sequence
from dataclasses import dataclass

from flows.data import GIB
from tasks.core.audit.audit import Audit, judge
from tasks.core.design import grid
from tasks.core.design.grid import Batch
from tasks.core.design.initializers import Backend
from tasks.core.design.own import OPTIONS, called
from tasks.core.design.settings import CellSettings, Data, source
from tasks.core.design.study import Study
from tasks.core.report import audit_text
from tasks.core.training import datasets, memory, own_parity
from tasks.core.training.own import Examined, own
from tasks.here import slots, trainers
from tasks.tracking import reuse
from tasks.tracking.store import DATA
from tasks.trainers import pool
from tasks.trainers.memory import free
from tasks.trainers.process import TrainerError

TELLING = 0.01  # a factor of variances is told if it differs from 1 by more


@dataclass(frozen=True)
class Networks:
    """What is known of the networks of a study: of each with settings of its own, in each backend."""

    found: tuple[tuple[CellSettings, Examined], ...] = ()
    audits: tuple[tuple[str, Audit], ...] = ()
    """If the study asks for audits, that of each network as its author builds it, by the name of its files."""

    def in_flight(self) -> int | None:
        """How many cells may train at once, of as many as there are slots; None if there is no network of one's own.

        The free memory is divided by the memory that one cell needs (`memory.needed_by_own`).

        Raises:
            ValueError: if not even one cell fits.
        """
        if not self.found:
            return None
        needs = {
            settings: memory.needed_by_own(
                settings, datasets.load(settings.dataset), each.size.parameters, each.size.activations
            )
            for settings, each in self.found
        }
        largest, there = max(needs, key=needs.__getitem__), free()
        if needs[largest] > there:
            each = dict(self.found)[largest]
            raise ValueError(
                f"training must fit into memory: a network of {each.size.parameters:,} parameters, whose layers give "
                f"{each.size.activations:,} numbers for a row, needs about {needs[largest] / GIB:.1f} GiB with batches "
                f"of {largest.recipe.batch_size} rows; {there / GIB:.1f} GiB are free"
            )
        return min(len(slots()), there // needs[largest])

    def recorded(self, batches: Sequence[Batch]) -> int:
        """Return about how many bytes of disk the record of these batches takes."""
        known, needed = dict(self.found), 0
        for batch in batches:
            settings, dataset = batch.settings, datasets.load(batch.settings.dataset)
            own = known.get(settings.shared)
            size = (own.size.parameters, len(own.layers.layers)) if own else memory.perceptron(settings, dataset)
            needed += len(batch.keys) * memory.recorded(settings, dataset, *size, full=batch.record == "full")
        return needed

    @property
    def notes(self) -> tuple[str, ...]:
        """What to know of the networks: which parameters no law decides, and where values are not those drawn."""
        said: dict[str, None] = {}
        for settings, each in self.found:
            backend, found = settings.backend, each.layers
            if found.left:
                names = ", ".join(found.left)
                said[f"{backend}: these parameters belong to no layer of a known kind and stay as built: {names}"] = (
                    None
                )
            for one, owner in found.tied:
                said[f"{backend}: {one} is {owner}, and follows its law"] = None
            said |= dict.fromkeys(f"{backend}: {words}" for words in found.notes)
        for _, audit in self.audits:
            stops = " A fault stops no run." if audit.fails() else ""
            said[f"audit of {audit.target} in {audit.backend}: {audit_text.verdict(audit)}{stops}"] = None
        return tuple(said)

    def described(self) -> list[dict[str, object]]:
        """Return what `environment.json` says of each network, a layer a row."""
        return [
            {
                "backend": settings.backend,
                "builder": network.build[settings.backend],
                "code": network.code.get(settings.backend, ""),
                "options": network.options,
                "parameters": each.size.parameters,
                "layers": [
                    {
                        "name": layer.name,
                        "kind": layer.kind,
                        "fans": [[k.name, k.fan_in, k.fan_out] for k in layer.kernels],
                    }
                    for layer in each.layers.layers
                ],
                "left": each.layers.left,
                "notes": each.layers.notes,
                "native_factors": {
                    label: {
                        name: factor
                        for name, factor in zip(told.names, told.native_factor, strict=True)
                        if abs(factor - 1) > TELLING
                    }
                    for label, told in each.described.items()
                },
            }
            for settings, each in self.found
            if (network := settings.own)
        ]


def examined(study: Study, backends: Sequence[Backend]) -> Networks:
    """Return what is known of a study's networks of one's own in these backends, from trainers of this machine.

    Raises:
        ValueError: if one cannot be built, drawn, called or audited, or a function gives other data each time.
    """
    whole = grid.resolved(study)
    rows = [(settings, cells) for settings, cells in whole if settings.own and settings.backend in backends]
    asked = {settings.shared: cells for settings, cells in reversed(rows)}
    if not asked:
        return Networks()
    found = []
    with trainers(backends):
        for settings, cells in reversed(asked.items()):
            first = {cell.initializer: cell for cell in reversed(cells)}
            try:
                with pool.current().lease(settings.backend) as trainer:
                    each = trainer.examine(settings, [*first.values()])
            except TrainerError as error:
                raise ValueError(f"network.build, {settings.backend}: {error}") from None
            if each.checksum != datasets.load(settings.dataset).checksum:
                raise ValueError(
                    f"dataset: {source(settings.dataset)} must give the same arrays each time it is called"
                )
            found.append((settings, each))
        audits = _audits(found) if study.audit else ()
    for settings, each in found:
        others = [(other, theirs) for other, theirs in found if _twin(settings, other)]
        if settings.weights == "shared" and others:
            own_parity.match({settings.backend: each, others[0][0].backend: others[0][1]})
    return Networks(tuple(found), audits)


def _audits(found: Sequence[tuple[CellSettings, Examined]]) -> tuple[tuple[str, Audit], ...]:
    """Return an audit of each network as its author builds it, by name; networks that differ in laws alone have one."""
    asked: dict[tuple[Backend, str, Data], CellSettings] = {}
    for settings, _ in found:
        network = own(settings)
        name = called(network.build[settings.backend], network.options)
        asked.setdefault((settings.backend, name, settings.dataset), settings)
    audits = [_audit(settings, name) for (_, name, _), settings in asked.items()]
    return tuple(zip(_names([backend for backend, *_ in asked]), audits, strict=True))


def _audit(settings: CellSettings, name: str) -> Audit:
    try:
        with pool.current().lease(settings.backend) as trainer:
            seen = trainer.audit_own(settings)
    except (TrainerError, ValueError) as error:
        raise ValueError(f"audit: {name} cannot be audited; {error}") from None
    return judge(seen, name)


def _names(backends: Sequence[Backend]) -> list[str]:
    """Return names for networks of these backends: the backend, with a number where several networks are of one.

    >>> _names(["pytorch", "keras", "keras"])
    ['pytorch', 'keras-1', 'keras-2']
    """
    counted = [(each, backends[: at + 1].count(each)) for at, each in enumerate(backends)]
    return [f"{each}-{count}" if backends.count(each) > 1 else each for each, count in counted]


def changed(batches: Sequence[Batch], study: Study) -> tuple[str, ...]:
    """Return what has changed since the newest recorded cell of each backend, where cells are left to train."""
    told: dict[str, None] = {}
    varied = {name for levels in study.levels() for name, _ in levels}
    for batch in batches:
        own, backend, asked = batch.settings.own, batch.backend, batch.settings.dataset
        before = reuse.newest(study.name, backend) if own and batch.cells else {}
        if not own or f"network.code.{backend}" not in before:
            continue
        pairs: dict[str, tuple[str, object]] = {
            f"the code of {own.build[backend]}": (f"network.code.{backend}", own.code.get(backend))
        }
        pairs |= {f"the data of {source(asked)}": (DATA, batch.platform.data[source(asked)])}
        options = {name: value for name, value in own.options.items() if OPTIONS + name not in varied}
        pairs |= {f"the option {name}": (OPTIONS + name, value) for name, value in options.items()}
        found = [words for words, (name, value) in pairs.items() if before.get(name) != str(value)]
        if found:
            told[f"{backend}: changed since the newest cell on record: {', '.join(found)}"] = None
    return tuple(told)


def _twin(one: CellSettings, other: CellSettings) -> bool:
    """Tell whether settings are those of the same level in the other backend."""
    ours, theirs = one.own, other.own
    alike = ours and theirs and (ours.options, ours.rules) == (theirs.options, theirs.rules)
    return one.backend != other.backend and bool(alike)
