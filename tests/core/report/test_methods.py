import pytest

from tasks.core.report.methods import methods
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
