"""How much measures of speed vary from night to night: `python -m tests.benchmarks.watch.nights pytorch 30 [busy]`.

A night is a new process, as a trainer is: it loads the framework, trains a batch of the default study's cells, which is
its start-up, and then some more batches, each between two rounds of the reference. `busy` is the number of loops that
keep processors busy meanwhile. Each night becomes a line of `nights.jsonl`, from which `speed.py` draws its noise.
"""

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

NIGHTS = Path(__file__).with_name("nights.jsonl")
BATCHES, ROUNDS, CELLS = 12, 2, 16


def clocks():
    """Return the seconds of the clock, and those of this process's processor time."""
    return time.perf_counter(), time.process_time()


def took(before, after):
    return [round(late - early, 6) for early, late in zip(before, after, strict=True)]


def night(backend, begun):
    """Return what a night measures: each pair is clock and processor time, in seconds."""
    from tasks.core.design import grid
    from tasks.core.design.study import Study
    from tasks.core.training import batch, reference

    framework = import_module(f"tasks.backends.{backend}")
    framework.setup(1)
    study = Study(backends=(backend,))
    cells = [cell for cell in grid.cells(study) if cell.backend == backend][:CELLS]

    def rounds():
        found = []
        for _ in range(ROUNDS):
            before = clocks()
            reference.work()
            found.append(took(before, clocks()))
        return found

    def trained():
        told = []
        batch.train(framework, study.settings(backend, ()), cells, clock=lambda: told.append(clocks()) or told[-1][0])
        return took(*told)

    trained()
    start = [round(time.time() - begun, 6), time.process_time()]
    return {
        "start": start,
        "batches": [{"before": rounds(), "train": trained(), "after": rounds()} for _ in range(BATCHES)],
    }


@contextmanager
def loaded(loops):
    """Keep processors busy by so many loops."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(loops)]
    try:
        yield
    finally:
        for each in busy:
            each.kill()
            each.wait()


def main(backend, nights, busy=0):
    environment = os.environ | dict.fromkeys(("MKL_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    environment |= {"KERAS_BACKEND": "tensorflow", "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    with loaded(int(busy)), NIGHTS.open("a") as file:
        for _ in range(int(nights)):
            command = [sys.executable, "-m", __spec__.name, "--one", backend, str(time.time())]
            told = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
            found = json.loads(told.stdout.splitlines()[-1])
            file.write(json.dumps({"backend": backend, "busy": int(busy), "at": round(time.time()), **found}) + "\n")
            file.flush()


if __name__ == "__main__":
    if sys.argv[1] == "--one":
        print(json.dumps(night(sys.argv[2], float(sys.argv[3]))))  # noqa: T201
    else:
        main(*sys.argv[1:])
