import numpy as np

from tasks.core.training.parity import BATCH, BOUNDS, NETWORK, RECIPES, STEPS, gaps, trace


def test_gaps_take_every_tensor_of_every_step():
    """The gap of a step is the largest difference of any weight in any tensor."""
    ours = [[np.zeros((1, 2)), np.zeros((1, 3))], [np.zeros((1, 2)), np.zeros((1, 3))]]
    theirs = [[np.zeros((1, 2)), np.zeros((1, 3))], [np.array([[0, 0.5]]), np.array([[0, 0, -2.0]])]]
    assert gaps(ours, theirs).tolist() == [0, 2]


def test_nan_is_no_agreement():
    """A NaN in any tensor makes the gap NaN, which is within no bound."""
    ours, theirs = [[np.zeros(2), np.zeros(2)]], [[np.zeros(2), np.array([0, np.nan])]]
    assert not gaps(ours, theirs).max() <= 1


def test_a_hundred_steps():
    """Each optimizer is followed for STEPS steps and has a bound; Adam's epsilon is aligned, its units smooth."""
    for optimizer, recipe in RECIPES.items():
        assert recipe.epochs * 120 // BATCH == STEPS
        assert BOUNDS[optimizer] < 1e-5
    assert RECIPES["adam"].epsilon != "framework"
    assert NETWORK.activation == "tanh"


class Untrained:
    """A backend without initializers of its own, whose program keeps the weights that it is given."""

    def __init__(self, name):
        self.NAME = name

    def program(self, network, recipe, fans, cells):
        return self

    def start(self, stack, weights):
        self.given = weights

    def run(self, order):
        pass

    def weights(self):
        return self.given


def test_backends_start_from_one_draw():
    """The weights are one NumPy draw that both backends are given, and one entry stands for each step after it."""
    ours, theirs = (trace(Untrained(name), "sgd", seed=3) for name in ("pytorch", "keras"))
    assert gaps(ours, theirs).tolist() == [0] * (STEPS + 1)
