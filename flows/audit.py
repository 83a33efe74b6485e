"""Audits: whether every parameter of a model got the law that its author meant.

From Python:

    from flows.audit import assert_initialized, audit

    audit("mymodel:build", shape=(3, 32, 32)).findings
    assert_initialized(build, {"*.weight": "he_normal", "*.bias": "zeros"})  # in a test of yours

The model's code runs with the rights of whoever calls this, in a trainer's process.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tasks import documents, machine, user_code
from tasks.core.audit import audit as judging
from tasks.core.audit.audit import Audit
from tasks.core.audit.compare import Compared, compare
from tasks.core.audit.findings import SEVERITIES, Severity
from tasks.core.audit.sample import SEEDS, Target
from tasks.core.design.initializers import Backend
from tasks.core.report import audit_text
from tasks.trainers import process
from tasks.trainers.audits import looked

MOST_SEEDS = 100


def audit(
    build: str | Callable[..., Any],
    rules: Mapping[str, object] | None = None,
    *,
    backend: Backend | None = None,
    options: Mapping[str, Any] | None = None,
    shape: tuple[int, ...] | None = None,
    data: str | None = None,
    seeds: int = SEEDS,
) -> Audit:
    """Return the audit of the model that a function builds.

    build: the function, or its name: `module:function` or `path/to/file.py:function`. rules: initializers by patterns
    of names. backend: by default it is found out. options: arguments of the function by name. shape: that of a row for
    the first pass. data: the name of a function that returns x and y. seeds: under how many the model is built.

    Raises:
        ValueError: if there is no such function, it builds no model, or a rule matches nothing.
    """
    if not 1 <= seeds <= MOST_SEEDS:
        raise ValueError(f"seeds must be from 1 to {MOST_SEEDS}; got {seeds}")
    with user_code.restored():
        reference = located(build) if isinstance(build, str) else build
        target = Target(reference, dict(options or {}), shape, located(data) if data else None, seeds)
        numbers = {name: float(each) for name, each in target.options.items() if isinstance(each, int | float)}
        wanted = None if rules is None else judging.rules(dict(rules), numbers)
        slots = process.slots([], machine.processors())
        return judging.judge(looked(target, slots, backend), target.name, wanted)


def assert_initialized(
    build: str | Callable[..., Any],
    rules: Mapping[str, object] | None = None,
    *,
    fail_on: Severity = "fault",
    **how: Any,
) -> None:
    """Assert that a model has no finding of a severity or worse; rules and how: as of `audit`.

    Raises:
        AssertionError: if it has; the message is the findings.
    """
    found = audit(build, rules, **how)
    if found.fails(fail_on):
        bad = SEVERITIES[: SEVERITIES.index(fail_on) + 1]
        lines = [line for each in found.findings if each.severity in bad for line in audit_text.lined(each)]
        raise AssertionError("\n".join([f"{found.target} is not initialized as meant", *lines]))


def located(name: str) -> str:
    """Return the reference of a function, after its folder is allowed: of `path/to/file.py:function`, or of a module.

    A file of a package is a module of it, so that it may import its neighbours relatively.

    Raises:
        ValueError: if there is no such file.
    """
    path, colon, function = name.rpartition(":")
    if not (colon and path.endswith(".py")):
        user_code.allow(Path.cwd())
        return name
    file = Path(path)
    if not file.is_file() or not file.stem.isidentifier():
        raise ValueError(f"a target is module:function or path/to/file.py:function; there is no module {path}")
    root, names = file.resolve().parent, [file.stem] if file.stem != "__init__" else []
    while (root / "__init__.py").is_file() and root.name.isidentifier():
        root, names = root.parent, [root.name, *names]
    user_code.allow(root, Path.cwd())
    return f"{'.'.join(names)}:{function}"


def read(file: Path) -> Audit:
    """Return the audit in a snapshot.

    Raises:
        ValueError: if the file holds none of this schema.
    """
    return Audit.from_json(file.read_text(), str(file))


def page(found: Audit) -> str:
    """Return the page of an audit."""
    from tasks.core.report import audit_page, drawing  # matplotlib takes long to import

    return audit_page.html(found, drawing.of_audit(found))


def beside(first: str, second: str) -> Compared:
    """Return two snapshots side by side.

    Raises:
        ValueError: if one of them is none.
    """
    return compare(read(Path(first)), read(Path(second)))


def read_rules(file: Path) -> dict[str, object]:
    """Return the rules in a YAML file.

    Raises:
        ValueError: if it holds no mapping.
    """
    try:
        found = documents.read(file.read_text())
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None
    if not isinstance(found, dict):
        raise ValueError(f"{file} must map patterns of names to initializers; got {type(found).__name__}")  # noqa: TRY004  # input
    return found


def options(given: tuple[str, ...]) -> dict[str, Any]:
    """Return options as they are given on a command line, `name=value`, with values read as YAML.

    >>> options(("width=64", "pretrained=false"))
    {'width': 64, 'pretrained': False}
    """
    found = {}
    for each in given:
        name, sign, text = each.partition("=")
        if not sign or not name.isidentifier():
            raise ValueError(f"--option must be NAME=VALUE; got {each!r}")
        found[name] = documents.read(text)
    return found


def sides(given: str | None) -> tuple[int, ...] | None:
    """Return a shape as it is given on a command line.

    >>> sides("3,32,32")
    (3, 32, 32)
    """
    if given is None:
        return None
    try:
        found = tuple(int(side) for side in given.split(",") if side.strip())
    except ValueError:
        found = ()
    if not found or min(found) < 1:
        raise ValueError(f"--shape must be the sides of a row, like 3,32,32; got {given!r}")
    return found


def called(
    target: str,
    *,
    rules: Path | None,
    given: tuple[str, ...],
    shape: str | None,
    data: str | None,
    backend: Backend | None,
    seeds: int,
) -> Audit:
    """Return the audit that a command line asks for: of a function's model, or that in a snapshot."""
    if target.endswith(".json"):
        if rules or given or shape or data or backend:
            raise ValueError(f"a snapshot is shown as it is, without rules or options; name a function, not {target}")
        return read(Path(target))
    wanted = read_rules(rules) if rules else None
    return audit(target, wanted, backend=backend, options=options(given), shape=sides(shape), data=data, seeds=seeds)
