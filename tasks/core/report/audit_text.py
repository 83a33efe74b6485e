"""An audit in a terminal: what was seen, a table that fits 100 columns with the worst first, and the findings."""

import math
from collections import Counter
from collections.abc import Sequence
from textwrap import wrap

from tabulate import tabulate

from tasks.core.audit.audit import Audit, Row
from tasks.core.audit.compare import Compared
from tasks.core.audit.findings import SEVERITIES, Finding, Severity
from tasks.core.audit.flow import Flow, LayerFlow
from tasks.core.report.details import FRAMEWORKS

WIDE = 100
NAME, LAW = 28, 30  # letters of a parameter's name, and of its law; longer ones are cut
ROWS = 40  # of the table; JSON and the page have all
ALIKE = 5  # findings of one kind that are told one by one
NAMES = 6  # parts of a finding that are named
BRIEF = 3  # findings, or changes, that a line tells
UNCHANGED = "Nothing changed."
UNKNOWN = ("no known law", "mean ")  # how the laws begin of which only moments are told
HEADERS = ("", "parameter", "shape", "law", "SD", "SD/He")


def text(audit: Audit) -> str:
    """Return an audit as text."""
    parts = [heading(audit), table(audit)]
    if audit.findings:
        parts.append("\n".join(_told(audit)))
    if audit.notes:
        parts.append("\n".join(line for each in audit.notes for line in wrap(f"note: {each}", WIDE)))
    return "\n\n".join(parts)


def side_by_side(compared: Compared, names: tuple[str, str]) -> str:
    """Return what changed from one audit to another, as text; names: those of the two."""
    first, second = compared.first, compared.second
    lines = [
        f"{names[1]} against {names[0]}: {first.backend} {first.framework}, then {second.backend} {second.framework}; "
        f"{compared.matched} parameters matched, {compared.equal} of them equal in every bit",
        "Nothing changed." if compared.same else f"Changed: {len(compared.changes)}.",
    ]
    lines += [f"Only in {name}: {', '.join(only)}" for name, only in zip(names, compared.only, strict=True) if only]
    found = "\n".join(line for each in lines for line in wrap(each, WIDE))
    if not compared.changes:
        return found
    rows = [
        (shortened(each.name, NAME), each.what, shortened(each.before, 22), shortened(each.after, 22))
        for each in compared.changes[:ROWS]
    ]
    shown = str(tabulate(rows, ("parameter", "changed", "before", "after"), "simple", disable_numparse=True))
    left = len(compared.changes) - ROWS
    return f"{found}\n\n{shown}" + (f"\n… and {left} more" if left > 0 else "")


def heading(audit: Audit) -> str:
    """Return what was looked at, the verdict, and the first pass, in lines."""
    numbers = sum(row.size for row in audit.rows)
    lines = [
        f"{audit.target}: {FRAMEWORKS[audit.backend]} {audit.framework}, {audit.seeds} seeds, "
        f"{len(audit.rows)} parameters of {numbers:,} numbers",
        verdict(audit),
        *([first_pass(audit.flow)] if audit.flow else []),
    ]
    return "\n".join(line for each in lines for line in wrap(each, WIDE))


def verdict(audit: Audit) -> str:
    """Return the verdict in a sentence, with how many parameters no known law fits."""
    words = [f"{count} {name}{'s' * (count != 1)}" for name, count in audit.counts.items() if count]
    unknown = sum(row.law.startswith(UNKNOWN) for row in audit.rows)
    more = f"; {unknown} parameter{'s have' if unknown > 1 else ' has'} no known law" if unknown else ""
    return (f"Found {', '.join(words)}" if words else "Nothing found") + f"{more}."


def first_pass(flow: Flow) -> str:
    """Return what the first pass shows, in a sentence or two."""
    loss = "not finite" if flow.loss is None else f"{flow.loss:.4g}, {flow.ratio:.3g} times that of a guess"
    words = [f"First pass on {flow.inputs}: {flow.health}{f' at {flow.wrong_at}' if flow.wrong_at else ''}"]
    words.append(f"loss {loss}")
    if flow.largest_class_share is not None:
        words.append(f"{flow.largest_class_share:.0%} of the rows get the same class")
    slopes = {"forward": flow.forward_slope, "backward": flow.backward_slope}
    known = [f"× {math.exp(slope):.3g} {way}" for way, slope in slopes.items() if slope is not None]
    if known:
        words.append(f"variance a layer {', '.join(known)}")
    if len(flow.blocks) > 1:
        words.append(f"variance through {len(flow.blocks)} blocks {_ends(flow.blocks)}")
    return "; ".join(words) + "."


