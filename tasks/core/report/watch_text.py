"""A night of the watch in words: its headline, each flag in a sentence, and the night in Markdown."""

import math
import re
from collections.abc import Iterable, Iterator, Sequence

from tabulate import tabulate

from tasks.core.design.columns import MEASURES_BY_NAME, TITLES
from tasks.core.report.details import FRAMEWORKS
from tasks.core.watch.night import Night
from tasks.core.watch.paired import ALL
from tasks.core.watch.watched import Direction, Flag, Level, Verdict, Watched

TOLD = 10  # flags of a study that are told one by one; the page's table has all
NAMED = 3  # studies that a sentence names
DIRECTIONS: tuple[Direction, ...] = ("worse", "changed", "better")
LEVELS: tuple[Level, ...] = ("results", "health", "checks", "audit", "speed", "bits")
"""In which order flags are told: by direction first, then by level."""
JUDGED: dict[Verdict, str] = {"failed": "failed", "not deterministic": "was not deterministic"}
JUDGED |= {"changed": "changed", "not comparable": "was not comparable"}
WENT = re.compile(r"(?:Environment, )?(?:packages\.)?(?P<what>.+): (?P<before>.+) before, (?P<after>.+) after")
AGAINST = {"baseline": "the baseline"}
POSTED: tuple[Verdict, ...] = ("failed", "not comparable")  # verdicts that are posted without a flag
PICKED = "Initializers that picked another value"
FAR = 2.0  # a ratio above this is told as a factor, and one below in per cent
MARKS = re.compile(r"[\\`*<|]")  # which Markdown would take for its own


def headline(night: Night, when: str = "Tonight") -> str:
    """Return a night in one line, as a colleague would tell it; when: as which night it is told.

    >>> flag = Flag("results", "pytorch · he_normal", "test_accuracy", "worse", "last night", "", -0.02, -0.03, -0.01)
    >>> iris = Watched("iris", "changed", (flag,), ("packages.torch: 2.12 before, 2.13 after",))
    >>> headline(Night("2026-11-30", (iris,))).split(" [")[0]
    "Tonight PyTorch's he_normal on iris lost 0.02 test accuracy"
    >>> headline(Night("2026-11-30", (iris,))).split("; ")[1]
    'torch went from 2.12 to 2.13.'
    """
    told = _lead(night, night.judged(night.verdict), when)
    others = [
        f"{_listed(each.study for each in night.judged(verdict))} {words}"
        for verdict, words in JUDGED.items()
        if verdict != night.verdict and night.judged(verdict)
    ]
    return f"{told}. {'; '.join(others)}." if others else f"{told}."


def _lead(night: Night, those: Sequence[Watched], when: str) -> str:
    """Return what is said of the studies that have the night's verdict."""
    names, flags = _listed(each.study for each in those), ranked(those)
    differing = list(dict.fromkeys(line for each in those for line in each.differing))
    first = _bare(sentence(*flags[0])) if flags else ""
    surroundings = _environment(differing)
    match night.verdict:
        case "failed":
            why = f" ({_bare(flags[0][0].words)})" if flags and len(those) == 1 else ""
            failed = f"{len(those)} of {_studies(len(night.watched))} failed: {names}{why}"
            return f"{when} {failed if those else 'no study was watched'}"
        case "not deterministic":
            where = f". {first}" if first else ""
            return f"{when} the same seeds did not give the same bits on {names}{where}; {surroundings}"
        case "changed":
            many = f", the first of {len(flags)} changes on {names}" if len(flags) > 1 else ""
            return f"{when} {first or f'{names} changed'}{many}; {surroundings}"
        case "not comparable":
            why = f"; {surroundings}" if differing else ""
            return f"{when} {names} cannot be held against the nights before{why}"
        case "first night":
            return f"There is no night yet to hold {names} against"
        case "quiet":
            although = f", although {surroundings}" if differing else ""
            return f"Nothing changed on {_studies(len(those))}{although}"


def judged(watched: Iterable[Watched], verdict: Verdict) -> str:
    """Return a verdict in words, with the direction of the changes.

    >>> judged([Watched("iris", "quiet")], "quiet")
    'quiet'
    """
    if verdict != "changed":
        return verdict
    found = {flag.direction for each in watched if each.verdict == verdict for flag in each.flags}
    if found >= {"better", "worse"}:
        return "changed for better and for worse"
    return f"changed for the {min(found)}" if found in ({"better"}, {"worse"}) else "changed"


