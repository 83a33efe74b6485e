"""Show the progress of a benchmark, in the terminal and in Prefect."""

import time
from collections.abc import Sequence
from typing import Any

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.futures import PrefectFuture, as_completed
from tqdm import tqdm

EVERY = 1.0  # seconds between two updates of the artifact, each a request


def followed(futures: Sequence[PrefectFuture[Any]], name: str) -> None:
    """Wait for all futures, and show meanwhile how many are done."""
    if not futures:
        return
    artifact: Any = create_progress_artifact(0.0, key="progress", description=f"{name}: 0 of {len(futures)} tasks done")
    told = time.monotonic()
    for done, _ in enumerate(tqdm(as_completed(list(futures)), name, len(futures), unit="task", mininterval=0.5), 1):
        if done == len(futures) or time.monotonic() - told > EVERY:
            told = time.monotonic()
            words = f"{name}: {done} of {len(futures)} tasks done"
            update_progress_artifact(artifact, progress=100 * done / len(futures), description=words)
