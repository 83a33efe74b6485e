import numpy as np
import pytest

from tasks.core.report import figures
from tasks.core.report.styles import styles
from tests.shared.samples import history, layers
from tests.shared.tuned import STUDY, tuned_findings

FACTORS = ["depth"]
LOOKS = styles(["he_normal", "zeros"])


def lines(axes, style):
    return [line for line in axes.get_lines() if line.get_linestyle() == style]


def test_variances_are_medians_beside_theory():
    """A solid line is the median over seeds, the gradient a multiple of the last hidden layer's; dots are theory."""
    forward, backward = figures.variances(layers(), [], LOOKS).axes
    assert lines(forward, "-")[0].get_ydata().tolist() == [1.0, 0.5, 0.25]
    assert lines(forward, ":")[0].get_ydata().tolist() == [0.5, 0.25, 0.125]
    assert lines(backward, "-")[0].get_ydata().tolist() == [0.5, 1.0]
    assert lines(backward, ":")[0].get_ydata()[:2].tolist() == [0.5, 1.0]


def test_levels_are_panels():
    """Each level of a factor has its panels, titled with it."""
    titles = {axes.get_title() for axes in figures.variances(layers((2, 5, 9)), FACTORS, LOOKS).axes}
    assert {"depth 2", "depth 5", "depth 9"} <= titles
    titles = {axes.get_title() for axes in figures.curves(history((2, 5)), FACTORS, LOOKS).axes}
    assert {"depth 2", "depth 5"} <= titles


def test_curves_are_means_over_seeds():
    """A curve is the mean over seeds, from before training to the last epoch."""
    loss, accuracy = figures.curves(history(), [], LOOKS).axes
    assert lines(loss, "-")[0].get_ydata() == pytest.approx([1 / (1 + epoch) + 0.1 for epoch in range(4)])
    assert lines(accuracy, "--")[0].get_ydata() == pytest.approx([0, 0.2, 0.4, 0.6])


def test_gradients_are_layers_by_epochs():
    """The map has a row a layer and a column an epoch, in powers of ten; a network of one layer has one row."""
    figure = figures.gradients(history((1, 2)), FACTORS)
    shapes = [axes.get_images()[0].get_array().shape for axes in figure.axes if axes.get_images()]
    assert sorted(shapes) == [(1, 3)] * 4 + [(2, 3)] * 4
    last = [axes for axes in figure.axes if axes.get_images()][-1].get_images()[0].get_array()
    np.testing.assert_allclose(last[:, 0], [0, np.log10(2)])


@pytest.mark.parametrize(("norm", "word"), [(0.0, "zero"), (np.nan, "not finite")])
def test_gradients_that_cannot_be_drawn_are_said(norm, word):
    """Gradients that are all zero or not finite have a word in place of colours."""
    figure = figures.gradients(history(norm=norm), [])
    assert {text.get_text() for axes in figure.axes for text in axes.texts} == {word}
    figure.canvas.draw()


def test_too_many_panels_are_counted():
    """A picture has a bounded number of panels, and says how many it leaves out."""
    figure = figures.gradients(history(range(1, 15)), FACTORS)
    assert figure.get_supxlabel() == f"epoch (and {4 * 14 - figures.PANELS} panels more)"


def test_diverged_cells_are_left_out_of_curves_and_counted():
    """One seed that diverges does not cut the curve of the others short, and the picture says that it is missing."""
    frame = history()
    spoilt = (frame["seed"] == 1) & (frame["initializer"] == "he_normal")
    frame.loc[spoilt, "status"] = "diverged"
    frame.loc[spoilt & (frame["epoch"] > 1), "train_loss"] = np.inf
    figure = figures.curves(frame, [], LOOKS)
    assert len(lines(figure.axes[0], "-")[0].get_ydata()) == 4
    assert figure.get_supxlabel() == "without 2 cells that diverged"
    figure.canvas.draw()


def test_cells_that_vanish_are_no_survivors():
    """Where most seeds have no finite variance there is no median, rather than that of the others."""
    frame = layers()
    frame.loc[frame["seed"] > 0, "pre_activation_variance"] = np.nan
    forward, _ = figures.variances(frame, [], LOOKS).axes
    assert np.isnan(lines(forward, "-")[0].get_ydata()).all()


@pytest.mark.parametrize("reach", [2, 1e2, 1e6, 1e12])
def test_logarithmic_axes_are_labelled(reach):
    """Whatever an axis spans, it has a few labels."""
    frame = history()
    frame["train_loss"] = reach ** (-frame["epoch"] / 3)
    figure = figures.curves(frame, [], LOOKS)
    figure.canvas.draw()
    low, high = figure.axes[0].get_ylim()
    labels = [
        label
        for label in figure.axes[0].get_yticklabels(which="both")
        if label.get_text() and low <= label.get_position()[1] <= high
    ]
    assert 2 <= len(labels) <= 14


def test_nothing_above_zero_is_drawn():
    """Networks of zeros have variances of zero alone, which no logarithm can show; they are drawn all the same."""
    nothing = {"pre_activation_variance": 0.0, "theory_forward": 0.0, "theory_backward": 0.0}
    figures.variances(layers().assign(gradient_variance=np.nan, **nothing), [], LOOKS).canvas.draw()
    figures.curves(history().assign(train_loss=0.0), [], LOOKS).canvas.draw()


def test_one_seed_has_no_band():
    """Pictures of a single seed are drawn, without an interval."""
    figures.curves(history().query("seed == 0"), [], LOOKS).canvas.draw()
    figures.variances(layers().query("seed == 0"), [], LOOKS).canvas.draw()


def test_picks_are_ringed():
    """Each initializer has a line of its scores by value, and a ring at the value with the lowest loss."""
    figure = figures.picks(tuned_findings().tuned, STUDY.tune, LOOKS)
    first, second = figure.axes
    assert (first.get_title(), second.get_title()) == ("pytorch", "keras")
    rings = [line for line in first.get_lines() if line.get_fillstyle() == "none"]
    assert [line.get_xdata().tolist() for line in rings] == [[0.01], [0.1]]
    assert [line.get_ydata().tolist() for line in rings] == [pytest.approx([0.2]), pytest.approx([1.1])]
