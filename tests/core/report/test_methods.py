import pytest

from tasks.core.report.methods import methods
from tests.shared import tuned
from tests.shared.reports import ENVIRONMENT, findings
from tests.shared.samples import noisy


@pytest.mark.parametrize("backends", [("pytorch",), ("pytorch", "keras")])
def test_methods_name_settings_margins_and_versions(backends):
    """The methods hold every setting, what is too small to matter, and what it ran on."""
    frame = noisy(backends=backends)
    text = methods(findings(frame, backends=backends, margins={"test_loss": 0.07}).study, ENVIRONMENT)
    assert "hidden 64-32" in text
    assert "learning_rate 0.01" in text
    assert "test loss, lower is better, margin 7 %;" in text
    assert "test accuracy, higher is better, margin 33 % of the fewest errors;" in text
    assert "torch 2.13; a processor, float32." in text
    assert ("Keras optimizer" in text) == (len(backends) == 2)


def test_methods_say_how_initializers_were_tuned():
    """The methods name values, measure, seeds and rows of tuning, or say that there is one recipe."""
    text = methods(tuned.STUDY, ENVIRONMENT)
    assert (
        "Initializers are compared each at its best learning rate: of 0.001, 0.01, 0.1 each has the one that gave the "
        "lowest mean validation loss over the seeds 1000000, 1000001, in each backend and level by itself; validation "
        "rows are held out of the train rows"
    ) in text
    assert "Initializers are compared at one recipe." in methods(findings().study, ENVIRONMENT)
