"""The fans and the layouts of kernels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.design.initializers import named
from tasks.core.design.layers import Kernel, Layer, Layers, Place, owners, tied

WEIGHT = Place("weight")


@given(
    transposed=st.booleans(),
    side=st.integers(1, 5),
    stride=st.integers(1, 3),
    groups=st.integers(1, 3),
    inputs=st.integers(1, 3),
    outputs=st.integers(1, 3),
)
def test_fans_are_counted(transposed, side, stride, groups, inputs, outputs):
    """The fans are the weights' uses, counted one by one over a long row, for each output and for each input."""
    first, second = (inputs * groups, outputs) if transposed else (outputs * groups, inputs)
    options = {"strides": (stride,), "dilation": (1,), "transposed": transposed}
    kernel = Kernel("weight", WEIGHT, (first, second, side), "gi o *" if transposed else "go i *", groups, **options)
    length = 60  # positions of the finer side; a multiple of every stride
    uses = np.zeros((length, length // stride))  # (fine, coarse): how many taps join the two positions
    for coarse in range(length // stride):
        for tap in range(side):
            uses[(coarse * stride + tap) % length, coarse] += 1
    to_fine, to_coarse = uses.sum(1).mean(), uses.sum(0).mean()
    assert kernel.fan_in == pytest.approx(inputs * (to_fine if transposed else to_coarse))
    assert kernel.fan_out == pytest.approx(outputs * (to_coarse if transposed else to_fine))


@pytest.mark.parametrize(
    ("axes", "shape", "groups"),
    [
        ("o i", (3, 4), 1),
        ("i o o", (4, 3, 2), 1),
        ("o g i", (3, 2, 4), 1),
        ("go i *", (6, 4, 2, 5), 3),
        ("gi o *", (6, 4, 2), 2),
        ("* i go", (2, 5, 4, 6), 3),
        ("* g o", (5, 4, 3), 1),
    ],
)
def test_layouts(axes, shape, groups):
    """Matrices are the array's numbers in order of groups, taps, inputs, outputs, and go back where they were."""
    kernel = Kernel("weight", WEIGHT, shape, axes, groups)
    array = np.arange(np.prod(shape)).reshape(shape)
    matrices = kernel.matrices(array)
    assert np.array_equal(kernel.array(matrices), array)
    assert matrices[0, 0, 0, 0] == 0
    outputs = matrices.shape[3]
    steps = {"o i": 4, "i o o": 1, "o g i": 8, "go i *": 40, "gi o *": 2, "* i go": 1, "* g o": 1}
    assert outputs == 1 or matrices[0, 0, 0, 1] == steps[axes]


def test_matrices_of_a_transposed_convolution():
    """Of a side of 3 under a stride of 2 the outer taps meet in one output, and the middle one is alone."""
    options = {"strides": (2,), "dilation": (1,), "transposed": True}
    kernel = Kernel("weight", WEIGHT, (4, 5, 3), "gi o *", groups=2, **options)
    asked = []

    def draw(fan_in, fan_out):
        asked.append((fan_in, fan_out))
        return np.full((fan_in, fan_out), len(asked))

    array = kernel.assembled(draw)
    assert asked == [(4, 5), (2, 5), (4, 5), (2, 5)]
    assert array[0, 0].tolist() == [1, 2, 1]
    assert array[2, 0].tolist() == [3, 4, 3]


def test_identity_needs_one_tap():
    """The identity is a matrix, so it is allowed where each output applies one."""
    law = named("identity").law
    Kernel("weight", WEIGHT, (4, 4, 1, 1), "go i *").allows(law, "mixing")
    Kernel("weight", WEIGHT, (4, 4, 3), "go i *").allows(named("orthogonal").law, "wide")
    with pytest.raises(ValueError, match="identity needs kernels that each output applies once; got wide"):
        Kernel("weight", WEIGHT, (4, 4, 3), "go i *").allows(law, "wide")


def test_shared_parameters_follow_the_larger_fan_in():
    """Of two layers that share a tensor the one with the larger fan_in decides, and the other is named."""
    embedding = Layer("tokens", "Embedding", (Kernel("weight", WEIGHT, (9, 4), "i o", lookup=True),))
    head = Layer("head", "Linear", (Kernel("weight", WEIGHT, (9, 4), "o i", bias=Place("bias")),))
    shared, bias = object(), object()
    claims = [(embedding, "tokens.weight", [shared]), (head, "head.weight", [shared]), (head, "head.bias", [bias])]
    owned = owners(claims)
    assert owned == {id(shared): "head.weight", id(bias): "head.bias"}
    assert tied(claims, owned) == (("tokens.weight", "head.weight"),)
    assert head.parameters == ["weight", "bias"]


def test_what_is_left_is_warned_of():
    """Parameters that stay as built are named; without any there is no warning."""
    Layers(()).warn()
    with pytest.warns(UserWarning, match="which stay as built: position, token"):
        Layers((), left=("position", "token")).warn()
