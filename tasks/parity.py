"""The gate: before anything is compared, the backends must compute what the study asks for."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture

from tasks import fence
from tasks.core.design.initializers import Backend
from tasks.core.training import parity
from tasks.core.training.parity import Answer, Asked, ParityError
from tasks.fence import FencedError
from tasks.tracking import recording
from tasks.tracking.store import Benchmark, RecordError
from tasks.trainers import pool
from tasks.trainers.process import UnusableSlotError


def worth_a_retry(task: object, run: object, state: State) -> bool:  # noqa: ARG001  # Prefect's signature
    """Tell whether it can help to run a failed gate again.

    It cannot if the gate has found something, the flow run was ended, or the findings could not be recorded.
    """
    return not isinstance(state.result(raise_on_failure=False), ParityError | FencedError | RecordError)


@task(retries=1, retry_condition_fn=worth_a_retry, cache_policy=NO_CACHE)
def check_parity(benchmark: Benchmark, backends: Sequence[Backend], asked: Asked) -> None:
    """Let each backend compute what the gate asks, store the findings, and judge them.

    Raises:
        ParityError: if a backend does not compute what it should.
    """
    hold(benchmark, backends, asked, answer)


def answer(backend: Backend, asked: Asked) -> Answer:
    """Return what a backend computes, on a trainer of this machine; between two questions cells may use the trainer."""
    traces, drawn = [], []
    for level in asked.levels:
        with pool.current().lease(backend) as trainer:
            traces.append(trainer.trace(level))
    for settings, label in asked.drawn:
        with pool.current().lease(backend) as trainer:
            drawn += trainer.drawn(settings, label)
    return Answer(traces=tuple(traces), drawn=tuple(drawn))


def hold(
    benchmark: Benchmark, backends: Sequence[Backend], asked: Asked, answers: Callable[[Backend, Asked], Answer]
) -> None:
    """Store and judge the findings; `answers` returns the answer of a backend, from wherever the backend trains.

    If a finding is beyond its bound, the gate asks anew, up to ATTEMPTS times in all; the last findings count.

    Raises:
        ParityError: if a backend does not compute what it should.
        FencedError: if the flow run was ended from outside.
    """
    from tasks.core.report import figures  # matplotlib takes long to import, and a dry run draws nothing

    for _ in range(parity.ATTEMPTS):
        findings = parity.findings(asked, _from_all(backends, asked, answers))
        if all(each.held for each in findings):
            break
        asked = asked.anew()
    table = pd.DataFrame([asdict(each) | {"share": each.share} for each in findings])
    fence.check()
    with TemporaryDirectory() as folder:
        table.to_csv(Path(folder, "parity.csv"), index=False)
        figures.parity(table).savefig(Path(folder, "parity.png"), dpi=150)
        recording.publish(benchmark, Path(folder), {}, {})
    parity.judge(findings)


def _from_all(
    backends: Sequence[Backend], asked: Asked, answers: Callable[[Backend, Asked], Answer]
) -> dict[Backend, Answer]:
    threads = ThreadPoolExecutor(len(backends))  # all at once, because each loads a framework first
    try:
        futures = {backend: threads.submit(copy_context().run, answers, backend, asked) for backend in backends}
        return {backend: future.result() for backend, future in futures.items()}
    finally:
        threads.shutdown(wait=False)  # after an interrupt, the threads still wait for trainers that are stopped later


def passed(gate: PrefectFuture[None], benchmark: Benchmark) -> None:
    """Wait for the gate. If it fails, mark the benchmark's cells as failed, so that no later benchmark uses them.

    A slot that a backend cannot use is no finding of the gate: the cells that should train there say so.

    Raises:
        ParityError: if a backend does not compute what it should.
    """
    try:
        with suppress(UnusableSlotError):
            gate.result()
    except ParityError as error:
        recording.revoke(benchmark, str(error))
        raise
