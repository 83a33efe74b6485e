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
    beside those of comparable nights; None if there are none. speed: the flags of its speed.
    """

    study: str
    link: str = ""
    fault: str = ""
    incomparable: tuple[str, ...] = ()
    attributed: tuple[str, ...] = ()
    tonight: Tonight | None = None
    bits: Beside | None = None
    speed: tuple[Flag, ...] = ()

    @property
    def deterministic(self) -> bool:
        """Whether the cells are equal in every bit, or something in the environment may have changed them."""
        return self.bits is None or self.bits.equal or bool(self.attributed)


def watched(held: Sequence[Held]) -> tuple[Watched, ...]:
    """Return what a night says of each study; held: all studies of the night, because they share the alpha."""
    compared = [each.tonight for each in held if each.tonight]
    found = dict(zip(map(id, compared), changes.flags(compared), strict=True))
    return tuple(_watched(each, found.get(id(each.tonight), ())) for each in held)


def _watched(held: Held, results: tuple[Flag, ...]) -> Watched:
    bits = () if held.deterministic or held.bits is None else held.bits.flags
    flags = (*results, *bits, *held.speed)
    differing = (*([held.fault] if held.fault else []), *held.incomparable, *held.attributed)
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
    return "first night" if held.tonight is None else "quiet"
