"""The page of two runs side by side, made of the parts of the report."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tasks.core.report import page, tables
from tasks.core.report.methods import methods
from tasks.core.statistics.side_by_side import SideBySide

if TYPE_CHECKING:
    from tasks.core.report.drawing import Picture


def html(beside: SideBySide, pictures: Sequence["Picture"], links: tuple[str, str]) -> str:
    """Return the page; links: the addresses of the first and of the second run."""
    names = dict.fromkeys(run.study.name for run in (beside.first, beside.second))
    return page.rendered(
        heading=f"{' and '.join(names)}: does the answer change?",
        answer=[beside.answer],
        details=beside.details,
        invalid=bool(beside.first.misbehaved or beside.second.misbehaved),
        notes=beside.second.notes,
        first=tables.runs(beside),
        others=[each for each in (tables.changed(beside), tables.differing_cells(beside)) if each.rows],
        pictures=pictures,
        methods=methods(beside.second.study, beside.second_environment),
        links=dict(zip(("MLflow: the first run", "MLflow: the second run"), links, strict=True)),
    )
