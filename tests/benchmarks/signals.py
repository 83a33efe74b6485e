"""What signals cost: `python -m tests.benchmarks.signals pytorch`, or `keras`.

Times the training of one batch with its signals, the probe before it, and the same training with empty signals, in turn
within one run, and prints the medians and their ratio to the last. The machine's own speed cancels out.
"""

import importlib
from statistics import median

import numpy as np

from tasks.core.training import batch, signals
from tests.benchmarks.training import chosen, seconds

ROUNDS = 15
EMPTY = {
    "norms": lambda xp, tensors: xp.zeros(len(tensors)),
    "finite": lambda xp, tensors: xp.zeros(len(tensors)),
    "update_ratios": lambda xp, before, after: xp.zeros((before[0].shape[0], len(before))),
    "state": lambda xp, activated, pre_activations, activation: xp.zeros((len(signals.STATE), len(activated))),
}
MEASURED = {name: getattr(signals, name) for name in EMPTY}


def use(functions) -> None:
    """Have programs compute signals by these functions; a compiled program keeps those it was compiled with."""
    for name, function in functions.items():
        setattr(signals, name, function)


def program(framework, settings, cells):
    """Return a program of its own with the cells' data, and their order of visits."""
    getattr(importlib.import_module(f"{framework.__name__}.program"), "_kept", {}).clear()
    started, _, orders = batch.started(framework, settings, cells)
    order = np.stack(orders, axis=1)
    started.run(order[:1])  # compiles
    return started, order


def main() -> None:
    framework, study, cells = chosen()
    settings = study.settings(framework.NAME, ())
    measured, order = program(framework, settings, cells)
    measured.probe()  # compiles
    use(EMPTY)
    bare, _ = program(framework, settings, cells)
    ways = {
        "training": (MEASURED, lambda: measured.run(order)),
        "training, probe": (MEASURED, lambda: (measured.run(order), measured.probe())),
        "without signals": (EMPTY, lambda: bare.run(order)),
    }
    times = {label: [] for label in ways}
    for _ in range(ROUNDS):
        for label, (functions, way) in ways.items():
            use(functions)
            times[label].append(seconds(way))
    base = median(times["without signals"])
    for label, each in times.items():
        print(f"{label:20}{1000 * median(each):9.1f} ms a batch{median(each) / base:8.2f} x")  # noqa: T201


if __name__ == "__main__":
    main()
