import os
import signal
import subprocess
import sys
import time
from datetime import timedelta

import pytest
from mlflow import MlflowClient
from prefect import flow, runtime
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL
from prefect.states import Crashed

from flows.serving import deployments
from tasks import fence
from tasks.tracking import store

pytestmark = pytest.mark.usefixtures("prefect_server")


@pytest.fixture(autouse=True)
def never_asked(monkeypatch):
    """Let Prefect not have been asked yet."""
    monkeypatch.setattr(fence, "_asked", {})


@pytest.mark.parametrize("ended", [True, False])
def test_a_run_that_was_ended_is_fenced(ended):
    """A flow run that was frozen, and that an automation ended meanwhile, records nothing more; another goes on."""
    found = []

    @flow
    def thawed() -> None:
        with get_client(sync_client=True) as client:
            if ended:
                client.set_flow_run_state(runtime.flow_run.id, Crashed(message="no heartbeat"), force=True)
        try:
            fence.check()
        except fence.FencedError as error:
            found.append(str(error))

    thawed(return_state=True)
    assert found == ["this flow run was ended from outside and records nothing more: no heartbeat"] * ended


def test_prefect_is_asked_now_and_then(monkeypatch):
    """Prefect is not asked for each of many cells, nor outside of a flow."""
    monkeypatch.setattr(fence, "get_client", lambda **_: pytest.fail("Prefect was asked"))
    fence.check()

    @flow
    def busy() -> None:
        fence._asked[runtime.flow_run.id] = time.clock_gettime(time.CLOCK_BOOTTIME)
        assert [*fence.each("ab")] == ["a", "b"]

    busy()


PROCESS = """
import sys, threading, time
from prefect import flow, runtime
from prefect.events import emit_event
from tasks import fence
from tasks.core.design import grid
from tasks.core.design.study import Study
from tasks.tracking import recording
from tests.shared.keys import HERE
from tests.shared.records import outcome

STUDY = Study(seeds=2)
BATCH = grid.batches(STUDY, HERE)[0]
fence.ASK_SECONDS = 0.5


def beat(run):  # for Prefect's own heart beats each 30 s, or slower
    tag = {"prefect.resource.id": "prefect.tag.initbench", "prefect.resource.role": "tag"}
    while True:
        emit_event("prefect.flow-run.heartbeat", {"prefect.resource.id": f"prefect.flow-run.{run}"}, related=[tag])
        time.sleep(1)


def trained():
    for cell in BATCH.cells:
        yield outcome(cell)
        print("recorded", runtime.flow_run.id, flush=True)
        sys.stdin.readline()


@flow
def frozen():
    threading.Thread(target=beat, args=[runtime.flow_run.id], daemon=True).start()
    with recording.benchmark(STUDY, {}, {}) as parent:
        recording.record(parent, BATCH, fence.each(trained()), {})


try:
    frozen()
except fence.FencedError as error:
    print(error, flush=True)
"""


@pytest.fixture
def quick_automation(monkeypatch):
    """Have Prefect end runs whose heart has not beaten for 10 s, the least that it allows."""
    monkeypatch.setattr(deployments, "SILENCE", timedelta(seconds=10))
    with get_client(sync_client=True) as client:
        made = client.create_automation(deployments._automations()[0])
        yield
        client.delete_automation(made)


def test_a_process_that_was_frozen(stored, quick_automation, eventually):
    """A process is frozen while it records a batch, Prefect ends its run, and when it goes on it records nothing."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PREFECT_API_URL": PREFECT_API_URL.value()}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "-c", PROCESS], env=environment, **pipes)
    try:
        word, run = process.stdout.readline().split()
        assert word == "recorded"
        process.stdin.write("\n")  # its heart beats, and so it goes on
        process.stdin.flush()
        assert process.stdout.readline() == f"recorded {run}\n"
        process.send_signal(signal.SIGSTOP)
        with get_client(sync_client=True) as client:
            eventually(lambda: client.read_flow_run(run).state.is_crashed(), 60)
        process.send_signal(signal.SIGCONT)
        said, _ = process.communicate("\n", timeout=60)
    finally:
        process.kill()
        process.communicate()
    assert said.splitlines()[-1].startswith("this flow run was ended from outside and records nothing more: ")
    client = MlflowClient(store.uri())
    cells = [*store.search(client, store.experiments(client), "tags.`initbench.cell` != ''")]
    assert cells == []  # cells of a batch are recorded together, and this one was under way
