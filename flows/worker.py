"""The flow that a worker runs: one part of a benchmark, for a benchmark on another machine (tasks/remote.py)."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from prefect import runtime, unmapped
from prefect.task_runners import ThreadPoolTaskRunner

from flows import data
from flows.runners import THREADS
from flows.serving.server import end_with_worker, recorded, served_flow
from tasks import fence, machine, models, parity, remote, user_code
from tasks.cells import settle, train_cells
from tasks.core.design.grid import Batch, Platform
from tasks.core.design.settings import source
from tasks.here import slots, threads, trainers
from tasks.tracking import recording, reuse, store
from tasks.tracking.store import Benchmark


@served_flow(name=remote.FLOW, task_runner=ThreadPoolTaskRunner(THREADS))
def work(part: remote.AnyPart, benchmark: Benchmark) -> None:
    """Do a part of a benchmark on this machine, and store the result in the benchmark's run.

    Args:
        part: Cells to train, the parity gate, or a model to register.
        benchmark: The benchmark to which the part belongs.
    """
    end_with_worker()
    benchmark = replace(benchmark, uri=store.uri())  # this machine's address of the store
    store.check_files(benchmark)
    with recorded(), trainers([part.backend]) as pool:
        pool.warm_up()  # the framework loads while the store is asked for earlier cells
        match part:
            case remote.Train():
                found: Any = _train(part, benchmark)
            case remote.Gate():
                found = parity.answer(part.backend, part.asked)
            case remote.Log():
                found = models.log(part.candidate, benchmark)
        fence.check()
        recording.hand_over(benchmark, str(runtime.flow_run.id), part.encoded(found))


def _train(part: remote.Train, benchmark: Benchmark) -> Sequence[str]:
    """Train and record cells, and return the run id of each; cells that this platform finished earlier are reused.

    Raises:
        ValueError: if the data, the code of a network of one's own or the release of initbench differ from those of the
            benchmark, or are not here, or the cells do not fit into memory.
    """
    found = data.checksums([(part.settings, part.cells[0].seed)])
    data.check_memory([part.settings], slots())
    platform = machine.platform_for(found, threads())
    _check_alike(part, platform)
    whole = Batch.of(part.settings, part.cells, platform, part.target, part.record)
    known = reuse.find(part.study, [whole], benchmark.run_id if part.fresh else None).run_ids
    batches = whole.without(known).cut(most=1)
    known |= settle(batches, train_cells.map(batches, unmapped(benchmark)), benchmark)
    if batches:
        recording.tell_machine(benchmark, part.backend, machine.describe(threads()))
    return [known[key] for key in whole.keys.values()]


def _check_alike(part: remote.Train, platform: Platform) -> None:
    """Check that this machine has the data, the code and the release with which the benchmark was planned.

    Raises:
        ValueError: if one of them differs, or the code is not where a worker may import it.
    """
    here = {"initbench": platform.release, **platform.data}
    there = {"initbench": part.release, source(part.settings.dataset): part.data}
    if own := part.settings.own:
        reference = own.build[part.backend]
        here[reference] = user_code.checksum(reference, user_code.NETWORKS)
        there[reference] = own.code[part.backend]
    differ = [f"{name} ({here[name]}, not {there[name]})" for name in here if here[name] != there[name]]
    if differ:
        told = ", ".join(differ)
        raise ValueError(f"{part}: a worker must have the benchmark's data, code and release; differing: {told}")
