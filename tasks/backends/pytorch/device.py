"""How a process computes with PyTorch: on which device, in how many threads, how precisely."""

import torch

from tasks.core.training.backend import DETERMINISTIC, TF32

OUT_OF_MEMORY = torch.OutOfMemoryError


def device() -> torch.device:
    """Return the device that programs compute on: the GPU if PyTorch sees one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def setup(threads: int) -> str:
    """Set threads, precision and determinism for this process, and return the device's name."""
    torch.set_default_dtype(torch.float32)  # code that Python runs at its start may have set others
    torch.set_default_device(None)
    torch.set_num_threads(threads)
    # use_deterministic_algorithms would import PyTorch's compiler, for seconds; a trainer's environment tells that one
    torch.set_deterministic_debug_mode("error" if DETERMINISTIC else "default")
    torch.set_flush_denormal(True)  # TensorFlow does so too: a vanishing signal becomes zero at the same size in both
    torch.backends.cuda.matmul.allow_tf32 = TF32
    torch.backends.cudnn.allow_tf32 = TF32
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
