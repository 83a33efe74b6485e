"""What a night says of its studies: whether each can be held against the nights before, and what changed."""

from collections.abc import Sequence
from dataclasses import dataclass

from tasks.core.watch import changes
from tasks.core.watch.bits import Beside
from tasks.core.watch.paired import Tonight
from tasks.core.watch.watched import Flag, Verdict, Watched


@dataclass(frozen=True, eq=False)
class Held:
    """A study of a night, held against the nights before it.

    fault: why it has no result, in words. incomparable: what keeps it from being held against the last night.
    attributed: in what the environment differs from the last night, where they are comparable. tonight, bits: its cells
    beside those of comparable nights; none if there are none. If the study tunes, the cells by which its initializers
    pick come next. speed: the flags of its speed.
    """

    study: str
    link: str = ""
    fault: str = ""
    incomparable: tuple[str, ...] = ()
    attributed: tuple[str, ...] = ()
    tonight: tuple[Tonight, ...] = ()
    bits: tuple[Beside, ...] = ()
    speed: tuple[Flag, ...] = ()

    @property
    def deterministic(self) -> bool:
        """Whether the cells are equal in every bit, or something in the environment may have changed them."""
        return all(each.equal for each in self.bits) or bool(self.attributed)


def watched(held: Sequence[Held]) -> tuple[Watched, ...]:
    """Return what a night says of each study; held: all studies of the night, because they share the alpha."""
    found = iter(changes.flags([tonight for each in held for tonight in each.tonight]))
    return tuple(_watched(each, [flag for _ in each.tonight for flag in next(found)]) for each in held)


def _watched(held: Held, results: Sequence[Flag]) -> Watched:
    bits = () if held.deterministic else (flag for each in held.bits for flag in each.flags)
    flags = (*results, *bits, *held.speed)
    picks = (line for each in held.tonight for line in each.repicked)
    differing = (*([held.fault] if held.fault else []), *held.incomparable, *held.attributed, *picks)
    return Watched(held.study, _verdict(held, flags), flags, differing, held.link)


def _verdict(held: Held, flags: Sequence[Flag]) -> Verdict:
    if held.fault:
        return "failed"
    if not held.deterministic:
        return "not deterministic"
    if flags:
        return "changed"
    if held.incomparable:
        return "not comparable"
    return "quiet" if held.tonight else "first night"
