"""Code that is not ours, contained: whatever it does to global generators, names and settings is undone."""

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager

import keras
import numpy as np
from keras.src.backend.common import global_state
from tensorflow.python.eager import context

from tasks.backends.keras.device import set_defaults

NAMES, GENERATOR, SEED = "object_name_uids", "global_seed_generator", "global_random_seed"  # Keras's global attributes


@contextmanager
def contained(seed: int) -> Iterator[None]:
    """Seed the global generators, and count names from the first, for a while; then bring back what there was."""
    python, numbers, folder = random.getstate(), np.random.get_state(), os.getcwd()  # noqa: NPY002, PTH109  # theirs
    kept = {name: global_state.get_global_attribute(name) for name in (NAMES, GENERATOR, SEED)}
    for name in kept:
        global_state.set_global_attribute(name, None)
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    _seed(seed)
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numbers)  # noqa: NPY002
        _seed(0)  # no operation of ours asks for it
        for name, value in kept.items():
            global_state.set_global_attribute(name, value)
        set_defaults()
        os.chdir(folder)


def _seed(seed: int) -> None:
    """Seed TensorFlow's operations that have no seed; its own function would make it optimize all programs anew."""
    held = context.context()
    held._seed, held._rng = seed, random.Random(seed)  # noqa: S311  # no secret


@contextmanager
def generating(generator: keras.random.SeedGenerator) -> Iterator[None]:
    """Let random operations that have no seed take one from a generator, for a while."""
    before = global_state.get_global_attribute(GENERATOR)
    global_state.set_global_attribute(GENERATOR, generator)
    try:
        yield
    finally:
        global_state.set_global_attribute(GENERATOR, before)
