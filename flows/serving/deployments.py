"""What Prefect offers to run: the deployments of infra/prefect.yaml, their work pools, and who misses a dead worker."""

import os
import subprocess
import sys
import time
from contextlib import suppress
from datetime import timedelta
from typing import Any

import httpx
import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.settings import PREFECT_API_URL, get_current_settings
from prefect.states import Cancelling, Crashed

from flows.serving.server import INFRA
from tasks.core.design.initializers import BACKENDS

POOL = "initbench"  # of the process worker that `initbench up` runs
TAG = "initbench"  # infra/prefect.yaml gives it to every deployment, and Prefect to their flow runs
HEARTBEAT = "heartbeat"  # the event of a flow run that lives; infra/prefect.yaml has one sent every 30 s
# the states between a worker's taking a flow run and its start
TAKEN = {"Pending", "Submitting", "InfrastructurePending"}
ENDED = {"Completed", "Failed", "Cancelled", "Crashed"}
SILENCE = timedelta(seconds=90)  # longer than a restart of the server, at which heartbeats are lost
CANCEL_SECONDS = 30  # Prefect's own limit, after which a worker kills what it was asked to cancel
POLL_SECONDS = 0.5
START = timedelta(minutes=20)  # longer than the template in infra/containers lets a pod pull its image


class DeploymentError(RuntimeError):
    """The deployments could not be registered."""


def register(timezone: str) -> list[str]:
    """Register pools, deployments and automations on the configured server; return the names of the deployments.

    Again changes nothing.

    Raises:
        ValueError: if no server is configured.
        DeploymentError: if it does not answer, or refuses.
    """
    url: str | None = PREFECT_API_URL.value()
    if url is None:
        raise ValueError("PREFECT_API_URL must be the address of a Prefect server, as `initbench up` prints it")
    try:
        register_pools_and_automations()
    except httpx.HTTPError as error:
        raise DeploymentError(f"Prefect's server at {url} must take the work pools; it says: {error}") from None
    file = INFRA / "prefect.yaml"
    arguments = ["deploy", "--all", "--prefect-file", str(file)]
    settings = get_current_settings().to_environment_variables(exclude_unset=True)
    done = subprocess.run(
        [sys.executable, "-m", "prefect", "--no-prompt", *arguments],
        env={**os.environ, **settings, "INITBENCH_TIMEZONE": timezone},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise DeploymentError(f"prefect {' '.join(arguments)} failed: {done.stdout[-1000:]}{done.stderr[-1000:]}")
    return [deployment["name"] for deployment in _deployments()]


def _deployments() -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = yaml.safe_load((INFRA / "prefect.yaml").read_text())["deployments"]
    return listed


def nightly_due(timezone: str) -> str:
    """Return when the nightly is due: the hour that infra/prefect.yaml schedules, and the timezone.

    >>> nightly_due("Europe/Paris")
    '02:00 Europe/Paris'
    """
    (cron,) = (schedule["cron"] for each in _deployments() for schedule in each.get("schedules", ()))
    minute, hour, *_ = cron.split()
    return f"{int(hour):02}:{int(minute):02} {timezone}"


def register_pools_and_automations() -> None:
    """Register what infra/prefect.yaml cannot hold: the work pools, and the automations that end runs whose worker died."""
    with get_client(sync_client=True) as client:
        for pool in (POOL, *BACKENDS):
            with suppress(ObjectAlreadyExists):  # of whatever type its owner has made it
                client.create_work_pool(WorkPoolCreate(name=pool, type="process"))
        for automation in _automations():
            found = client.read_automations_by_name(automation.name)
            if not found:
                client.create_automation(automation)
            elif found[0].model_dump(exclude={"id"}) != automation.model_dump():
                # only then, for it forgets which runs it waits for
                client.update_automation(found[0].id, automation)


def _automations() -> list[AutomationCore]:
    """Return what ends flow runs that nobody is at work on any more.

    Prefect itself never misses a flow run whose machine is gone, which would hold its deployment's slot for ever. A
    benchmark that was started by `initbench run` has no deployment, so that nobody waits for its heartbeats.
    """
    return [
        _ending(
            StateType.CRASHED, "the process or machine of a run died: no heartbeat", {"Running", HEARTBEAT}, {HEARTBEAT}
        ),
        _ending(StateType.CRASHED, "a worker took a run and never started it", TAKEN, {"Running"}, START),
        _ending(StateType.CANCELLED, "no worker was there to cancel a run", {"Cancelling"}, set()),
    ]


def _ending(
    state: StateType, name: str, after: set[str], unless: set[str], within: timedelta | None = None
) -> AutomationCore:
    """Return what puts a flow run into a state that, after an event, has none of others, and no end, for so long."""
    expected = unless | ENDED
    return AutomationCore(
        name=f"initbench: {name}",
        trigger=EventTrigger(
            after={f"prefect.flow-run.{event}" for event in after},
            expect={f"prefect.flow-run.{event}" for event in expected},
            match=ResourceSpecification({"prefect.resource.id": ["prefect.flow-run.*"]}),
            match_related=ResourceSpecification({"prefect.resource.id": [f"prefect.tag.{TAG}"]}),
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=within or SILENCE,
        ),
        actions=[ChangeFlowRunState(state=state, message=name)],  # unforced: a run that has ended meanwhile stays so
    )


def crash_orphans() -> None:
    """End flow runs that an earlier worker of `initbench up` left behind, which would hold their deployments' slots."""
    with get_client(sync_client=True) as client:
        client.update_work_pool(POOL, WorkPoolUpdate(is_paused=False))  # as `cancel_runs` has left it
        for run in _begun(client):
            client.set_flow_run_state(run.id, Crashed(message="the worker that ran it is gone"), force=True)


def cancel_runs() -> None:
    """Cancel what the worker of `initbench up` is at, and wait until it has ended."""
    deadline = time.monotonic() + CANCEL_SECONDS
    with suppress(httpx.HTTPError, ObjectNotFound), get_client(sync_client=True) as client:
        client.update_work_pool(POOL, WorkPoolUpdate(is_paused=True))  # else the worker begins what waits for its turn
        for run in _begun(client):
            client.set_flow_run_state(run.id, Cancelling())
        while _begun(client) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)


def _begun(client: SyncPrefectClient) -> list[FlowRun]:
    types = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]
    return client.read_flow_runs(
        flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=types))),
        work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=[POOL])),
    )
