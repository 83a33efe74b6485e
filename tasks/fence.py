"""A fence around the record: a flow run that Prefect has ended meanwhile records nothing more.

The process of a flow run can be frozen, for example with its machine, and go on later. Prefect has then ended the flow
run, because its heartbeats were missing, and another one may be at work in its place.
"""

import time
from contextlib import suppress

import httpx
from prefect import runtime
from prefect.client.orchestration import get_client

ASK_SECONDS = 30.0  # less than the time without a heartbeat after which Prefect ends a flow run

_asked = [0.0]  # when Prefect was last asked; the clock of `time.monotonic` goes on in a process that is frozen


class FencedError(RuntimeError):
    """The flow run was ended from outside, so that it must not record anything."""


def check() -> None:
    """Check that Prefect has not ended the current flow run; ask Prefect only if ASK_SECONDS have passed.

    Raises:
        FencedError: if the flow run has ended.
    """
    if runtime.flow_run.id is None or time.monotonic() - _asked[0] < ASK_SECONDS:
        return
    with suppress(httpx.HTTPError), get_client(sync_client=True) as client:  # the server may be restarting
        state = client.read_flow_run(runtime.flow_run.id).state
        if state and state.is_final():
            raise FencedError(f"this flow run was ended from outside and records nothing more: {state.message}")
        _asked[0] = time.monotonic()
