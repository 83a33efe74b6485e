"""An audit: what is known of each part of a model, and the findings. It can be written as JSON and read again."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tasks.core.audit import findings, flow, laws
from tasks.core.audit.findings import SEVERITIES, Finding, Judged, Severity
from tasks.core.audit.flow import Flow
from tasks.core.audit.laws import Fit
from tasks.core.audit.sample import Part, Role, Seen
from tasks.core.design import expressions
from tasks.core.design.initializers import Backend, Identity, Initializer, Orthogonal, pieces, value
from tasks.core.design.rules import FANS, Rules, rule

HE = 2.0  # the scale of He's law: variance HE / fan_in


class Row(BaseModel):
    """What is known of a part.

    law: by which law it was drawn, in words; fits: every registered law that fits; default: whether the framework's
    default does. gain: SD · √fan_in, or that of an orthogonal kernel; of_he: the standard deviation over that of He's
    law. fans: of the operation; counted: as the framework counts them. asked: what the rules say. draws: how many
    of the seeds gave values of their own. digest: a hash of the values under the first seed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    layer: str
    kind: str
    role: Role
    shape: tuple[int, ...]
    dtype: str
    fans: tuple[float, float] | None
    counted: tuple[float, float] | None
    mean: float
    std: float
    kurtosis: float
    least: float | None
    most: float | None
    sampled: bool
    law: str
    fits: tuple[str, ...]
    default: bool
    gain: float | None
    of_he: float | None
    asked: str | None
    draws: int
    digest: str

    @property
    def size(self) -> int:
        """How many numbers the part has."""
        return math.prod(self.shape)


class Audit(BaseModel):
    """The result of an audit. rows: every part, in the order of the model; findings: worst first; flow: first pass."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    schema_name: Literal["initbench.audit"] = Field("initbench.audit", alias="schema")
    version: Literal[1] = 1  # another one's snapshots are refused
    target: str
    backend: Backend
    framework: str
    seeds: int
    rows: tuple[Row, ...]
    findings: tuple[Finding, ...]
    flow: Flow | None = None
    notes: tuple[str, ...] = ()

    @property
    def counts(self) -> dict[Severity, int]:
        """How many findings there are of each severity."""
        return {each: sum(finding.severity == each for finding in self.findings) for each in SEVERITIES}

    def fails(self, on: Severity = "fault") -> bool:
        """Tell whether there is a finding of a severity, or of a worse one."""
        return any(self.counts[each] for each in SEVERITIES[: SEVERITIES.index(on) + 1])

    def to_json(self) -> str:
        """Return the audit as JSON, whose keys are the fields of this class; `schema` and `version` say what it is."""
        return self.model_dump_json(by_alias=True, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str) -> Self:
        """Return the audit of a snapshot; where: its file, for errors.

        Raises:
            ValueError: if the text is no audit of this version of the schema.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "the file"
            rule = "must be a snapshot of `initbench audit --save`, of schema initbench.audit, version 1"
            raise ValueError(f"{where} {rule}; {place}: {first['msg']}") from None


def rules(given: object, values: Mapping[str, float]) -> Rules:
    """Return rules from a mapping of patterns to initializers. values: numbers that expressions may have.

    Raises:
        ValueError: if it is no such mapping, or an initializer or an expression is none.
    """
    if not isinstance(given, dict) or not all(isinstance(pattern, str) for pattern in given):
        raise ValueError(f"rules must map patterns of names to initializers; got {given!r}")
    labels = {}
    for pattern, each in given.items():
        found = rule(each)
        if not isinstance(found, str):
            raise ValueError(f"rules: {pattern!r} must have an initializer; got {each!r}")  # noqa: TRY004  # input
        for text in pieces(found)[1].values():
            if isinstance(value(text), str) and not text.isidentifier():
                expressions.check(text, [*FANS, *values])
        labels[pattern] = found
    return Rules(labels, values)


def asked(seen: Seen, wanted: Rules) -> dict[str, tuple[Initializer, ...]]:
    """Return what rules ask of each part, by its name, as `Judged` has it. A law with fans is asked of kernels alone.

    Raises:
        ValueError: if a pattern matches nothing, or an expression is no number.
    """
    wanted.check([part.names for part in seen.parts])
    found = {}
    for part in seen.parts:
        for pattern, label in wanted.labels.items():
            one = Rules({pattern: label}, wanted.values)
            if one.of(part.names) is not None and (entries := _entries(part, label, one)):
                found[part.name] = entries
                break
    return found


def _entries(part: Part, label: str, one: Rules) -> tuple[Initializer, ...]:
    """Return what the label of a rule asks of a part, nothing if the part lacks fans or a matrix that it needs."""
    fans = [each for each in (part.fans, part.unstrided) if each and part.role == "kernel"]
    texts = [text for text in pieces(label)[1].values() if isinstance(value(text), str)]
    if not fans and any(expressions.names(text) & {*FANS} for text in texts):
        return ()
    entries = tuple(dict.fromkeys(one.law(label, *each) for each in fans or [(math.nan, math.nan)]))
    law = entries[0].law
    if isinstance(law, Orthogonal | Identity):
        return entries if part.fans else ()
    return entries if fans or law.without_fans(1, 1) is law else ()


def judge(seen: Seen, target: str, wanted: Rules | None = None) -> Audit:
    """Return the audit of a model, from what was seen of it, and what was wanted.

    Raises:
        ValueError: if a rule fits nothing or cannot be held.
    """
    alpha = laws.level(len(seen.parts))
    fits = {part.name: laws.fit(part, seen.backend, alpha) for part in seen.parts}
    shown = flow.flow(seen.first)
    judged = Judged(seen, fits, alpha, asked(seen, wanted) if wanted else {}, shown.health if shown else "")
    every = [*flow.found(shown), *findings.found(judged)]
    return Audit(
        target=target,
        backend=seen.backend,
        framework=seen.version,
        seeds=seen.seeds,
        rows=tuple(_row(part, fits[part.name], judged.asked.get(part.name, ())) for part in seen.parts),
        findings=tuple(sorted(every, key=lambda finding: SEVERITIES.index(finding.severity))),
        flow=shown,
        notes=(*seen.notes, *([seen.first.note] if seen.first.note else [])),
    )


def _row(part: Part, fit: Fit, wanted: Sequence[Initializer]) -> Row:
    fan_in = part.fans[0] if part.fans and part.role == "kernel" else math.nan
    gain = part.std * math.sqrt(fan_in)
    if part.spread and fit.law.startswith("orthogonal"):
        gain = part.spread.largest
    return Row(
        name=part.name,
        layer=part.layer,
        kind=part.kind,
        role=part.role,
        shape=part.shape,
        dtype=part.dtype,
        fans=part.fans,
        counted=part.counted if part.fans else None,
        mean=part.mean,
        std=part.std,
        kurtosis=part.kurtosis,
        least=part.least if math.isfinite(part.least) else None,
        most=part.most if math.isfinite(part.most) else None,
        sampled=part.sampled,
        law=fit.law,
        fits=tuple(str(match) for match in fit.matches),
        default=fit.default,
        gain=gain if math.isfinite(gain) else None,
        of_he=part.std / math.sqrt(HE / fan_in) if fan_in > 0 else None,
        asked=wanted[0].name if wanted else None,
        draws=part.draws,
        digest=part.digests[0],
    )
