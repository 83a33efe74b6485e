"""The report: findings as a page that needs no other file and no network, and as text for GitHub and LaTeX."""

import base64
import gzip
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from importlib.resources.abc import Traversable
from typing import TYPE_CHECKING

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from tasks.core.audit.audit import Audit
from tasks.core.design.columns import RANKED
from tasks.core.report import networks, tables
from tasks.core.report.answer import answer
from tasks.core.report.details import details
from tasks.core.report.methods import methods
from tasks.core.report.tables import Table
from tasks.core.report.wording import worded
from tasks.core.statistics.findings import Findings

if TYPE_CHECKING:
    from tasks.core.report.drawing import Picture  # texts are made without matplotlib

SIGNS = {"×": r"$\times$", "†": r"$\dagger$", "−": r"$-$", "±": r"$\pm$"}


def markdown(findings: Findings, links: str, picture: str = "") -> str:
    """Return the findings in GitHub's Markdown: the answer first, then the tables, then all details.

    links: a line of links to the benchmark. picture: the address of a picture that is shown below the answer.
    """
    words = [
        f"## {findings.study.name}",
        "\n".join(f"- {line}" for line in answer(findings)),
        *([f"![Test accuracy and test loss by initializer]({picture})"] if picture else []),
        links,
        tables.as_text(findings.comparison, [], "github"),
        *(f"### {heading}\n\n{each.tabulated('github')}" for heading, each in _below(findings)),
        "### Details",
        "\n".join(f"- {line}" for line in [*details(findings), *findings.notes]),
    ]
    return worded("\n\n".join(words) + "\n", findings.study)


def latex(findings: Findings) -> str:
    r"""Return the tables for LaTeX, which only needs `\usepackage{booktabs}`; the words are comments."""
    told = [*answer(findings), *details(findings), *findings.notes]
    words = "\n".join(f"% {' '.join(line.split())}" for line in told)
    texts = [
        tables.as_text(findings.comparison, [], "latex_booktabs"),
        *(each.tabulated("latex_booktabs") for _, each in _below(findings)),
    ]
    return worded("\n".join([words, *map(_latin, texts)]) + "\n", findings.study)


def _below(findings: Findings) -> list[tuple[str, Table]]:
    """Return the tables below the comparison that have rows: of backends by the ranked measures, and of picks."""
    found = {"Backends": tables.backends(findings, RANKED), "Picks": tables.picks(findings)}
    return [(heading, table) for heading, table in found.items() if table.rows]


def _latin(text: str) -> str:
    """Return a text with LaTeX's commands in place of signs that a font may lack."""
    for sign, command in SIGNS.items():
        text = text.replace(sign, command)
    return text


def html(
    findings: Findings,
    pictures: Sequence["Picture"],
    environment: Mapping[str, object],
    audits: Mapping[str, Audit],
    link: str,
    cell_link: Callable[[str], str],
) -> str:
    """Return the page.

    environment: packages, processor and precision, as `methods.methods` takes them. audits: of networks of one's own,
    by the names of their files. link: the address of the benchmark. cell_link: returns the address of a cell's run,
    given the run's id.
    """
    page = rendered(
        heading=f"{findings.study.name}: which initializer?",
        answer=answer(findings),
        details=details(findings),
        invalid=bool(findings.misbehaved),
        notes=[*findings.notes, *networks.remarks(environment)],
        first=tables.groups(findings),
        others=_others(findings, environment, audits, link, cell_link),
        pictures=pictures,
        methods=methods(findings.study, environment),
        links={"MLflow": link},
    )
    return worded(page, findings.study)


def rendered(*, pictures: Sequence["Picture"], template: str = "report.html", **parts: object) -> str:
    """Return a page made of these parts, which are the names in the template."""
    bundle = resources.files("itables") / "html"
    return _template(template).render(
        **parts,
        pictures=[(each, Markup(each.embedded)) for each in pictures],  # noqa: S704  # drawn here
        style=_packed(bundle / "dt_bundle.css"),
        script=_packed(bundle / "dt_bundle.js"),
    )


def _template(name: str) -> Template:
    templates = Environment(
        loader=PackageLoader("tasks.core.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return templates.get_template(name)


def _others(
    findings: Findings,
    environment: Mapping[str, object],
    audits: Mapping[str, Audit],
    link: str,
    cell_link: Callable[[str], str],
) -> list[Table]:
    """Return the tables behind the first one, in their order, without those that have no rows."""
    makers = (
        *(tables.picks, tables.rates, tables.measures, tables.pairs),
        *(tables.backends, tables.defaults, tables.spread),
    )
    made = (make(findings) for make in makers)
    own = (networks.layers(environment), networks.audited(audits, link))
    found = [*made, *own, tables.cells(findings, cell_link)]
    return [each for each in found if each.rows]


def _packed(file: Traversable) -> str:
    """Return a file compressed by gzip, in base64, as the page unpacks it. That is a third of the file's size."""
    return base64.b64encode(gzip.compress(file.read_bytes(), mtime=0)).decode()
