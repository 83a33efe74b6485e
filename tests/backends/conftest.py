"""torch first: with CUDA builds, TensorFlow imported before it aborts the process at the first optimizer step."""

from importlib import import_module

import pytest
import torch  # noqa: F401


@pytest.fixture(autouse=True, scope="module")
def as_in_a_trainer(pytorch_set_up):
    """Have PyTorch compute as it does in a trainer."""


@pytest.fixture(autouse=True, scope="session")
def all_programs_are_kept():
    """Keep every program that Keras has compiled, because tests of several files train under the same settings."""
    program = import_module("tasks.backends.keras.program")  # the package offers a function of that name
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(program, "KEPT_BYTES", 2**40)
        yield
