import pytest

from tasks.core.design.nearest import choice


@pytest.mark.parametrize(
    ("given", "near"),
    [
        ("adamm", "adam"),
        ("ADAM", "adam"),
        ("leraning_rate", "learning_rate"),
        ("epoch", "epochs"),
        ("species", "Species"),
    ],
)
def test_a_near_name_is_offered(given, near):
    """A slip of the finger or of the case is answered with the name that was meant, and with all others."""
    names = ["adam", "learning_rate", "epochs", "Species"]
    assert choice(given, names) == f"did you mean {near!r}? Choose one of adam, learning_rate, epochs, Species"


@pytest.mark.parametrize("given", ["", "qqq", 3, None])
def test_no_far_name_is_offered(given):
    """What resembles no name is answered with the names alone."""
    assert choice(given, ["adam", "sgd"]) == "choose one of adam, sgd"
