"""The keys of cells on a made-up platform."""

from tasks.core.design import grid
from tasks.core.design.grid import Batch, Cell, Platform

HERE = Platform(
    {"pytorch": "torch 1", "keras": "keras 1"},
    "cpu",
    {"threads": "1"},
    "0.1",
    {"iris": "a", "wine": "b", "digits": "c", "a.csv": "a"},
)
CELL = Cell("keras", "he_normal", 3)


def key(study, cell=CELL, platform=HERE):
    """Return the key of one cell of a study."""
    settings = study.settings(cell.backend, cell.levels)
    return Batch.of(settings, [cell], platform, study.target, study.record).keys[cell]


def keys_of(study, platform=HERE):
    """Return the key of every cell of a study's grid."""
    return {cell: key for batch in grid.batches(study, platform) for cell, key in batch.keys.items()}
