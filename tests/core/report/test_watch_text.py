"""A night in words: the headline, each flag in a sentence, Markdown."""

import pytest

from tasks.core.report.watch_text import TOLD, amount, evidence, headline, markdown, ranked, sentence
from tasks.core.watch.night import Night
from tasks.core.watch.watched import VERDICTS, Flag, Watched
from tests.shared.nights import BITS, GROUPS, LESS, LOST, STUDIES, UPGRADE, changed, night


def test_headline_says_what_changed_by_how_much_and_after_what():
    """The headline names the group, the change with its interval, the reference, and what differs around it."""
    assert headline(night(9, changed("iris", LOST, differing=UPGRADE[:1]))) == (
        "Tonight PyTorch's he_normal on iris lost 0.02 test accuracy [0.01, 0.03] against last night; "
        "torch went from 2.12 to 2.13."
    )
    assert "; nothing differs in the environment." in headline(night(9, changed(differing=())))


def test_headline_begins_with_what_became_worse():
    """Of several changes the headline tells one that is for the worse, and says how many there are on which studies."""
    told = headline(night(9, changed("iris", LESS), changed("digits", LESS, LOST), studies=("iris", "wine", "digits")))
    assert told.startswith("Tonight PyTorch's he_normal on digits lost 0.02 test accuracy")
    assert "the first of 3 changes on iris and digits; " in told


@pytest.mark.parametrize(
    ("watched", "said"),
    [
        (Watched("iris", "quiet", (), UPGRADE[:1]), "Nothing changed on 2 studies, although torch went from 2.12"),
        (Watched("iris", "failed", (), ()), "Tonight 1 of 2 studies failed: iris."),
        (
            Watched("iris", "not deterministic", (BITS,)),
            "did not give the same bits on iris. PyTorch's he_normal on iris: the",
        ),
        (Watched("iris", "not comparable", (), ("Study, seeds: 10 before, 5 after",)), "seeds went from 10 to 5."),
        (Watched("iris", "first night"), "There is no night yet to hold iris against."),
    ],
)
def test_headline_of_each_verdict(watched, said):
    """Each verdict has its sentence, which names the studies, or how many there are."""
    assert said in headline(night(9, watched))


def test_headline_is_of_the_worst_verdict_and_names_the_others():
    """A night has its worst study's verdict; studies with other verdicts that are not quiet are named after it."""
    found = night(9, Watched("iris", "failed"), changed("digits"))
    assert found.verdict == "failed"
    assert headline(found) == "Tonight 1 of 2 studies failed: iris. digits changed."
    assert Night("2026-01-01", ()).verdict == "failed"
    assert headline(Night("2026-01-01", ())) == "Tonight no study was watched."


@pytest.mark.parametrize("verdict", VERDICTS)
def test_headline_is_one_line(verdict):
    """Whatever a night is like, its headline is one line that ends with one full stop."""
    told = headline(night(9, *(Watched(study, verdict, (BITS,)) for study in STUDIES)))
    assert "\n" not in told
    assert told.endswith(".")
    assert not told.endswith("..")


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        (
            Flag("results", "", "test_loss", "better", "baseline", "", 0.9, 0.85, 0.95),
            "had 10 % less test loss [5 %, 15 %] against the baseline",
        ),
        (
            Flag("results", "", "test_loss", "worse", "last night", "", 7.0, 5.0, 9.0),
            "had 7 times the test loss [5, 9]",
        ),
        (Flag("results", "", "test_accuracy", "better", "last night", "", 0.01), "gained 0.01 test accuracy against"),
        (
            Flag("results", "", "epochs_to_target", "worse", "last night", "", 2.0, 1.0, 3.0),
            "had 2 more epochs to target [1, 3]",
        ),
        (
            Flag("speed", "", "cells_a_second", "worse", "recent nights", "", 0.75, 0.7, 0.8, nights=3),
            "had 25 % less cells a second [20 %, 30 %] against recent nights, over 3 nights",
        ),
    ],
)
def test_sentence_tells_a_size_in_the_measure_s_own_way(flag, said):
    """Losses and speeds are told in per cent or as a factor, accuracies are lost or gained, others are more or less."""
    assert sentence(flag, "iris").startswith(f"iris {said}")


def test_evidence_is_told_once():
    """What a sentence has already said is not said again as evidence."""
    assert evidence(LOST) == f"{LOST.words} p = 0.0004, adjusted."
    assert BITS.words in sentence(BITS, "iris")
    assert evidence(BITS) == amount(BITS) == ""


def test_the_most_certain_flags_come_first():
    """Flags are told by direction, then by level, then by how certain they are."""
    doubtful = Flag("results", GROUPS[1], "test_loss", "worse", "last night", "", 1.2, 1.1, 1.3, 0.009)
    speed = Flag("speed", GROUPS[0], "train_seconds", "worse", "recent nights", "", 1.2, 1.1, 1.3, 1e-9)
    assert [flag for flag, _ in ranked([changed("iris", LESS, speed, doubtful, LOST)])] == [LOST, doubtful, speed, LESS]


def test_markdown_has_verdict_studies_flags_and_environment():
    """The Markdown begins with the verdict; below a table of studies are flags with evidence, and the environment."""
    text = markdown(night(9, changed()))
    parts = [
        "## 2025-12-10: changed for better and for worse",
        "lost 0.02 test accuracy",
        "(http://mlflow/#/2025-12-10/watch.html)",
    ]
    parts += [
        "| [iris](http://mlflow/#/iris)",
        "### iris: changed",
        "9 of 10 seeds lost accuracy",
        "- torch went from 2.12 to 2.13",
    ]
    places = [text.index(part) for part in parts]
    assert places == sorted(places)
    assert "### digits" not in text


def test_markdown_takes_no_word_for_markup():
    """A reason that looks like HTML, a table or emphasis is shown as it is, on one line."""
    flag = Flag("checks", "", "", "worse", "last night", "<b>a|b</b> *x*\n# c")
    text = markdown(night(9, changed("iris", flag)))
    assert r"\<b>a\|b\</b> \*x\* # c" in text


def test_markdown_of_many_flags_is_short():
    """Of many flags the first are told, and how many more there are."""
    text = markdown(night(9, changed("iris", *[LOST] * (TOLD + 5))))
    assert text.count("- **worse**") == TOLD
    assert "and 5 more" in text