def _ends(blocks: Sequence[LayerFlow]) -> str:
    """Return the variances after the first and the last block, in words."""
    ends = [("forward", blocks[0].forward, blocks[-1].forward), ("backward", blocks[0].backward, blocks[-1].backward)]
    known = [f"{one:.3g} to {other:.3g} {way}" for way, one, other in ends if one is not None and other is not None]
    return ", ".join(known) or "not finite"


def table(audit: Audit) -> str:
    """Return the parameters, worst first, and within one severity in the model's order, kernels first."""
    worst = severities(audit)

    def order(row: Row) -> tuple[int, bool]:
        rank = SEVERITIES.index(worst[row.name]) if row.name in worst else len(SEVERITIES)
        return rank, row.role in ("bias", "other")

    rows = sorted(audit.rows, key=order)
    lines = [
        (worst.get(row.name, ""), shortened(row.name, NAME), shape(row), shortened(row.law, LAW), *numbers(row))
        for row in rows[:ROWS]
    ]
    shown = str(tabulate(lines, HEADERS, "simple", disable_numparse=True, colalign=(*["left"] * 4, "right", "right")))
    more = f"\n… and {len(rows) - ROWS} more, which --json and --html list" if len(rows) > ROWS else ""
    return "\n".join(line.rstrip() for line in shown.splitlines()) + more


def severities(audit: Audit) -> dict[str, Severity]:
    """Return the worst severity of what was found of each part, or of its layer, by the part's name."""
    found: dict[str, Severity] = {}
    for finding in reversed(audit.findings):  # worst last
        named = {*finding.parts}
        for row in audit.rows:
            if row.name in named or (row.layer in named and row.role == "kernel"):
                found[row.name] = finding.severity
    return found


def worst(audit: Audit) -> str:
    """Return the worst findings in a line, and how many more there are."""
    told = [f"{each.severity}: {each.what}: {named(each)}" for each in audit.findings]
    return _first(told)


def changes(compared: Compared) -> str:
    """Return what changed from one audit to another in a line; of many changes the first, and how many more."""
    told = [f"{each.name}: {each.what} {each.before}, now {each.after}" for each in compared.changes]
    gone, new = compared.only
    told += [f"{name}: gone" for name in gone] + [f"{name}: new" for name in new]
    return _first(told) or UNCHANGED


def _first(told: Sequence[str]) -> str:
    more = [f"and {len(told) - BRIEF} more"] if len(told) > BRIEF else []
    return "; ".join([*told[:BRIEF], *more])


def shortened(words: str, most: int) -> str:
    """Return words, cut in their middle if they are longer than so many letters.

    >>> shortened("features.0.conv.weight", 13)
    'featur…weight'
    """
    if len(words) <= most:
        return words
    half = (most - 1) // 2
    return f"{words[: most - 1 - half]}…{words[-half:]}"


def shape(row: Row) -> str:
    """Return the shape of a part."""
    return "×".join(map(str, row.shape)) or "1"


def numbers(row: Row) -> tuple[str, str]:
    """Return standard deviation, and that over He's, as text."""
    return (f"{row.std:.3g}" if row.std else ""), ("" if not row.of_he else f"{row.of_he:.2f}")


def _told(audit: Audit) -> list[str]:
    """Return the findings as lines; of many of one kind, the first few and how many more there are."""
    count: Counter[tuple[Severity, str]] = Counter((each.severity, each.what) for each in audit.findings)
    seen: Counter[tuple[Severity, str]] = Counter()
    lines = []
    for finding in audit.findings:
        key = finding.severity, finding.what
        seen[key] += 1
        if seen[key] <= ALIKE:
            lines += lined(finding)
        elif seen[key] == ALIKE + 1:
            lines.append(f"{finding.severity}: {finding.what}: {count[key] - ALIKE} more")
    return lines


def named(finding: Finding) -> str:
    """Return where a finding is: the names of its parts; of many the first, and how many more."""
    more = f" and {len(finding.parts) - NAMES} more" if len(finding.parts) > NAMES else ""
    return ", ".join(finding.parts[:NAMES]) + more


def lined(finding: Finding) -> list[str]:
    """Return a finding as lines: what and where, the evidence, the remedy."""
    names = named(finding)
    first = f"{finding.severity}: {finding.what}" + (f": {names}" if names else "")
    rest = [(finding.evidence, "   "), (f"→ {finding.remedy}", "   ")]
    found = wrap(first, WIDE, subsequent_indent="   ")
    for words, indent in rest:
        found += wrap(words, WIDE, initial_indent=indent, subsequent_indent=indent)
    return found
