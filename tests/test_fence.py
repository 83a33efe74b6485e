import time

import pytest
from prefect import flow, runtime
from prefect.client.orchestration import get_client
from prefect.states import Crashed

from tasks import fence

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
