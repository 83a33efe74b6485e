"""The nightly: train every study anew and audit models, and compare each with the last nightly.

A night is one flow run of the nightly. If a night was due while the last one was still at work, it is Cancelled. If
several nights were due while no worker was there to run them, only the newest runs, and the others are Cancelled.
"""

import gc
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from prefect import State, get_run_logger, runtime, tags
from prefect.artifacts import Artifact, create_markdown_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
)
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.settings import PREFECT_UI_URL
from prefect.states import Cancelled, Completed
from prefect.types._datetime import now
from pydantic import AfterValidator
from tabulate import tabulate

from flows import form, studies
from flows.benchmark import benchmark
from flows.result import BenchmarkError, BenchmarkResult
from flows.serving.server import end_with_worker, served_flow
from tasks import comparison, fence, watch
from tasks.audits import PAGE, Again, audit_again
from tasks.cells import prefect_tags
from tasks.core.design.own import Watched, watched_once
from tasks.core.report import audit_text, watch_text
from tasks.core.watch import night as watching
from tasks.tracking import benchmarks, pruning
from tasks.tracking.store import NIGHTLY, Benchmark
from tasks.trainers import memory

ARTIFACT = "nightly"
KEEP = 30  # nights whose cells keep all files
ALONE = "nothing to hold against"  # of a study without a result, or with none in the last nightly
STUDIES = tuple(name for name in studies.names() if name != "controls")  # the others train the controls along


class FailedStudiesError(RuntimeError):
    """Some studies or audits of a night failed; the others were published."""


class ChangedError(RuntimeError):
    """Something changed since the nights before, and the night was told to fail then."""


@dataclass(frozen=True)
class Night:
    """One study of a night.

    state, fault: the state of its flow run, and what went wrong, in words; answer: whether the answer changes from the
    last nightly; tonight: its result; before: its benchmark in the last nightly.
    """

    name: str
    state: str
    fault: str
    answer: str
    tonight: BenchmarkResult | None = None
    before: Benchmark | None = None

    def row(self) -> dict[str, str]:
        """Return the study's row of the table."""
        return {
            "study": self.name,
            "outcome": f"{self.state}: {self.fault}" if self.fault else self.state,
            "tonight": f"[MLflow]({self.tonight.link})" if self.tonight else "none",
            "last night": f"[MLflow]({self.before.link})" if self.before else "none",
            "does the answer change?": self.answer,
        }


@dataclass(frozen=True)
class Audited:
    """One audit of a night. name: of the model; fault: why there is no audit, in words; again: what was found."""

    name: str
    fault: str = ""
    again: Again | None = None

    @property
    def told(self) -> watch.Audited:
        """What the watch takes from it."""
        again = self.again
        changes = again.changes if again and again.before else None
        return watch.Audited(self.name, self.fault, changes, again.run.link if again else "")

    def row(self) -> dict[str, str]:
        """Return the audit's row of the table."""
        again, before = self.again, self.again.before if self.again else None
        return {
            "audit": self.name,
            "outcome": f"Failed: {self.fault}" if self.fault else "Completed",
            "tonight": f"[MLflow]({again.run.link}) [Page]({again.run.link}/artifacts/{PAGE})" if again else "none",
            "last night": f"[MLflow]({before.link})" if before else "none",
            "verdict": audit_text.verdict(again.found) if again else "",
            "findings": audit_text.worst(again.found) if again else "",
            "what changed?": again.changes if again and before else ALONE,
        }


def _due() -> datetime:
    """Return when the flow run is due, in the timezone of the nightly."""
    due: datetime = runtime.flow_run.scheduled_start_time
    return due.astimezone(ZoneInfo(os.environ.get("INITBENCH_TIMEZONE", "UTC")))


def run_name() -> str:
    """Return the name of a flow run in Prefect: the date on which it is due there, and how much there is to do."""
    asked = runtime.flow_run.parameters
    more = f" · {len(asked['audits'])} audits" if asked["audits"] else ""
    return f"{_due():%Y-%m-%d} · {len(asked['studies'])} studies{more}"


@served_flow(name="nightly", flow_run_name=run_name)
def nightly(
    studies: tuple[form.StudyName, ...] = STUDIES,
    runner: Literal["local", "workers"] = "local",
    audits: Annotated[tuple[Watched, ...], AfterValidator(watched_once)] = (),
    as_night: bool = False,
    on_change: Literal["warn", "fail"] = "warn",
) -> State[None] | None:
    """Train each study anew in a flow run of its own, and publish a table that compares each with its last nightly.

    A night is what the schedule starts. It is kept, the watch tells what changed since the nights before, and later
    nights are held against it. It is Cancelled if it was due while the last night was still at work, or if a later
    night is due as well. A run that somebody starts by hand is a night only if `as_night` says so.

    Args:
        studies: The studies to train, of those that ship.
        runner: Where cells train: on this machine; or on workers elsewhere, which serve the pools pytorch and keras.
        audits: Models to audit on this machine. The table tells what changed since the last night.
        as_night: Whether this run is a night. The schedule says so of its own runs.
        on_change: The final state if the watch finds a change: warn completes, and fail fails.

    Raises:
        FailedStudiesError: if a study or an audit failed; the others are done and everything is published first.
        ChangedError: if something changed and `on_change` is `fail`; everything is published first.
        FencedError: if the night was ended from outside.
    """
    end_with_worker()
    if replaced := as_night and _replaced():
        return Cancelled(message=replaced)
    mark = {NIGHTLY: "yes"} if as_night else {}
    with tags(*mark, *runtime.flow_run.tags):  # Prefect does not give a flow's tags to its subflows
        nights = [_night(study, runner) for study in studies]
        audited = [_audited(model, mark) for model in audits]
        fence.check()
        _publish(nights, audited)
        watched = _watched(nights, audited) if as_night and (nights or audited) else None
    if failed := "; ".join(filter(None, (_failed("studies", nights), _failed("audits", audited)))):
        raise FailedStudiesError(failed)
    if watched is None:
        return None
    if on_change == "fail" and watched.changed:
        raise ChangedError(watch_text.headline(watched))
    return Completed(message=watch_text.headline(watched))


