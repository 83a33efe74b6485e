"""A night of the watch: what it says of each study."""

from dataclasses import dataclass

from tasks.core.watch.watched import VERDICTS, Verdict, Watched


@dataclass(frozen=True)
class Night:
    """One night.

    name: the night's date. Names sort by time, and no two nights have the same one. watched: one entry per study.
    at: when the night ended, as RFC 3339 writes it: `2026-11-30T02:41:07+00:00`. link: the address of its page.
    """

    name: str
    watched: tuple[Watched, ...]
    at: str = ""
    link: str = ""

    @property
    def verdict(self) -> Verdict:
        """The worst verdict of its studies. A night without a study has failed, for it has watched nothing.

        >>> Night("2026-11-30", (Watched("iris", "quiet"), Watched("digits", "changed"))).verdict
        'changed'
        """
        return VERDICTS[min((VERDICTS.index(each.verdict) for each in self.watched), default=0)]

    def judged(self, verdict: Verdict) -> tuple[Watched, ...]:
        """Return the studies that have a verdict."""
        return tuple(each for each in self.watched if each.verdict == verdict)

    @property
    def changed(self) -> bool:
        """Whether something changed: neither a quiet night nor one that nothing can be held against."""
        return self.verdict in ("failed", "not deterministic", "changed")
