"""What the page tells of networks of one's own: their layers with the fans, audits, and what no initializer decides."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tasks.core.audit.audit import Audit
from tasks.core.audit.findings import SEVERITIES
from tasks.core.report import audit_text
from tasks.core.report.tables import Entry, Table

FINDINGS = 20  # of an audit that the page shows; the audit's own page has all
PARTS = 2  # kernels of a layer that are told one by one; of more, the first and how many


def _networks(environment: Mapping[str, object]) -> Sequence[Mapping[str, Any]]:
    found: Any = environment.get("networks") or ()  # benchmarks of perceptrons have none
    return found if isinstance(found, Sequence) else ()


def layers(environment: Mapping[str, object]) -> Table:
    """Return the table of the layers of each network; environment: as `environment.json` has it."""
    rows = [row for network in _networks(environment) for row in _of_network(network)]
    columns = ["backend", "options", "layer", "name", "kind", "fans: in → out", "native variance"]
    caption = (
        "Layers in order of execution. Fans: how many inputs an output sums over, and to how many outputs an input "
        "goes; native variance: that of the framework's own functions, as a multiple of the law's with these fans"
    )
    return Table("layers", caption, columns, rows)


def _of_network(network: Mapping[str, Any]) -> Iterator[list[Entry]]:
    options = ", ".join(f"{name} {value}" for name, value in network["options"].items())
    for at, layer in enumerate(network["layers"], 1):
        factors = {
            label: found[layer["name"]] for label, found in network["native_factors"].items() if layer["name"] in found
        }
        told = ", ".join(f"×{factor:.2g} under {label}" for label, factor in factors.items())
        cells = [network["backend"], options, str(at), layer["name"], layer["kind"], _fans(layer["fans"]), told]
        yield [Entry(text, at if place == 2 else text) for place, text in enumerate(cells)]


def _fans(kernels: Sequence[Sequence[Any]]) -> str:
    """Return the fans of a layer's kernels, those that are equal once.

    >>> _fans([["gate.i", 8.0, 4.0], ["gate.f", 8.0, 4.0], ["state", 4.0, 4.0]])
    '8 → 4, 4 → 4'
    """
    found = dict.fromkeys(f"{fan_in:g} → {fan_out:g}" for _, fan_in, fan_out in kernels)
    return ", ".join(list(found)[:PARTS]) + (f" and {len(found) - PARTS} more" if len(found) > PARTS else "")


def audited(audits: Mapping[str, Audit], link: str) -> Table:
    """Return the table of what audits found, worst first; audits: by the names of their files in the run at a link."""
    rows = [row for name, audit in audits.items() for row in _found(audit, f"{link}/artifacts/audit/{name}.html")]
    told = " ".join(f"{audit.backend} {audit.target}: {audit_text.verdict(audit)}" for audit in audits.values())
    caption = f"Audit of each network as its author builds it; a finding stops no run, the worst come first. {told}"
    return Table("audit", caption, ["backend", "network", "severity", "finding", "where", "evidence", "remedy"], rows)


def _found(audit: Audit, page: str) -> Iterator[list[Entry]]:
    """Yield a row for each finding, or for as many as are shown, each with a link to the page that has all."""
    start = [Entry(audit.backend, audit.backend), Entry(audit.target, audit.target, page)]
    for each in audit.findings[:FINDINGS]:
        severity = Entry(each.severity, SEVERITIES.index(each.severity))
        words = (each.what, audit_text.named(each), each.evidence, each.remedy)
        yield [*start, severity, *(Entry(text, text) for text in words)]
    left = len(audit.findings) - FINDINGS
    if left > 0 or not audit.findings:
        words = (f"and {left} more" if left > 0 else "nothing found", "", "", "")
        yield [*start, Entry("", len(SEVERITIES)), *(Entry(text, text) for text in words)]


def remarks(environment: Mapping[str, object]) -> list[str]:
    """Return what no initializer decides in the networks: parameters as built, and values that are not those drawn."""
    said: dict[str, None] = {}
    for network in _networks(environment):
        backend = network["backend"]
        if network["left"]:
            names = ", ".join(network["left"])
            said[f"{backend}: these parameters belong to no layer of a known kind and stay as built: {names}."] = None
        said |= dict.fromkeys(f"{backend}: {note}." for note in network["notes"])
        for label, found in network["native_factors"].items():
            if found:
                worst = max(found, key=lambda name: abs(found[name] - 1))
                said[
                    f"{backend}: native {label} has ×{found[worst]:.2g} the variance of its law in {worst}"
                    f"{f', and differs in {len(found) - 1} more layers' if len(found) > 1 else ''}: the framework "
                    "takes other fans than the operation has. `weights: shared` draws with the operation's."
                ] = None
    return list(said)
