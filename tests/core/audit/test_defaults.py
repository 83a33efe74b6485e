"""The law that a framework uses if nobody says otherwise."""

import pytest

from tasks.core.audit.defaults import default
from tasks.core.audit.sample import Part
from tasks.core.design.initializers import Uniform


@pytest.mark.parametrize(
    ("kind", "name", "role", "shape", "bound"),
    [
        ("Linear", "weight", "kernel", (3, 16), 1 / 4),
        ("Bilinear", "weight", "kernel", (7, 9, 4), 1 / 3),
        ("Bilinear", "bias", "bias", (7,), None),
        ("LSTM", "weight_hh_l0", "kernel", (25, 4), 1 / 5),
        ("LSTM", "weight_hr_l0", "kernel", (4, 25), 1 / 5),
        ("LSTM", "weight_hr_l1_reverse", "kernel", (4, 25), 1 / 5),
    ],
)
def test_torchs_bounds(kind, name, role, shape, bound):
    """The bound is that in torch's source: 1/√n, of inputs, of the first of two, or of a recurrent layer's units."""
    counted = (float(shape[-1] * (shape[1] if len(shape) > 2 else 1)), float(shape[0]))
    part = Part(f"l.{name}", f"l.{name}", "l", kind, role, shape, "float32", counted=counted, units=shape[0])
    found = default(part, "pytorch")
    assert (found.bound if isinstance(found, Uniform) else None) == (bound and pytest.approx(bound))
