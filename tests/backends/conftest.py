"""torch first: with CUDA builds, TensorFlow imported before it aborts the process at the first optimizer step."""

import pytest
import torch  # noqa: F401


@pytest.fixture(autouse=True, scope="module")
def as_in_a_trainer(pytorch_set_up):
    """Have PyTorch compute as it does in a trainer."""
