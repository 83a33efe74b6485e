"""The page of an audit, made of the parts of the report."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tasks.core.audit.audit import Audit, Row
from tasks.core.audit.findings import SEVERITIES, Finding, Severity
from tasks.core.audit.flow import LayerFlow
from tasks.core.report import audit_text, page
from tasks.core.report.details import FRAMEWORKS
from tasks.core.report.tables import LAST, Entry, Table

if TYPE_CHECKING:
    from tasks.core.report.drawing import Picture

WAYS = ("variance forward", "variance backward")
METHODS = (
    "{framework} {version} built the model under {seeds} seeds, and once more under the first. The values of each "
    "parameter over the seeds, at most 4,096 a seed, are held against every registered law, with the fans of the "
    "operation and with those of the array, by Kolmogorov and Smirnov's test and by a test of the second moment. A "
    "right law is called wrong in at most 1 in 1,000 models of 200 parameters. The first pass is that of the first "
    "seed's model."
)


def html(audit: Audit, pictures: Sequence["Picture"]) -> str:
    """Return the page of an audit."""
    tables = [*([findings(audit)] if audit.findings else []), parameters(audit), blocks(audit), layers(audit)]
    return page.rendered(
        heading=f"{audit.target}: did every parameter get the law that was meant?",
        answer=[audit_text.verdict(audit), *([audit_text.first_pass(audit.flow)] if audit.flow else [])],
        details=[
            f"{each.severity}: {each.what}: {', '.join(each.parts)}. {each.evidence}. {each.remedy}."
            for each in audit.findings
        ],
        invalid=audit.fails("fault"),
        notes=audit.notes,
        first=tables[0],
        others=[each for each in tables[1:] if each.rows],
        pictures=pictures,
        methods=METHODS.format(framework=FRAMEWORKS[audit.backend], version=audit.framework, seeds=audit.seeds),
        links={},
    )


def findings(audit: Audit) -> Table:
    """Return the table of findings, worst first."""
    columns = ["severity", "finding", "where", "evidence", "remedy"]
    return Table("findings", "Findings, worst first", columns, [_finding(each) for each in audit.findings])


def _finding(finding: Finding) -> list[Entry]:
    words = [finding.what, ", ".join(finding.parts), finding.evidence, finding.remedy]
    return [Entry(finding.severity, SEVERITIES.index(finding.severity)), *(Entry(each, each) for each in words)]


def parameters(audit: Audit) -> Table:
    """Return the table of parameters, in the model's order."""
    columns = [
        *("", "parameter", "layer", "shape", "type", "law", "SD", "SD/He", "gain", "mean", "kurtosis", "smallest"),
        *("largest", "fans", "fans of the array", "asked for"),
    ]
    worst = audit_text.severities(audit)
    rows = [_parameter(row, worst.get(row.name)) for row in audit.rows]
    return Table("parameters", "Parameters, in the model's order; each part of a fused one is a row", columns, rows)


def _parameter(row: Row, severity: Severity | None) -> list[Entry]:
    order = len(SEVERITIES) if severity is None else SEVERITIES.index(severity)
    return [
        Entry(severity or "", order),
        *(Entry(each, each) for each in (row.name, row.kind)),
        Entry(audit_text.shape(row), row.size),
        *(Entry(each, each) for each in (row.dtype, row.law)),
        *(_number(each) for each in (row.std, row.of_he, row.gain, row.mean, row.kurtosis, row.least, row.most)),
        *(Entry(_fans(each), each[0] if each else LAST) for each in (row.fans, row.counted)),
        Entry(row.asked or "", row.asked or ""),
    ]


def layers(audit: Audit) -> Table:
    """Return the table of layers in the first pass, in order of execution."""
    shown = audit.flow.layers if audit.flow else ()
    columns = ["layer", *WAYS, "dead units"]
    rows = [[*_way(each), _number(each.dead)] for each in shown]
    return Table("layers", "Layers in the first pass, in order of execution", columns, rows)


def blocks(audit: Audit) -> Table:
    """Return the table of what flows between repeated blocks in the first pass, in order of execution."""
    shown = audit.flow.blocks if audit.flow else ()
    caption = "What flows between repeated blocks in the first pass, in order of execution"
    return Table("blocks", caption, ["after block", *WAYS], [_way(each) for each in shown])


def _way(each: LayerFlow) -> list[Entry]:
    return [Entry(each.name, each.name), _number(each.forward), _number(each.backward)]


def _number(value: float | None) -> Entry:
    known = value is not None and math.isfinite(value)
    return Entry(f"{value:.4g}" if known else "", float(value) if known and value is not None else LAST)


def _fans(fans: tuple[float, float] | None) -> str:
    return f"{fans[0]:g}, {fans[1]:g}" if fans else ""
