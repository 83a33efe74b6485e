"""Audits that a nightly makes again and again: each is a run of its model's experiment, `initbench/audit/<model>`."""

import time
from collections.abc import Mapping

from tasks.core.audit.audit import Audit
from tasks.tracking import benchmarks, recording, runs, store
from tasks.tracking.store import AUDITS, NIGHTLY, Recorded

SNAPSHOT = "audit.json"


def last_nightly(target: str) -> tuple[Recorded, str] | None:
    """Return the run of the newest audit of a model that a nightly made, and its snapshot; None if there is none.

    Raises:
        StoreError: if the model's experiment is deleted.
    """
    client = store.client(store.uri())
    experiment = store.active_experiment(client, f"{AUDITS}/{target}")
    ids = [experiment.experiment_id] if experiment else []
    for run in store.search(client, ids, f"tags.`{NIGHTLY}` = 'yes'"):
        recorded = Recorded(client.tracking_uri, run.info.experiment_id, run.info.run_id)
        return recorded, benchmarks.text(client, recorded.run_id, SNAPSHOT)
    return None


def keep(found: Audit, files: Mapping[str, str], tags: Mapping[str, str]) -> Recorded:
    """Record a nightly's audit, with its counts as metrics and with these texts as files; return its run.

    Raises:
        StoreError: if the model's experiment is deleted.
    """
    client, now = store.client(store.uri()), int(time.time() * 1000)
    experiment = recording.made_experiment(client, f"{AUDITS}/{found.target}")
    counts = {
        **{f"{name}s": float(count) for name, count in found.counts.items()},
        "parameters": float(len(found.rows)),
    }
    if found.flow and found.flow.loss is not None and found.flow.guess:
        counts["first_loss_over_guess"] = found.flow.ratio
    run = runs.Run(
        name=found.target,
        status="FINISHED",
        started=now,
        ended=now,
        tags=dict(tags),
        params={"backend": found.backend, "framework": found.framework, "seeds": str(found.seeds)},
        points=[(name, 0, value) for name, value in counts.items()],
        files={name: text.encode() for name, text in {SNAPSHOT: found.to_json(), **files}.items()},
    )
    (run_id,) = runs.written(client.tracking_uri, experiment, [run])
    return Recorded(client.tracking_uri, experiment, run_id)
