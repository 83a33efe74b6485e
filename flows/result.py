"""What a benchmark returns, and the errors that hold it where something went wrong."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from tasks.core.statistics.findings import Findings
from tasks.tracking.store import Benchmark


@dataclass(frozen=True)
class BenchmarkResult:
    """What a benchmark found.

    run_id and link: its run in MLflow, and where MLflow's page shows the run; comparison: a row per backend, level of
    the factors and initializer, best first within a level; headline: the findings in words; notes: what one has to know
    to read the comparison.
    """

    run_id: str
    link: str
    comparison: pd.DataFrame
    headline: tuple[str, ...]
    notes: tuple[str, ...]

    @classmethod
    def of(cls, record: Benchmark, findings: Findings) -> "BenchmarkResult":
        """Return what was found in a benchmark that has been published."""
        words = tuple(findings.headline), tuple(findings.notes)
        return cls(record.run_id, record.link, findings.comparison, *words)


class BenchmarkError(RuntimeError):
    """A benchmark was published, and yet it failed; `result` holds what was found."""

    def __init__(self, words: str, result: BenchmarkResult) -> None:
        self.result = result
        super().__init__(words)


class FailedCellsError(BenchmarkError):
    """Some cells could not be trained."""

    def __init__(self, result: BenchmarkResult) -> None:
        rows = result.comparison
        failed, cells = rows["failed"].sum(), rows[["finished", "diverged", "failed"]].sum().sum()
        super().__init__(f"{failed} of {cells} cells failed; the reasons are in cells.csv", result)


class UncrownedError(BenchmarkError):
    """A best cell could not be registered as a model."""

    def __init__(self, error: BaseException, result: BenchmarkResult) -> None:
        super().__init__(f"the best cell could not be registered as a model: {error}", result)


class InvalidBenchmarkError(BenchmarkError):
    """The controls did not behave, so that nothing can be concluded."""

    def __init__(self, misbehaved: list[str], result: BenchmarkResult) -> None:
        words = f"the benchmark is invalid, for its controls misbehaved: {'; '.join(misbehaved)}"
        super().__init__(words, result)


def raise_faults(result: BenchmarkResult, misbehaved: list[str], crowns: Sequence[object]) -> None:
    """Raise the gravest fault of a benchmark, if there is one.

    misbehaved: claims of the controls that do not hold; crowns: what registering the best cells returned or raised.

    Raises:
        InvalidBenchmarkError: if a control misbehaved.
        FailedCellsError: if a cell could not be trained.
        UncrownedError: if a best cell could not be registered as a model.
    """
    if misbehaved:
        raise InvalidBenchmarkError(misbehaved, result)
    if result.comparison["failed"].any():
        raise FailedCellsError(result)
    if faults := [crown for crown in crowns if isinstance(crown, BaseException)]:
        raise UncrownedError(faults[0], result)
