"""Notices: an automation of Prefect's posts each flag of the night watch to a web address.

The message is what Slack's incoming webhooks take, `{"text": "..."}`, which Mattermost and others take as well. A
program of one's own that takes a POST can read it.
"""

import os
from typing import Any

from prefect.blocks.webhook import Webhook
from prefect.events.actions import CallWebhook
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification
from pydantic import SecretStr

from tasks.watch import EVENT

ADDRESS = "INITBENCH_WEBHOOK"  # variable with the address that flags are posted to; it may hold a secret
NAME = "initbench-flags"  # of the block that holds the address
MESSAGE = '{"text": {{ (event.payload.text ~ " " ~ event.payload.link) | tojson }}}'


def automations() -> list[AutomationCore]:
    """Return the automation that posts flags, if ADDRESS names an address; keep the address in a block.

    Raises:
        ValueError: if it is no web address.
    """
    address = os.environ.get(ADDRESS)
    if not address:
        return []
    if not address.startswith(("http://", "https://")):
        raise ValueError(
            f"{ADDRESS} must be a web address that takes messages, https://…; it may be secret, so it is not told"
        )
    return [
        AutomationCore(
            name="initbench: post the flags of the night watch",
            trigger=EventTrigger(
                expect={EVENT},
                match=ResourceSpecification({"prefect.resource.id": ["initbench.study.*"]}),
                posture=Posture.Reactive,
                threshold=1,
            ),
            actions=[CallWebhook(block_document_id=_block(address), payload=MESSAGE)],
        )
    ]


def _block(address: str) -> Any:
    """Keep an address in a block of Prefect's, which hides it; return the block's id."""
    block = Webhook(url=SecretStr(address), headers={"Content-Type": "application/json"})
    return block.save(NAME, overwrite=True)
