"""What a benchmark returns, and the errors that hold it where something went wrong."""

from dataclasses import dataclass

import pandas as pd


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
