"""What signals cost: `python -m tests.benchmarks.signals pytorch`, or `keras`.

Times the training of one batch with its signals, the probe before it, and the same training with empty signals, in turn
within one run, and prints the medians and their ratio to the last. The machine's own speed cancels out.
"""

from statistics import median
from types import SimpleNamespace

from tasks.core.training import batch as training
from tasks.core.training import signals
from tests.benchmarks.training import chosen, seconds

ROUNDS = 15


def program(framework, study, cells):
    """Return a program of its own with the cells' data, and their order of visits."""
    framework._program.cache_clear()
    started, _, order = training.started(framework, study, cells)
    started.run(order[:1])  # compiles
    return started, order


def main() -> None:
    framework, study, cells = chosen()
    measured, order = program(framework, study, cells)
    measured.probe()  # compiles
    empty = SimpleNamespace(
        share=signals.share,
        norms=lambda xp, tensors: xp.zeros(len(tensors)),
        finite=lambda xp, tensors: xp.zeros(len(tensors)),
        update_ratios=lambda xp, before, after: xp.zeros((before[0].shape[0], len(before))),
        state=lambda xp, activated, pre_activations, activation: xp.zeros((len(signals.STATE), len(activated))),
    )
    framework.signals = empty
    bare, _ = program(framework, study, cells)
    ways = {
        "training": (signals, lambda: measured.run(order)),
        "training, probe": (signals, lambda: (measured.run(order), measured.probe())),
        "without signals": (empty, lambda: bare.run(order)),
    }
    times = {label: [] for label in ways}
    for _ in range(ROUNDS):
        for label, (framework.signals, way) in ways.items():
            times[label].append(seconds(way))
    base = median(times["without signals"])
    for label, each in times.items():
        print(f"{label:20}{1000 * median(each):9.1f} ms a batch{median(each) / base:8.2f} x")  # noqa: T201


if __name__ == "__main__":
    main()
