"""What a night says of its studies: whether each can be held against the nights before, and what changed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from tasks.core.watch import changes
from tasks.core.watch.bits import Beside
from tasks.core.watch.paired import Tonight
from tasks.core.watch.watched import Flag, Verdict, Watched

PICKING = "while picking"  # in the name of a group of cells by which an initializer picks a setting


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
    return tuple(_watched(each, [next(found) for _ in each.tonight]) for each in held)


def _watched(held: Held, results: Sequence[Sequence[Flag]]) -> Watched:
    bits = [] if held.deterministic else [each.flags for each in held.bits]
    flags = (*_named(results), *_named(bits), *held.speed)
    differing = (*([held.fault] if held.fault else []), *held.incomparable, *held.attributed)
    picked = tuple(line for each in held.tonight for line in each.repicked)
    return Watched(held.study, _verdict(held, flags), flags, differing, held.link, picked)


def _named(parts: Sequence[Sequence[Flag]]) -> Iterator[Flag]:
    """Yield the flags of compared cells, then those of cells that pick, whose groups are told apart by their names."""
    for part, flags in enumerate(parts):
        for flag in flags:
            backend, *rest = flag.group.split(" · ")
            yield replace(flag, group=" · ".join([backend, PICKING, *rest])) if part else flag


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
