import numpy as np

from tasks.core.training.parity import BATCH, BOUNDS, STEPS, STUDIES, gaps


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
    for optimizer, study in STUDIES.items():
        assert study.recipe.epochs * 120 // BATCH == STEPS
        assert study.weights == "shared"
        assert BOUNDS[optimizer] < 1e-5
    assert STUDIES["adam"].recipe.epsilon != "framework"
    assert STUDIES["adam"].network.activation == "tanh"
