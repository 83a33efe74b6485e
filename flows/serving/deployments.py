"""Register what Prefect can run: the deployments of infra/prefect.yaml, their work pools, and automations.

A deployment is a flow that people can start from Prefect's page, or that a schedule starts. A worker takes flow runs
from a work pool. A deployment has a limited number of slots, and a flow run holds a slot until it ends.

The automations end flow runs that no process works on any more. Prefect does not notice when the machine of a flow run
dies, so the flow run would hold its deployment's slot for ever. Flow runs send heartbeats, and an automation acts when
the heartbeats stop. The automations watch only flow runs of deployments, which bear the tag TAG: `initbench run` starts
a benchmark without a deployment, so no automation waits for its heartbeats.
"""

import time
from collections.abc import Collection, Iterable
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
from prefect.client.schemas.objects import ConcurrencyLimitConfig, DeploymentStatus, FlowRun, StateType
from prefect.deployments.runner import DeploymentApplyError, RunnerDeployment
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.flows import Flow, load_flow_from_entrypoint
from prefect.schedules import Schedule
from prefect.settings import PREFECT_API_URL
from prefect.states import Cancelling, Crashed
from prefect.types.entrypoint import EntrypointType

from flows.serving import notices
from flows.serving.server import INFRA, ServerError
from tasks.core.design.initializers import BACKENDS, Backend
from tasks.remote import FLOW

HERE = ("benchmark", "nightly")  # the deployments that the worker of `initbench up` serves
POOL = "initbench"  # the work pool of the worker that `initbench up` runs
EDITED = ("audits", "on_change")  # parameters of the nightly that stay as somebody has set them in Prefect's page
TAG = "initbench"  # infra/prefect.yaml tags every deployment with it, and Prefect their flow runs
HEARTBEAT = "heartbeat"  # a running flow run sends this event every 30 s, as infra/prefect.yaml says
# states of a flow run that a worker has taken and not yet started
TAKEN = {"Pending", "Submitting", "InfrastructurePending"}
ENDED = {"Completed", "Failed", "Cancelled", "Crashed"}
SILENCE = timedelta(seconds=90)  # longer than a restart of the server, during which heartbeats are lost
CANCEL_SECONDS = 30  # after this time a worker of Prefect kills a flow run that it was told to cancel
POLL_SECONDS = 0.5
START = timedelta(minutes=20)  # longer than pulling an image may take in infra/containers/kubernetes-work-pool.json
PROCESSES = {
    "job_configuration": {"command": "setsid python -m prefect.engine", "env": "{{ env }}"},
    "variables": {
        "type": "object",
        "properties": {
            "env": {
                "title": "Environment Variables",
                "description": "Environment variables of the flow run's process.",
                "type": "object",
                "additionalProperties": {"type": "string"},
            }
        },
    },
}
"""The template of a work pool whose workers start a process for each flow run.

Without a command, Prefect imports itself twice: it looks for the code first, which takes as long again. `setsid` keeps
Ctrl-C on a worker from its flow run, for which the worker waits.
"""


class DeploymentError(RuntimeError):
    """The deployments could not be registered."""


def register(timezone: str, names: Collection[str] = ()) -> list[str]:
    """Register work pools, deployments and automations with the configured server; return the deployments' names.

    names: the deployments to register, with their pools; if empty, all. A deployment shows as Not Ready until its pool
    has had a worker. A second call changes nothing, except the timezone of the nightly.

    Raises:
        ValueError: if no server is configured, or the configured one does not answer; or flags have no web address.
        DeploymentError: if the server refuses.
    """
    url: str | None = PREFECT_API_URL.value()
    if url is None:
        raise ValueError("PREFECT_API_URL must be the address of a Prefect server, as `initbench up` prints it")
    chosen = [each for each in _listed(timezone) if not names or each["name"] in names]
    try:
        register_pools_and_automations({each["work_pool"]["name"] for each in chosen})
        for each in chosen:
            _deployment(each).apply()
    except httpx.TransportError:
        raise ServerError.unanswered(url) from None
    except (httpx.HTTPError, DeploymentApplyError) as error:
        raise DeploymentError(f"Prefect's server at {url} must take the deployments; it says: {error}") from None
    return [each["name"] for each in chosen]


