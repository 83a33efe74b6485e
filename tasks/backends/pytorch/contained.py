"""Code that is not ours, contained: whatever it does to global generators and settings is undone."""

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def contained(seed: int) -> Iterator[None]:
    """Seed the global generators for a while; then bring back their states, and PyTorch's and Python's settings."""
    python, numbers, folder = random.getstate(), np.random.get_state(), os.getcwd()  # noqa: NPY002, PTH109  # theirs
    kind, device, gradients = torch.get_default_dtype(), torch.get_default_device(), torch.is_grad_enabled()
    threads, deterministic = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numbers)  # noqa: NPY002
            torch.set_default_dtype(kind)
            torch.set_default_device(None if device == torch.device("cpu") else device)
            torch.set_grad_enabled(gradients)
            torch.set_num_threads(threads)
            torch.set_deterministic_debug_mode(deterministic)
            os.chdir(folder)
