"""What the night watch says: of each study of a night a verdict, and a flag for each thing that changed."""

from dataclasses import dataclass
from typing import Literal

Level = Literal["bits", "results", "health", "checks", "audit", "speed"]
Direction = Literal["better", "worse", "changed"]
Verdict = Literal["quiet", "changed", "not deterministic", "not comparable", "failed", "first night"]
Against = Literal["last night", "recent nights", "baseline"]

# the worst first: the verdict of a night is the worst one of its studies
VERDICTS: tuple[Verdict, ...] = ("failed", "not deterministic", "changed", "not comparable", "first night", "quiet")


@dataclass(frozen=True)
class Flag:
    """One thing that changed.

    level: of what kind it is. group: the cells that it is about, in words, `pytorch · he_normal`; empty if it is about
    the whole study. measure: a measure's name, or empty. against: with what tonight was compared. size, low, high: the
    change with the ends of its interval, in the measure's unit (or a factor, for speed); NaN where nothing is measured.
    p: the adjusted p-value, or None where the change is certain. words: the evidence in a sentence. nights: over how
    many nights the change took place; 1 for a change from one night to the next.
    """

    level: Level
    group: str
    measure: str
    direction: Direction
    against: Against
    words: str
    size: float = float("nan")
    low: float = float("nan")
    high: float = float("nan")
    p: float | None = None
    nights: int = 1


@dataclass(frozen=True)
class Watched:
    """One study of a night: its verdict, its flags, and the lines in which the environment differs from before.

    picked: a line for each group that has picked another value of a tuned setting than last night.
    """

    study: str
    verdict: Verdict
    flags: tuple[Flag, ...] = ()
    differing: tuple[str, ...] = ()
    link: str = ""
    picked: tuple[str, ...] = ()
