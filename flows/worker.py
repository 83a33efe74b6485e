"""What a worker of a backend runs: a part of a benchmark that was asked for elsewhere."""

from collections.abc import Sequence
from dataclasses import replace

from prefect import runtime, unmapped
from prefect.task_runners import ThreadPoolTaskRunner

from flows.benchmark import THREADS, end_with_worker, pool
from flows.plan import survey
from flows.serving.server import recorded, served_flow
from tasks import models, parity, remote, tracking, workers
from tasks.cells import settle, train_cells
from tasks.tracking import Benchmark


@served_flow(name=remote.FLOW, task_runner=ThreadPoolTaskRunner(THREADS))
def work(part: remote.Train | remote.Trace | remote.Log, benchmark: Benchmark) -> None:
    """Do a part of a benchmark on this machine and leave what was found in the benchmark's run.

    Args:
        part: What to do.
        benchmark: Whose part it is.
    """
    end_with_worker()
    benchmark = replace(benchmark, uri=tracking.uri())
    tracking.check_files(benchmark)
    with recorded(), pool([part.backend]):
        match part:
            case remote.Train():
                found: object = _train(part, benchmark)
            case remote.Trace():
                traces = parity.trace(workers.current(), part.backend, part.seed)
                found = {name: [[array.tolist() for array in step] for step in steps] for name, steps in traces.items()}
            case remote.Log():
                found = models.log(part.study, part.cell, benchmark, part.run_id)
        tracking.hand_over(benchmark, str(runtime.flow_run.id), found)


def _train(part: remote.Train, benchmark: Benchmark) -> Sequence[str]:
    """Return the run id of each cell; those that this platform has finished before are not trained again.

    Raises:
        ValueError: if the data or the release of initbench are others than where the part was asked for.
    """
    study = part.study.model_copy(update={"backends": (part.backend,), "runner": "local"})
    platform = survey(study)
    here, there = {"initbench": platform.release, **platform.data}, {"initbench": part.release, **part.data}
    differ = [f"{name} ({here[name]}, not {there[name]})" for name in here if here[name] != there[name]]
    if differ:
        raise ValueError(f"{part} must find the data and the release it was asked with; differing: {', '.join(differ)}")
    known = tracking.find(study, platform, benchmark.run_id if benchmark.fresh else None)
    batches = study.batches([cell for cell in part.cells if cell not in known])
    futures = train_cells.map(unmapped(study), batches, unmapped(platform), unmapped(benchmark))
    known |= settle(study, batches, futures, platform, benchmark)
    return [known[cell] for cell in part.cells]