def _deployment(listed: dict[str, Any]) -> RunnerDeployment:
    """Return a deployment as `prefect deploy` makes it, which starts another process and imports everything there.

    It keeps the parameters that somebody gave it in Prefect's page, such as the models that the nightly audits.
    """
    limit = listed.get("concurrency_limit")
    flow: Flow[..., Any] = load_flow_from_entrypoint(listed["entrypoint"], use_placeholder_flow=False)
    return RunnerDeployment.from_flow(
        flow,
        listed["name"],
        parameters=_parameters(f"{flow.name}/{listed['name']}"),
        description=listed["description"],
        tags=listed["tags"],
        schedules=[Schedule(**each) for each in listed.get("schedules", ())],
        concurrency_limit=ConcurrencyLimitConfig(**limit) if limit else None,
        work_pool_name=listed["work_pool"]["name"],
        job_variables=listed["work_pool"]["job_variables"],
        entrypoint_type=EntrypointType.MODULE_PATH,
    )


def _parameters(deployment: str) -> dict[str, Any]:
    """Return the parameters that a deployment has on the server; none if it is not there."""
    with get_client(sync_client=True) as client, suppress(ObjectNotFound):
        known = client.read_deployment_by_name(deployment).parameters
        return {name: value for name, value in known.items() if name in EDITED}
    return {}


def register_worker(backend: Backend, timezone: str) -> None:
    """Register the deployment that a worker of this backend serves, unless it is registered already.

    Raises:
        DeploymentError: if the server does not answer, or refuses.
    """
    with get_client(sync_client=True) as client:
        try:
            client.read_deployment_by_name(f"{FLOW}/{backend}")
        except ObjectNotFound:
            register(timezone, [backend])


def ready() -> bool:
    """Tell whether the worker of `initbench up` has asked for runs; until then its deployments show as Not Ready."""
    with get_client(sync_client=True) as client:
        found = [client.read_deployment_by_name(f"{name}/{name}") for name in HERE]
    return all(each.status == DeploymentStatus.READY for each in found)


def _listed(timezone: str) -> list[dict[str, Any]]:
    text = (INFRA / "prefect.yaml").read_text().replace("{{ $INITBENCH_TIMEZONE }}", timezone)
    listed: list[dict[str, Any]] = yaml.safe_load(text)["deployments"]
    return listed


def nightly_due(timezone: str) -> str:
    """Return when the nightly starts: the hour in infra/prefect.yaml, and the timezone.

    >>> nightly_due("Europe/Paris")
    '02:00 Europe/Paris'
    """
    (cron,) = (schedule["cron"] for each in _listed(timezone) for schedule in each.get("schedules", ()))
    minute, hour, *_ = cron.split()
    return f"{int(hour):02}:{int(minute):02} {timezone}"


def register_pools_and_automations(pools: Iterable[str] = (POOL, *BACKENDS)) -> None:
    """Register what infra/prefect.yaml cannot hold: work pools, and automations that end runs whose worker died."""
    with get_client(sync_client=True) as client:
        for pool in pools:
            with suppress(ObjectAlreadyExists):  # a pool that exists keeps its type
                client.create_work_pool(WorkPoolCreate(name=pool, type="process", base_job_template=PROCESSES))
        for automation in (*_automations(), *notices.automations()):
            found = client.read_automations_by_name(automation.name)
            if not found:
                client.create_automation(automation)
            elif found[0].model_dump(exclude={"id"}) != automation.model_dump():
                # only if it differs, because an update makes it forget the runs that it watches
                client.update_automation(found[0].id, automation)


def _automations() -> list[AutomationCore]:
    """Return the automations that end flow runs on which no process works any more."""
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
    """Return an automation that puts a flow run into `state`, with `name` as the message.

    The automation starts to wait when an event in `after` comes from the flow run. It acts if `within` passes and the
    flow run neither sends an event in `unless` nor ends. Without `within`, SILENCE is the time.
    """
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
        actions=[ChangeFlowRunState(state=state, message=name)],  # not forced: a run that has ended keeps its state
    )


def crash_orphans() -> None:
    """End flow runs that the worker of an earlier `initbench up` left behind.

    Otherwise they would hold their deployments' slots.
    """
    with get_client(sync_client=True) as client:
        client.update_work_pool(POOL, WorkPoolUpdate(is_paused=False))  # `cancel_runs` paused it
        for run in _begun(client):
            client.set_flow_run_state(run.id, Crashed(message="the worker that ran it is gone"), force=True)


def cancel_runs() -> None:
    """Cancel the flow runs of the worker of `initbench up`, and wait until they have ended."""
    deadline = time.monotonic() + CANCEL_SECONDS
    with suppress(httpx.HTTPError, ObjectNotFound), get_client(sync_client=True) as client:
        client.update_work_pool(POOL, WorkPoolUpdate(is_paused=True))  # the worker must start no other run
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
