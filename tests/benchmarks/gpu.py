"""How fast cells train on a GPU: `python -m tests.benchmarks.gpu pytorch`, or `keras`; `keras tiny` suits a CPU.

Cells of the notebook's network and recipe train in one program. The tables say cells a second against the number of
cells, up to where more cells gain nothing or do not fit; the time of one program of 100,000 cells; which share of the
time kernels run, the rest being gaps between launches; and one step of the batch eager, compiled by `torch.compile`,
and replayed as a CUDA graph. Where cells do not fit into the GPU's memory, the number is halved until they do.
"""

import gc
import importlib
import sys
import time
from dataclasses import dataclass

import numpy as np
from tabulate import tabulate

from flows import studies
from tasks.core.design import grid
from tasks.core.training import datasets
from tasks.core.training.backend import Stack
from tasks.core.training.weights import fans, initial_weights

SATURATED = 1.05  # twice as many cells must gain this factor in cells a second
ROUNDS = 3
STEPS = 20


@dataclass(frozen=True)
class Sizes:
    """How many cells the sweep begins with and ends at, and how many the one large program has."""

    first: int
    last: int
    large: int


SIZES = {"whole": Sizes(2, 2**20, 100_000), "tiny": Sizes(2, 8, 50)}


class Batch:
    """Cells of the notebook's network, which differ in their weights, and have one split and order of rows."""

    def __init__(self, framework, cells):
        study = studies.load("notebook")
        settings = study.settings(framework.NAME, ())
        self.recipe, data = settings.recipe, datasets.load(settings.dataset)
        first = next(cell for cell in grid.cells(study) if cell.backend == framework.NAME)
        fold = datasets.divide(data, settings.split, settings.split.seed)
        sizes = fans(settings.network, len(data.features), data.classes)
        rng = np.random.default_rng(0)
        drawn = initial_weights(framework, settings, first, sizes, fold.x_train)
        weights = [(each * rng.normal(1, 0.1, (cells, *each.shape))).astype(np.float32, copy=False) for each in drawn]
        visits = datasets.visits(len(fold.y_train), self.recipe.epochs, 0, shuffle=self.recipe.shuffle)
        self.order = np.broadcast_to(visits[:, None], (len(visits), cells, visits.shape[-1]))
        self.program = framework.program(settings.network, self.recipe, sizes, cells)
        self.program.start(Stack.of([fold] * cells), weights, [self.recipe.learning_rate] * cells)

    def train(self):
        return self.program.run(np.ascontiguousarray(self.order)).scores

    def seconds(self):
        """Return the seconds of training, at best of some rounds; the first one compiles."""
        self.train()
        times = []
        for _ in range(ROUNDS):
            begun = time.perf_counter()
            scores = self.train()  # on the host, so that the device has done all
            times.append(time.perf_counter() - begun)
        if not np.isfinite(scores).all():
            raise SystemExit("the cells must stay finite; they did not, and their speed says nothing")
        return min(times)


def is_out_of_memory(error):
    """Tell whether a framework's error says that the device has no memory left."""
    return type(error).__name__ in ("OutOfMemoryError", "ResourceExhaustedError")


def fitting(cells, measure):
    """Return the largest number of cells, halved from this one as often as needed, that fits, with what is measured."""
    while True:
        try:
            return cells, measure(cells)
        except Exception as error:
            if not is_out_of_memory(error) or cells < 2:
                raise
            print(f"{cells} cells do not fit; trying {cells // 2}")  # noqa: T201
            cells //= 2
        gc.collect()


def swept(framework, sizes):
    """Return rows of cells, seconds and cells a second, up to saturation or the end of the memory."""
    rows, cells = [], sizes.first
    while cells <= sizes.last:
        fitted, taken = fitting(cells, lambda size: Batch(framework, size).seconds())
        rows.append([fitted, taken, fitted / taken])
        if fitted < cells or (len(rows) > 2 and rows[-1][2] < SATURATED * rows[-2][2] < SATURATED**2 * rows[-3][2]):
            break
        cells *= 2
    return rows


def kernels(framework, cells):
    """Return the share of the time of training in which kernels run on the device, and how many run."""
    from torch.profiler import ProfilerActivity, profile

    batch = Batch(framework, cells)
    batch.train()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as found:
        begun = time.perf_counter()
        batch.train()
        wall = time.perf_counter() - begun
    events = [event for event in found.events() if event.device_type.name == "CUDA"]
    return sum(event.device_time for event in events) / 1e6 / wall, len(events)


def steps(framework, cells):
    """Return the seconds of one forward and backward pass of the batch: eager, compiled, and as a CUDA graph."""
    import torch

    program = Batch(framework, cells).program
    size = program.recipe.batch_size
    rows = torch.arange(program.x.shape[1] if size == "full" else size, device=program.device)
    visited = program.fold[:, None], rows
    inputs = (program.tensors, program.state, program.x[visited], program.y[visited])
    ways = {"eager": lambda: program._step(*inputs)}
    compiled = torch.compile(program._step)
    ways["torch.compile"] = lambda: compiled(*inputs)
    if program.device.type == "cuda":
        ways["CUDA graph"] = captured(ways["eager"])
    return [[name, timed(way, program.device)] for name, way in ways.items()]


def captured(step):
    """Return a function that replays a step as a CUDA graph."""
    import torch

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # memory pools and kernels must be there before they are captured
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def timed(step, device):
    import torch

    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    for _ in range(3):
        step()
    wait()
    begun = time.perf_counter()
    for _ in range(STEPS):
        step()
    wait()
    return (time.perf_counter() - begun) / STEPS


def main():
    name, *rest = sys.argv[1:]
    sizes = SIZES["tiny" if rest else "whole"]
    framework = importlib.import_module(f"tasks.backends.{name}")
    print(f"{name} on {framework.setup(threads=1)}")  # noqa: T201
    rows = swept(framework, sizes)
    print(tabulate(rows, ["cells", "seconds", "cells/s"], floatfmt=".3g"))  # noqa: T201
    fitted, taken = fitting(sizes.large, lambda cells: Batch(framework, cells).seconds())
    print(f"one program of {fitted} cells: {taken:.3g} s, {fitted / taken:.0f} cells/s")  # noqa: T201
    if name == "pytorch":
        share, launched = kernels(framework, rows[-1][0])
        print(f"kernels run {100 * share:.0f} % of the time; {launched} were launched")  # noqa: T201
        print(tabulate(steps(framework, rows[-1][0]), ["a step", "seconds"], floatfmt=".3g"))  # noqa: T201


if __name__ == "__main__":
    main()
