"""The benchmark: train a study's grid and publish the comparison of its initializers.

The flow fans the cells out to tasks and, at the same time, checks that the backends compute what the study asks for
(parity gate). If the study tunes, it first trains the cells by which each initializer picks. It settles the failed
tasks, compares the initializers, and publishes the report. If the gate fails, nothing is compared.
"""

from collections.abc import Sequence

from prefect import get_run_logger, runtime, unmapped
from prefect.task_runners import ThreadPoolTaskRunner

from flows import form
from flows.plan import Plan
from flows.planning import picked, ready
from flows.progress import followed
from flows.result import BenchmarkResult, raise_faults
from flows.runners import RUNNERS, THREADS, Runner
from flows.serving.server import end_with_worker, recorded, served_flow
from tasks import audits, machine, models
from tasks.cells import prefect_tags, settle
from tasks.comparison import Result, collect, compare, publish
from tasks.core.design.grid import Batch
from tasks.core.statistics import tuning
from tasks.core.training.parity import Asked
from tasks.here import threads
from tasks.parity import passed
from tasks.tracking import recording
from tasks.tracking.store import Benchmark


def run_name() -> str:
    """Return the name of a flow run in Prefect: the study and the size of its grid."""
    parameters = runtime.flow_run.parameters
    if isinstance(parameters["study"], Plan):
        return parameters["study"].study.summary
    try:
        return form.asked(parameters).summary
    except ValueError:  # the flow itself will fail with this error
        return f"{parameters['study']} · invalid"


@served_flow(name="benchmark", flow_run_name=run_name, task_runner=ThreadPoolTaskRunner(THREADS))
def benchmark(
    study: form.AskedStudy = "iris",
    seeds: form.Seeds = 0,
    epochs: form.Epochs = 0,
    backends: form.Backends = (),
    initializers: form.Initializers = (),
    fresh: bool = False,
    parity: bool = True,
    advanced: form.Advanced = {},  # noqa: B006  # Prefect hands in a copy
) -> BenchmarkResult:
    """Train a study's grid in every backend and compare its initializers.

    Args:
        study: A study that ships. Python code may also pass a Study or a Plan.
        seeds: How many seeds. 0 keeps the study's number, usually 10.
        epochs: Passes over the train rows. 0 keeps the study's number, usually 20.
        backends: Frameworks to train in. An empty list keeps the study's, usually both.
        initializers: Initializers of the hidden layers. An empty list keeps the study's. For parameters, use advanced.
        fresh: Train every cell again, also cells that an earlier benchmark has finished.
        parity: Check that the backends compute what the study asks for, and agree, before anything is compared.
        advanced: Changes to any setting of the study. A change here takes precedence over the fields above.

    Raises:
        StudyError: if a change to the study is not valid.
        FailedCellsError: if a cell could not be trained; everything else is published first.
        InvalidBenchmarkError: if a control misbehaved; everything is published first.
        UncrownedError: if a champion could not be registered as a model; everything is published first.
        ParityError: if a backend does not compute what it should; no cell of this benchmark is used again then.
    """
    end_with_worker()
    if isinstance(study, Plan):
        return carry_out(study, parity=parity)
    fields = {"seeds": seeds, "epochs": epochs, "backends": backends, "initializers": initializers}
    asked = form.asked({"study": study, "advanced": advanced, **fields})
    return carry_out(ready(asked, fresh=fresh), parity=parity)


def carry_out(todo: Plan, *, parity: bool) -> BenchmarkResult:
    """Carry out a plan in the current flow run; `benchmark` says how."""
    log, study, runner = get_run_logger(), todo.study, RUNNERS[todo.study.runner]
    log.info("Asked for:\n%s", todo)
    environment = machine.describe(threads()) | {"data": todo.data, "networks": todo.networks.described()}
    with recorded(), runner.open(todo), recording.benchmark(study, environment, prefect_tags()) as record:
        asked = Asked.of(todo.to_check if parity else ())
        if todo.networks.audits:
            audits.publish(record, dict(todo.networks.audits))
        gate = runner.check_parity.submit(record, study.backends, asked) if asked.levels or asked.drawn else None
        first, todo = _train_tuning(runner, todo, record)
        known = todo.reused | _trained(runner, todo.left_after_tuning, record, study.name)
        if gate:
            passed(gate, record)
        result = collect(study, record, todo.own.run_ids(known))
        others = todo.controls
        controls = collect(others.study, record, others.run_ids(known)) if others else None
        findings = compare(study, record, result, controls, first)
        backends = () if findings.misbehaved else study.backends
        crowning = runner.crown.map(unmapped(findings), backends, unmapped(record)) if backends else []
        publish(record, findings)
        versions: list[object] = [each.result(raise_on_failure=False) for each in crowning]
        kept = models.unexported(record) if any(isinstance(each, str) for each in versions) else ()
        found = BenchmarkResult.of(record, findings, kept)
        log.info("Found:\n%s\nMLflow run: %s", "\n".join(found.headline), found.link)
        raise_faults(found, findings.misbehaved, versions)
        return found


def _train_tuning(runner: Runner, todo: Plan, record: Benchmark) -> tuple[Result | None, Plan]:
    """Train the cells by which initializers pick, if they do; return their result, and the plan of what comes then."""
    if todo.tuning is None:
        return None, todo
    study, first = todo.study, todo.tuning
    known = todo.reused | _trained(runner, first.batches, record, f"{study.name}, tuning")
    found = collect(first.study, record, first.run_ids(known))
    return found, todo if todo.own.keys else picked(study, tuning.picks(study, found.cells), fresh=todo.fresh)


def _trained(runner: Runner, batches: Sequence[Batch], record: Benchmark, name: str) -> dict[str, str]:
    """Train batches of cells, and show the progress under a name; return run ids by cell key."""
    futures = runner.train_cells.map(batches, unmapped(record))
    followed(futures, name)
    return settle(batches, futures, record)
