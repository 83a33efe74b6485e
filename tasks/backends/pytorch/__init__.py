"""The PyTorch backend. No other package of this project imports torch.

The cells of a batch train together. A real `nn.Module` says what one cell computes. `vmap` computes it for all cells at
once, from weights that are stacked along a leading axis of cells, and gives each cell its own gradient. One
`torch.optim` optimizer updates the stacks, because optimizers act on each number by itself. On a CPU the weights of a
cell equal those of a plain training loop bit for bit, however many cells the batch has; tasks/core/training/README.md
tells the exceptions.
"""

from tasks.backends.pytorch.device import OUT_OF_MEMORY, setup
from tasks.backends.pytorch.initializers import NAME, counted, init_weights, native, native_array
from tasks.backends.pytorch.network import deployed, deployed_own
from tasks.backends.pytorch.own import own
from tasks.backends.pytorch.program import program

__all__ = [
    "NAME",
    "OUT_OF_MEMORY",
    "counted",
    "deployed",
    "deployed_own",
    "init_weights",
    "native",
    "native_array",
    "own",
    "program",
    "setup",
]