def ranked(watched: Iterable[Watched]) -> list[tuple[Flag, str]]:
    """Return each flag with its study: first what became worse, then by level, the most certain first."""
    flags = [(flag, each.study) for each in watched for flag in each.flags]
    return sorted(
        flags,
        key=lambda told: (DIRECTIONS.index(told[0].direction), LEVELS.index(told[0].level), told[0].p or 0.0),
    )


def notices(night: Night) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Yield what to post of a night: a study, a sentence about it, and of a flag what else is known.

    Of a study the first TOLD flags are posted, and how many more there are; without flags, that it failed or that it is
    not comparable.
    """
    for watched in night.watched:
        flags = ranked([watched])
        for flag, study in flags[:TOLD]:
            more = {"level": flag.level, "direction": flag.direction, "evidence": evidence(flag)}
            yield study, sentence(flag, study), more
        if len(flags) > TOLD:
            yield watched.study, f"{watched.study}: {len(flags) - TOLD} more flags", {}
        if not flags and watched.verdict in POSTED:
            why = "; ".join(map(went, watched.differing))
            yield watched.study, f"{watched.study} {JUDGED[watched.verdict]}{f': {why}' if why else ''}", {}


def sentence(flag: Flag, study: str) -> str:
    """Return what a flag says, without its evidence if the change has a size.

    >>> sentence(Flag("speed", "keras", "train_seconds", "worse", "last night", "", 1.25, 1.2, 1.3), "iris")
    'Keras on iris had 25 % more train time [20 %, 30 %] against last night'
    >>> sentence(Flag("health", "", "", "changed", "last night", "no cell is dead any more."), "iris")
    'iris: no cell is dead any more.'
    """
    who = f"{_spoken(flag.group)} on {study}" if flag.group else study
    if not math.isfinite(flag.size):
        return f"{who}: {flag.words}"
    over = f", over {flag.nights} nights" if flag.nights > 1 else ""
    return f"{who} {_change(flag)} against {AGAINST.get(flag.against, flag.against)}{over}"


def evidence(flag: Flag) -> str:
    """Return the evidence of a flag beside its sentence."""
    words = _ended(flag.words[:1].upper() + flag.words[1:]) if flag.words and math.isfinite(flag.size) else ""
    chance = "" if flag.p is None else f"p = {flag.p:.2g}, adjusted."
    return f"{words} {chance}".strip()


def amount(flag: Flag) -> str:
    """Return the size of a change with its interval, signed; empty if nothing is measured.

    >>> amount(Flag("results", "", "test_accuracy", "worse", "last night", "", -0.02, -0.03, -0.01))
    '−0.02 [−0.03, −0.01]'
    """
    if not math.isfinite(flag.size):
        return ""
    if by_ratio(flag):
        ends = [f"{100 * (each - 1):+.3g} %" for each in (flag.size, flag.low, flag.high)]
    else:
        ends = [f"{each:+.3g}" for each in (flag.size, flag.low, flag.high)]
    middle, low, high = (each.replace("-", "−") for each in ends)
    return f"{middle} [{low}, {high}]" if math.isfinite(flag.low + flag.high) else middle


def by_ratio(flag: Flag) -> bool:
    """Tell whether the size of a change is a factor: that of a speed, or of a measure that is compared by ratio."""
    measure = MEASURES_BY_NAME.get(flag.measure)
    return flag.level == "speed" or (measure is not None and measure.scale == "ratio")


def title(measure: str) -> str:
    """Return the title of a measure; of one that is no cell's measure its name, without underscores.

    >>> title("test_loss"), title("start_up_seconds")
    ('test loss', 'start up seconds')
    """
    return TITLES.get(measure, measure.replace("_", " "))


def went(line: str) -> str:
    """Return a line in which the environment differs, as part of a sentence.

    >>> went("Environment, packages.torch: 2.12 before, 2.13 after"), went("another driver")
    ('torch went from 2.12 to 2.13', 'another driver')
    """
    found = WENT.fullmatch(line)
    return f"{found['what']} went from {found['before']} to {found['after']}" if found else line.rstrip(".")


def markdown(night: Night) -> str:
    """Return a night in GitHub's Markdown: the headline, a row per study, then the flags of each study."""
    rows = [[_shown(each), judged([each], each.verdict), len(each.flags) or ""] for each in night.watched]
    parts = [
        f"## {night.name}: {judged(night.watched, night.verdict)}",
        _plain(headline(night)),
        *([f"[The page of this night]({night.link})"] if night.link else []),
        str(tabulate(rows, ["study", "verdict", "flags"], "github")),
        *(part for each in night.watched for part in _told(each)),
    ]
    return "\n\n".join(parts) + "\n"


