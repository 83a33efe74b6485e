import numpy as np
import pandas as pd
import pytest

from tasks.core.design.initializers import OWN
from tasks.core.design.study import Study
from tasks.core.report import figures

FACTORS = ["depth"]
LOOKS = figures.styles(["he_normal", "zeros"])


def history(depths=(2,), epochs=4, norm=1.0):
    rows = [
        {
            "epoch": epoch,
            "train_loss": 1 / (1 + epoch) + 0.1 * seed,
            "test_accuracy": 0.2 * epoch,
            "gradient_norm/layer_001": norm if epoch else np.nan,
            "gradient_norm/layer_002": 2 * norm if epoch and depth > 1 else np.nan,
            "depth": depth,
            "backend": backend,
            "initializer": initializer,
            "seed": seed,
            "status": "finished",
        }
        for depth in depths
        for backend in ("pytorch", "keras")
        for initializer in ("he_normal", "zeros")
        for seed in range(3)
        for epoch in range(epochs)
    ]
    return pd.DataFrame(rows)


def layers(depths=(2,)):
    rows = [
        {
            "layer": layer,
            "pre_activation_variance": 0.5**layer * (1 + seed),
            "gradient_variance": 3 * 0.5 ** (depth - layer),
            "theory_forward": 0.5**layer,
            "theory_backward": 0.5 ** (depth - layer) if layer <= depth else np.nan,
            "depth": depth,
            "backend": backend,
            "initializer": "he_normal",
            "seed": seed,
            "status": "finished",
        }
        for depth in depths
        for backend in ("pytorch", "keras")
        for seed in range(3)
        for layer in range(1, depth + 2)
    ]
    return pd.DataFrame(rows)


def test_an_initializer_looks_the_same_everywhere():
    """An initializer's style does not depend on its company, and no two look alike."""
    names = [entry.name for entry in OWN]
    looks = figures.styles(names)
    assert len(set(looks.values())) == len(names)
    assert figures.styles(["zeros", "he_normal"]) == {name: looks[name] for name in ("zeros", "he_normal")}


def test_usual_initializers_differ_in_colour():
    """The default study's eight initializers have eight colours."""
    assert len({look.colour for look in figures.styles(Study().initializers).values()}) == 8


def test_initializers_of_a_study_differ_in_colour():
    """Where two names would share a colour, the less usual one takes another."""
    looks = figures.styles(["lsuv", "orthogonal", "mean_field(sigma_w=1)", "he_uniform"])
    assert len({look.colour for look in looks.values()}) == 4
    assert looks["orthogonal"] == figures.styles(["orthogonal"])["orthogonal"]


def test_a_scan_has_as_many_colours():
    """Initializers of one name and many parameters differ in colour among each other."""
    labels = [f"mean_field(sigma_w={width})" for width in (1, 2, 3, 4, 5)]
    assert len({look.colour for look in figures.styles(labels).values()}) == 5


def test_shades_do_not_depend_on_the_order():
    """Several of one name are shaded by their parameters, in whatever order they come, so that all pictures agree."""
    labels = ["random_normal(std=0.5)", "random_normal(std=0.01)", "random_normal"]
    assert figures.styles(labels) == figures.styles(labels[::-1])
    scan = figures.styles(["mean_field(sigma_w=10)", "mean_field(sigma_w=2)", "mean_field(sigma_w=1.5)"])
    assert list(scan) == ["mean_field(sigma_w=1.5)", "mean_field(sigma_w=2)", "mean_field(sigma_w=10)"]


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
