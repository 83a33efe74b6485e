"""The nightly: every study of the night, trained anew and held against the night before."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from prefect import get_run_logger, runtime, tags
from prefect.artifacts import Artifact, create_markdown_artifact
from prefect.settings import PREFECT_UI_URL
from tabulate import tabulate

from flows import form
from flows.benchmark import benchmark, pool
from flows.server import served_flow
from tasks import comparison, tracking
from tasks.core.initializers import BACKENDS

ARTIFACT = TAG = "nightly"
STUDIES = ("iris", "frameworks", "datasets", "deep-relu", "edge-of-chaos", "isometry", "remedies", "saturation")


class FailedStudiesError(RuntimeError):
    """Some studies of a night failed; all others were published."""


@dataclass(frozen=True)
class Night:
    """What became of a study: its state and fault in words, its benchmark and the one of the night before."""

    study: str
    state: str
    fault: str
    tonight: tracking.Benchmark | None
    before: tracking.Benchmark | None

    def row(self) -> dict[str, str]:
        """Return what the table says of it."""
        return {
            "study": self.study,
            "outcome": f"{self.state}: {self.fault}" if self.fault else self.state,
            "tonight": f"[MLflow]({self.tonight.link})" if self.tonight else "none",
            "last night": f"[MLflow]({self.before.link})" if self.before else "none",
            "does the answer change?": self.answer,
        }

    @property
    def answer(self) -> str:
        if not self.tonight or not self.before:
            return "nothing to hold against"
        return comparison.side_by_side(self.before.run_id, self.tonight.run_id).answer


def run_name() -> str:
    """Return what the Prefect UI calls a flow run: its night, and how many studies it has."""
    return f"{runtime.flow_run.scheduled_start_time:%Y-%m-%d} · {len(runtime.flow_run.parameters['studies'])} studies"


@served_flow(name="nightly", flow_run_name=run_name)
def nightly(studies: tuple[form.StudyName, ...] = STUDIES) -> None:
    """Train each study anew in a flow run of its own, and publish a table that holds each against its last nightly.

    Args:
        studies: Which of the studies that ship.

    Raises:
        FailedStudiesError: if one failed; all are tried, and the table is published first.
    """
    with pool(BACKENDS), tags(TAG):  # frameworks load once a night
        nights = [_night(study) for study in studies]
    before: Any = Artifact.get(ARTIFACT)  # awaitable only in asynchronous flows
    link = f"{PREFECT_UI_URL.value()}/artifacts/artifact/{before.id}" if before else None
    rows = tabulate([night.row() for night in nights], headers="keys", tablefmt="github")
    last = f"[The table of the night before]({link})" if link else "The first night."
    create_markdown_artifact(f"{rows}\n\n{last}\n", key=ARTIFACT, description=_words(nights))
    failed = [night.study for night in nights if night.fault]
    if failed:
        raise FailedStudiesError(f"{len(failed)} of {len(nights)} studies failed: {', '.join(failed)}")


def _night(study: str) -> Night:
    before = tracking.last_nightly(study)
    state = benchmark(study, fresh=True, return_state=True)
    fault = "" if state.is_completed() else " ".join(str(state.message).split())
    after = tracking.last_nightly(study)
    tonight = after if after != before else None
    get_run_logger().info("%s: %s %s", study, state.name, fault)
    return Night(study, state.name, fault, tonight, before)


def _words(nights: Sequence[Night]) -> str:
    failed = sum(bool(night.fault) for night in nights)
    return f"{len(nights) - failed} of {len(nights)} studies completed"
