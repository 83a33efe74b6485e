"""torch first: with CUDA builds, TensorFlow imported before it aborts the process at the first optimizer step."""

import torch  # noqa: F401
