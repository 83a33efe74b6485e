"""The result of a benchmark, and the errors that carry it if something went wrong."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from tasks.core.report import tables
from tasks.core.report.answer import answer
from tasks.core.report.details import details
from tasks.core.report.wording import all_worded, worded
from tasks.core.statistics.findings import Findings
from tasks.tracking.store import Benchmark


@dataclass(frozen=True)
class BenchmarkResult:
    """The result of a benchmark.

    run_id: the benchmark's run in MLflow; link: the address at which MLflow's page shows the run; comparison: a row for
    each backend, combination of levels and initializer, best first within a combination; table: the comparison as text
    for a terminal; headline: the answer in plain words; details: everything behind the answer, in sentences; notes:
    remarks that the comparison needs; tuned: what each value of the tuned setting gives and which one is picked, a row
    for each backend, combination of levels, initializer and value, or an empty table.
    """

    run_id: str
    link: str
    comparison: pd.DataFrame
    table: str
    headline: tuple[str, ...]
    details: tuple[str, ...]
    notes: tuple[str, ...]
    tuned: pd.DataFrame

    @classmethod
    def of(cls, record: Benchmark, findings: Findings, more: Sequence[str] = ()) -> "BenchmarkResult":
        """Return the result of a benchmark that has been published; more: notes that the findings do not have."""
        notes = [*all_worded(findings.notes, findings.study), *more]
        table = worded(tables.as_text(findings.comparison, notes, "simple"), findings.study)
        words = tuple(answer(findings)), tuple(details(findings)), tuple(notes)
        return cls(record.run_id, record.link, findings.comparison, table, *words, findings.tuned)

    @property
    def failed(self) -> int:
        """How many cells could not be trained, those by which initializers pick included."""
        return int(self.comparison["failed"].sum() + (self.tuned["failed"].sum() if len(self.tuned) else 0))

    @property
    def cells(self) -> int:
        """How many cells there are, those by which initializers pick included."""
        own = self.comparison[["finished", "diverged", "failed"]].sum().sum()
        return int(own + (self.tuned["cells"].sum() if len(self.tuned) else 0))


class BenchmarkError(RuntimeError):
    """A benchmark failed, although it was published; `result` holds its result."""

    def __init__(self, words: str, result: BenchmarkResult) -> None:
        self.result = result
        super().__init__(words)


class FailedCellsError(BenchmarkError):
    """Some cells could not be trained."""

    def __init__(self, result: BenchmarkResult) -> None:
        files = "cells.csv and tuning.csv" if len(result.tuned) else "cells.csv"
        super().__init__(f"{result.failed} of {result.cells} cells failed; the reasons are in {files}", result)


class UncrownedError(BenchmarkError):
    """The champion of a backend could not be registered as a model."""

    def __init__(self, error: BaseException, result: BenchmarkResult) -> None:
        super().__init__(f"the champion could not be registered as a model: {error}", result)


class InvalidBenchmarkError(BenchmarkError):
    """A claim of the controls does not hold, so that nothing can be concluded from the benchmark."""

    def __init__(self, misbehaved: list[str], result: BenchmarkResult) -> None:
        words = f"the benchmark is invalid, because its controls misbehaved: {'; '.join(misbehaved)}"
        super().__init__(words, result)


def raise_faults(result: BenchmarkResult, misbehaved: list[str], crowns: Sequence[object]) -> None:
    """Raise an error for the worst fault of a benchmark, if it has one.

    misbehaved: the claims of the controls that do not hold; crowns: for each champion, the version or the error that
    registering it gave.

    Raises:
        InvalidBenchmarkError: if a control misbehaved.
        FailedCellsError: if a cell could not be trained.
        UncrownedError: if a champion could not be registered as a model.
    """
    if misbehaved:
        raise InvalidBenchmarkError(misbehaved, result)
    if result.failed:
        raise FailedCellsError(result)
    if faults := [crown for crown in crowns if isinstance(crown, BaseException)]:
        raise UncrownedError(faults[0], result)