def _watched(rows: Sequence[Night], audited: Sequence[Audited]) -> watching.Night:
    """Hold the studies and audits of the night against the nights before, and delete the files of old cells."""
    asked = [watch.Asked(each.name, each.tonight.run_id if each.tonight else None, each.fault) for each in rows]
    audits = [each.told for each in audited]
    found = watch.watch(_due(), now("UTC"), asked, audits, prefect_tags())
    fence.check()
    try:
        pruning.prune(pruning.old(KEEP))
    except Exception as error:  # the night is on record, and the next one deletes them
        get_run_logger().warning("The files of old cells could not be deleted: %s", _line(error))
    return found


def _publish(nights: Sequence[Night], audited: Sequence[Audited]) -> None:
    """Publish a table of studies, and one of audits if there are any."""
    before: Any = Artifact.get(ARTIFACT)  # typed as awaitable, which it is only in asynchronous flows
    link = f"{PREFECT_UI_URL.value()}/artifacts/artifact/{before.id}" if before else None
    rows = ([night.row() for night in nights], [each.row() for each in audited])
    last = f"[The table of the night before]({link})" if link else "The first night."
    shown = "\n\n".join([*(tabulate(part, headers="keys", tablefmt="github") for part in rows if part), last])
    create_markdown_artifact(f"{shown}\n", key=ARTIFACT, description=_words(nights, audited))


def _replaced() -> str:
    """Return in words why another night takes the place of this one; empty if none does.

    Flow runs of the same deployment count if they are nights. A flow run without a deployment is never replaced.
    """
    due, deployment = runtime.flow_run.scheduled_start_time, runtime.deployment.id
    if deployment is None:
        return ""
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(
            deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment])),
            flow_run_filter=FlowRunFilter(expected_start_time=FlowRunFilterExpectedStartTime(before_=now("UTC"))),
            sort=FlowRunSort.EXPECTED_START_TIME_DESC,
        )
    for night in (run for run in runs if run.parameters.get("as_night")):
        if night.expected_start_time > due and night.state_type not in (StateType.CANCELLED, StateType.CRASHED):
            return f"It is the turn of a later night: {night.name}"
        worked = night.state_type in (StateType.COMPLETED, StateType.FAILED)
        if worked and night.expected_start_time < due < night.end_time:
            return f"The last night was still at work: {night.name}"
    return ""


def _night(study: str, runner: str) -> Night:
    fence.check()  # a night that was ended trains no other study
    try:
        night = _trained(study, runner)
    except Exception as error:  # of any kind: the other studies are still trained
        night = Night(study, "Failed", _line(error), ALONE)
    _give_back()
    get_run_logger().info("%s: %s %s", study, night.state, night.fault)
    return night


def _audited(model: Watched, mark: Mapping[str, str]) -> Audited:
    fence.check()
    try:
        night = Audited(str(model), again=audit_again(model, {**prefect_tags(), **mark}))
    except Exception as error:  # of any kind: the other models are still audited
        night = Audited(str(model), _line(error))
    _give_back()
    get_run_logger().info("audit %s: %s", night.name, night.fault or "Completed")
    return night


def _give_back() -> None:
    """Give the memory that a study or an audit has left back to the machine, because this process lasts all night."""
    gc.collect()  # drawn figures refer to themselves
    memory.give_back()


def _trained(study: str, runner: str) -> Night:
    before = benchmarks.last_nightly(study)
    # Each backend trains the cells of a level as one batch, so that the same cells are together every night. Each study
    # has trainers of its own, so that every one starts alike, and memory does not grow from study to study.
    advanced = {"runner": runner, "record": "group", "max_tasks": 1}
    state = benchmark(study, fresh=True, advanced=advanced, return_state=True)
    found = state.result(raise_on_failure=False)
    fault = "" if state.is_completed() else _line(state.message)
    tonight = found.result if isinstance(found, BenchmarkError) else found
    result = tonight if isinstance(tonight, BenchmarkResult) else None
    return Night(study, state.name, fault, _answer(before, result), result, before)


def _answer(before: Benchmark | None, tonight: BenchmarkResult | None) -> str:
    """Return whether the answer changes, with a link to the page of both runs, which is stored in tonight's run."""
    if not before or not tonight:
        return ALONE
    try:
        answer, page = comparison.publish_beside(before.run_id, tonight.run_id)
    except Exception as error:  # e.g. of another release: publish the table all the same
        return f"cannot be told: {_line(error)}"
    return f"{answer} [Both runs]({page})"


def _line(words: object) -> str:
    return " ".join(str(words).split())


def _words(nights: Sequence[Night], audited: Sequence[Audited]) -> str:
    more = f", {_completed(audited)} audits" if audited else ""
    return f"{_completed(nights)} studies{more} completed"


def _completed(part: Sequence[Night] | Sequence[Audited]) -> str:
    return f"{sum(not each.fault for each in part)} of {len(part)}"


def _failed(kind: str, part: Sequence[Night] | Sequence[Audited]) -> str:
    """Return how many studies or audits of a night failed, and which; empty if none did."""
    names = [each.name for each in part if each.fault]
    return f"{len(names)} of {len(part)} {kind} failed: {', '.join(names)}" if names else ""
