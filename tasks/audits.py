"""Audit models that somebody built, and keep what is found in MLflow."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks import fence, machine
from tasks.core.audit.audit import Audit, judge
from tasks.core.audit.compare import compare
from tasks.core.audit.sample import Target
from tasks.core.design.own import Watched
from tasks.core.report import audit_page, audit_text, drawing
from tasks.tracking import audits, recording
from tasks.tracking.store import AUDITS, Benchmark, Recorded
from tasks.trainers.audits import looked
from tasks.trainers.process import slots

PAGE, CHANGES = "audit.html", "changes.txt"  # files of a nightly's audit, beside its snapshot


@dataclass(frozen=True)
class Again:
    """A nightly's audit of a model, and its run; before: the last night's run; changes: since then, in words."""

    found: Audit
    run: Recorded
    before: Recorded | None = None
    changes: str = ""


@task(cache_policy=NO_CACHE)
def publish(benchmark: Benchmark, found: Mapping[str, Audit]) -> None:
    """Store the audits of a benchmark's networks in its run, each as a snapshot and as a page of this name."""
    fence.check()
    with TemporaryDirectory() as folder:
        for name, audit in found.items():
            Path(folder, f"{name}.json").write_text(audit.to_json())
            Path(folder, f"{name}.html").write_text(_page(audit))
        recording.attach(benchmark, Path(folder), AUDITS)


def _page(audit: Audit) -> str:
    return audit_page.html(audit, drawing.of_audit(audit))


@task(task_run_name="audit {watched}", cache_policy=NO_CACHE)
def audit_again(watched: Watched, tags: Mapping[str, str]) -> Again:
    """Audit a model in a trainer, hold it against its last night, and keep it in a run with these tags.

    Raises:
        ValueError: if the code may not be imported, or the model cannot be built or read.
        FencedError: if the flow run was ended from outside.
    """
    target = Target(watched.build, watched.options, watched.shape or None, watched.load)
    found = judge(looked(target, slots([], machine.processors())), str(watched))
    before = audits.last_nightly(found.target)
    fence.check()
    if before is None:
        return Again(found, audits.keep(found, {PAGE: _page(found)}, tags))
    changes, whole = _since(before[1], found)
    run = audits.keep(found, {PAGE: _page(found), CHANGES: f"{whole}\n"}, tags)
    return Again(found, run, before[0], changes)


def _since(snapshot: str, found: Audit) -> tuple[str, str]:
    """Return what changed since a snapshot, in a line and in full."""
    try:
        compared = compare(Audit.from_json(snapshot, "last night's"), found)
    except ValueError as error:  # of another release: the audit is kept all the same
        return f"cannot be told: {error}", str(error)
    return audit_text.changes(compared), audit_text.side_by_side(compared, ("last night", "tonight"))
