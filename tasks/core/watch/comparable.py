"""Comparable nights: what must be the same in two nights, and what may differ and is told beside each flag."""

from collections.abc import Mapping, Sequence

from tasks.core.design import grid
from tasks.core.design.study import Study
from tasks.core.statistics.side_by_side import differing

IMMATERIAL = {"record", "max_tasks", "runner", "reported", "checks", "controls", "margins", "audit"}
"""Settings of a study that change no number of a cell. Tonight's checks and margins judge both nights."""
ATTRIBUTED = ("packages", "python", "system", "processor", "processors", "precision", "deterministic", "rounding")

Environment = Mapping[str, object]
"""What a benchmark records of its machine and its data, the file `environment.json`."""


def incomparable(before: Study, tonight: Study, was: Environment, environment: Environment) -> list[str]:
    """Return a line for all that keeps two nights from being compared; none if they are comparable.

    Comparable nights have the same study, apart from the settings IMMATERIAL, the same data, the same kind of device
    and the same Major.Minor of initbench, which is its comparability version.

    >>> cpu = {"packages": {"initbench": "0.4.1", "torch": "2.12"}, "data": {"iris": "a"}, "gpus": []}
    >>> upgraded = cpu | {"packages": {"initbench": "0.4.2", "torch": "2.13"}}
    >>> incomparable(Study(), Study(max_tasks=1), cpu, upgraded)
    []
    >>> incomparable(Study(), Study(seeds=5), cpu, cpu | {"data": {"iris": "b"}})
    ['Study, seeds: 10 before, 5 after', 'Data, iris: a before, b after']
    """
    one, other = _alike(before, was), _alike(tonight, environment)
    return [line for title in one for line in differing(title, one[title], other[title])]


def identity(study: Study, environment: Environment) -> str:
    """Return a hash of all that comparable nights have alike: two nights are comparable if it is the same."""
    return grid.digest(_alike(study, environment))


def _alike(study: Study, environment: Environment) -> dict[str, dict[str, object]]:
    """Return what comparable nights have alike, by the titles under which it is told."""
    return {
        "Study": study.model_dump(mode="json", exclude=IMMATERIAL),
        "Data": dict(_mapping(environment, "data")),
        "Environment": {"device": device(environment), "initbench": _release(environment)},
    }


def attributed(was: Environment, environment: Environment) -> list[str]:
    """Return a line for all in which two comparable nights differ, and which may have changed their numbers.

    It may be packages, Python, the kernel, the processor and how many there are, precision, threads and variables that
    decide how sums are rounded, a GPU's driver, and the commit of initbench. If a backend's workers have unlike
    machines, that is told as well, because another one may have trained a cell.

    >>> attributed({"packages": {"torch": "2.12"}, "gpus": []}, {"packages": {"torch": "2.13"}, "gpus": []})
    ['Environment, packages.torch: 2.12 before, 2.13 after']
    """
    both = dict.fromkeys([*_mixed(was), *_mixed(environment)])
    mixed = [f"the workers of {backend} have unlike machines, and chance decides which one trains" for backend in both]
    return [*differing("Environment", _causes(was), _causes(environment)), *mixed]


def device(environment: Environment) -> str:
    """Return the kind of device that trains: the models of the GPUs, or `cpu`.

    >>> device({"gpus": [{"name": "H200", "driver": "570"}, {"name": "H200", "driver": "570"}]}), device({})
    ('H200', 'cpu')
    """
    return " and ".join(_of_gpus(environment, "name")) or "cpu"


def _mixed(environment: Environment) -> Sequence[str]:
    found = environment.get("mixed", ())
    return found if isinstance(found, list) else ()


def _causes(environment: Environment) -> dict[str, object]:
    named = {name: environment[name] for name in (*ATTRIBUTED, "commit") if name in environment}
    drivers = " and ".join(_of_gpus(environment, "driver"))
    return named | ({"driver": drivers} if drivers else {})


def _of_gpus(environment: Environment, entry: str) -> list[str]:
    gpus = environment.get("gpus", ())
    found = [str(gpu.get(entry, "")) for gpu in gpus] if isinstance(gpus, Sequence) else []
    return sorted(set(found))


def _release(environment: Environment) -> str:
    return ".".join(str(_mapping(environment, "packages").get("initbench", "")).split(".")[:2])


def _mapping(environment: Environment, name: str) -> Mapping[str, object]:
    found = environment.get(name, {})
    return found if isinstance(found, Mapping) else {}