def _shown(watched: Watched) -> str:
    return f"[{_plain(watched.study)}]({watched.link})" if watched.link else _plain(watched.study)


def _told(watched: Watched) -> Iterator[str]:
    """Yield the parts of a study: its flags, and in what the environment differs."""
    if not watched.flags and not watched.differing and not watched.picked:
        return
    yield f"### {_plain(watched.study)}: {judged([watched], watched.verdict)}"
    flags = ranked([watched])
    lines = [
        f"- **{flag.direction}** ({flag.level}): {_plain(f'{_ended(sentence(flag, study))} {evidence(flag)}')}"
        for flag, study in flags[:TOLD]
    ]
    if len(flags) > TOLD:
        lines.append(f"- and {len(flags) - TOLD} more, which the page lists")
    if lines:
        yield "\n".join(lines)
    for title, those in (("What differs in the environment", watched.differing), (PICKED, watched.picked)):
        if those:
            yield f"{title}:\n\n" + "\n".join(f"- {_plain(went(line))}" for line in those)


def _change(flag: Flag) -> str:
    """Return a change as a verb with its object and interval."""
    of, more = title(flag.measure), "more" if flag.size > (1 if by_ratio(flag) else 0) else "less"
    if by_ratio(flag) and not 1 / FAR <= flag.size <= FAR:
        return f"had {flag.size:.3g} times the {of}{_between(flag.low, flag.high)}"
    if by_ratio(flag):
        size, *ends = (100 * (each - 1) for each in (flag.size, flag.low, flag.high))
        return f"had {abs(size):.3g} % {more} {of}{_between(*_unsigned(size, *ends), unit=' %')}"
    known = MEASURES_BY_NAME.get(flag.measure)
    verb = ("gained" if more == "more" else "lost") if known and known.higher_is_better else "had"
    told = f"{abs(flag.size):.3g}{f' {more}' if verb == 'had' else ''}"
    return f"{verb} {told} {of}{_between(*_unsigned(flag.size, flag.low, flag.high))}"


def _unsigned(size: float, low: float, high: float) -> tuple[float, float]:
    """Return the ends of an interval in the direction of a change, so that what was lost is positive."""
    return (low, high) if size >= 0 else (-high, -low)


def _between(low: float, high: float, unit: str = "") -> str:
    """Return an interval behind a space, or nothing if it is not known."""
    return f" [{low:.3g}{unit}, {high:.3g}{unit}]" if math.isfinite(low + high) else ""


def _spoken(group: str) -> str:
    """Return a group of cells in words.

    >>> _spoken("pytorch · he_normal"), _spoken("keras · depth 5 · zeros"), _spoken("keras · all initializers")
    ("PyTorch's he_normal", "Keras's zeros (depth 5)", 'all initializers in Keras')
    """
    backend, *rest = group.split(" · ")
    framework = FRAMEWORKS.get(backend)
    if framework is None:
        return group
    if not rest:
        return framework
    *levels, initializer = rest
    at = f" ({', '.join(levels)})" if levels else ""
    return f"{initializer} in {framework}{at}" if initializer == ALL else f"{framework}'s {initializer}{at}"


def _environment(differing: Sequence[str]) -> str:
    if not differing:
        return "nothing differs in the environment"
    first, *others = differing
    if len(others) == 1:
        return f"{went(first)}, and {went(others[0])}"
    return f"{went(first)}{f', and {len(others)} more lines of the environment differ' if others else ''}"


def _listed(names: Iterable[str]) -> str:
    """Return names as a sentence lists them.

    >>> _listed(["iris", "wine"]), _listed(["a", "b", "c", "d", "e"])
    ('iris and wine', 'a, b, c and 2 others')
    """
    found = list(names)
    if len(found) > NAMED + 1:
        return f"{', '.join(found[:NAMED])} and {len(found) - NAMED} others"
    *early, last = found or [""]
    return f"{', '.join(early)} and {last}" if early else last


def _studies(count: int) -> str:
    return f"{count} stud{'y' if count == 1 else 'ies'}"


def _bare(words: str) -> str:
    return words.rstrip(".")


def _ended(words: str) -> str:
    return words if words.endswith((".", "!", "?")) else f"{words}."


def _plain(words: str) -> str:
    """Return words on one line, in which Markdown finds no mark of its own."""
    return MARKS.sub(r"\\\g<0>", " ".join(words.split()))
