"""The flow that a worker runs: one part of a benchmark, for a benchmark on another machine (tasks/remote.py)."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from prefect import runtime, unmapped
from prefect.task_runners import ThreadPoolTaskRunner

from flows import data
from flows.crews import THREADS, end_with_worker
from flows.serving.server import recorded, served_flow
from tasks import fence, machine, models, parity, remote
from tasks.cells import settle, slots, threads, train_cells, trainers
from tasks.core.design.grid import Batch
from tasks.core.design.settings import source
from tasks.tracking import reading, recording, store
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
    with recorded(), trainers([part.backend]):
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
        ValueError: if the data or the release of initbench differ from those of the benchmark, or the cells do not fit
            into memory.
    """
    found = data.checksums([(part.settings, part.cells[0].seed)])
    data.check_memory([part.settings], slots())
    platform = machine.platform_for(found, threads())
    asked = {source(part.settings.dataset): part.data}
    here, there = {"initbench": platform.release, **found}, {"initbench": part.release, **asked}
    differ = [f"{name} ({here[name]}, not {there[name]})" for name in here if here[name] != there[name]]
    if differ:
        raise ValueError(f"{part}: a worker must have the benchmark's data and release; differing: {', '.join(differ)}")
    whole = Batch.of(part.settings, part.cells, platform, part.target, part.record)
    known = reading.find(part.study, [whole], benchmark.run_id if part.fresh else None).run_ids
    batches = whole.without(known).cut(most=1)
    known |= settle(batches, train_cells.map(batches, unmapped(benchmark)), benchmark)
    return [known[key] for key in whole.keys.values()]
