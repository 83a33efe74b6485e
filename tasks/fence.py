"""A fence around the record: a flow run that Prefect has ended meanwhile records nothing more.

The process of a flow run can be frozen, for example with its machine, and go on later. Prefect has then ended the flow
run, because its heartbeats were missing, and another one may be at work in its place.
"""

import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import TypeVar

import httpx
from prefect import runtime
from prefect.client.orchestration import get_client

ASK_SECONDS = 30.0  # less than the time without a heartbeat after which Prefect ends a flow run

T = TypeVar("T")

_asked: dict[str, float] = {}  # when Prefect was last asked about a flow run, by its id


class FencedError(RuntimeError):
    """The flow run was ended from outside, so that it must not record anything."""


def check() -> None:
    """Check that Prefect has not ended the current flow run; ask Prefect only if ASK_SECONDS have passed.

    Raises:
        FencedError: if the flow run has ended.
    """
    run, now = runtime.flow_run.id, time.clock_gettime(time.CLOCK_BOOTTIME)  # goes on while the machine is suspended
    if run is None or now - _asked.get(run, -ASK_SECONDS) < ASK_SECONDS:
        return
    with suppress(httpx.HTTPError), get_client(sync_client=True) as client:  # the server may be restarting
        state = client.read_flow_run(run).state
        if state and state.is_final():
            raise FencedError(f"this flow run was ended from outside and records nothing more: {state.message}")
        _asked[run] = now


def each(items: Iterable[T]) -> Iterator[T]:
    """Yield items that are recorded one by one, each after a check.

    Raises:
        FencedError: if the flow run has ended.
    """
    for item in items:
        check()
        yield item
