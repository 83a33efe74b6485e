import ctypes
import functools
import gc
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from tasks import user_code
from tasks.core.design import grid
from tasks.core.design.settings import Network, Recipe
from tasks.core.design.study import Study
from tasks.trainers import memory, process
from tasks.trainers import pool as pools

STUDY = Study(backends=("pytorch",), seeds=4, recipe=Recipe(epochs=1), network=Network(hidden=(4,)))
SETTINGS = STUDY.settings("pytorch", ())
CELLS = grid.cells(STUDY)


@pytest.fixture(scope="module")
def pool():
    """Return a pool with one slot and a real trainer process, which no test of this module kills."""
    with closing(pools.Pool([process.Slot(threads=1)], STUDY.backends)) as held:
        yield held


@pytest.fixture(autouse=True)
def no_pool_is_held():
    """Hide the pool that other tests of this process may hold."""
    token = pools._current.set(None)
    yield
    pools._current.reset(token)


def pid(pool):
    with pool.lease("pytorch") as trainer:
        return trainer.call(os.getpid)


def alive(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def sizes_trained(pool, monkeypatch):
    """Return a list that will hold the size of each batch sent to a trainer."""
    sizes = []
    train = process.Trainer.train

    def spy(trainer, settings, cells, rates):
        sizes.append(len(cells))
        return train(trainer, settings, cells, rates)

    monkeypatch.setattr(process.Trainer, "train", spy)
    return sizes


def test_ctrl_c_does_not_reach_a_trainer(pool):
    """A trainer's process blocks Ctrl-C from its birth, so that the parent alone decides how a run ends."""
    with pool.lease("pytorch") as trainer:
        assert signal.SIGINT in trainer.call(signal.pthread_sigmask, signal.SIG_BLOCK, [])
        os.kill(trainer.call(os.getpid), signal.SIGINT)
        assert trainer.call(int, 7) == 7
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_slots():
    """Each GPU is a slot; without any, the processors are shared in two, so that both backends train at once."""
    assert process.slots([2, 5], 16) == [process.Slot(8, 2), process.Slot(8, 5)]
    assert process.slots([], 8) == [process.Slot(4), process.Slot(4)]
    assert process.slots([], 1) == [process.Slot(1)]


def test_settings_of_the_user_decide_nothing(monkeypatch, tmp_path):
    """A trainer reads no keras.json of the user's, and has its own numbers of threads and its own precision."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "9")
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")
    trainer = process.Trainer("keras", process.Slot(threads=3), tmp_path / "logs" / "keras.log")
    names = "KERAS_HOME", "OPENBLAS_NUM_THREADS", "NVIDIA_TF32_OVERRIDE", "MALLOC_ARENA_MAX"
    try:
        found = [trainer.call(os.getenv, name) for name in names]
    finally:
        trainer.stop()
    assert found == [str(tmp_path / "logs"), "3", "0", "3"]


def test_trainer_holds_one_framework(pool):
    """A trainer loads its backend's framework, in a process of its own, with its slot's threads."""
    with pool.lease("pytorch") as trainer:
        loaded, threads = trainer.call(_modules_and_threads)
        assert trainer.call(gc.get_threshold)[0] == 700  # models are soon found as garbage
    assert "torch" in loaded
    assert not loaded & {"tensorflow", "keras", "prefect", "mlflow"}
    assert threads == 1


def _modules_and_threads():
    import sys

    import torch

    return set(sys.modules), torch.get_num_threads()


def test_those_who_wait_train_together(pool, monkeypatch):
    """Cells of many tasks that wait for one slot are one batch, and each task gets its own outcome."""
    sizes = sizes_trained(pool, monkeypatch)
    with ThreadPoolExecutor(len(CELLS)) as threads:
        outcomes = list(threads.map(lambda cell: pool.train(SETTINGS, [cell]), CELLS))
    assert sizes == [len(CELLS)]
    assert [outcome.cell for (outcome,) in outcomes] == CELLS


def test_studies_of_the_same_settings_train_together(pool, monkeypatch):
    """What keeps cells apart is a setting that decides their numbers, not the study that they are asked for by."""
    sizes = sizes_trained(pool, monkeypatch)
    other = STUDY.model_copy(update={"name": "other", "target": 0.5})
    with ThreadPoolExecutor(2) as threads:
        one, two = threads.map(lambda study: pool.train(study.settings("pytorch", ()), CELLS[:3]), [STUDY, other])
    assert sizes == [6]
    assert [len(outcomes) for outcomes in (one, two)] == [3, 3]


def test_large_tasks_train_alone(pool, monkeypatch):
    """A task with many cells is a batch of its own, so that chance does not decide with whom they train."""
    monkeypatch.setattr(pools, "ALONE", 3)
    sizes = sizes_trained(pool, monkeypatch)
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda _: pool.train(SETTINGS, CELLS[:3]), range(2)))
    assert sizes == [3, 3]


def test_levels_train_apart(pool, monkeypatch):
    """Cells of one study at two levels of a factor are two batches, each at its own level."""
    sizes = sizes_trained(pool, monkeypatch)
    study = STUDY.model_copy(update={"factors": {"recipe.epochs": (1, 2)}})
    halves = [[cell for cell in grid.cells(study) if cell.levels == levels][:3] for levels in study.levels()]
    with ThreadPoolExecutor(2) as threads:
        one, two = threads.map(lambda cells: pool.train(study.settings("pytorch", cells[0].levels), cells), halves)
    assert sizes == [3, 3]
    assert (len(one[0].trained.curves.test_loss), len(two[0].trained.curves.test_loss)) == (2, 3)


def test_learning_rates_train_together(pool, monkeypatch):
    """Cells whose settings differ in nothing but the learning rate are one batch; each outcome returns to its task."""
    sizes = sizes_trained(pool, monkeypatch)
    study = STUDY.model_copy(update={"factors": {"recipe.learning_rate": (0.5, 0.001)}})
    parts = [[cell for cell in grid.cells(study) if cell.levels == levels][:3] for levels in study.levels()]
    with ThreadPoolExecutor(2) as threads:
        found = list(threads.map(lambda cells: pool.train(study.settings("pytorch", cells[0].levels), cells), parts))
    assert sizes == [6]
    assert [[outcome.cell for outcome in each] for each in found] == parts
    alone = pool.train(study.settings("pytorch", study.levels()[0]), parts[0])
    for one, other in zip(found[0], alone, strict=True):
        assert one.trained.curves.test_loss.tolist() == other.trained.curves.test_loss.tolist()


def test_other_studies_train_apart(pool, monkeypatch):
    """Cells under another recipe never share a batch."""
    sizes = sizes_trained(pool, monkeypatch)
    other = STUDY.model_copy(update={"recipe": Recipe(epochs=2)})
    with ThreadPoolExecutor(2) as threads:
        one, two = threads.map(lambda study: pool.train(study.settings("pytorch", ()), CELLS[:3]), [STUDY, other])
    assert sizes == [3, 3]
    assert (len(one[0].trained.curves.test_loss), len(two[0].trained.curves.test_loss)) == (2, 3)


def test_large_requests_are_cut(pool, monkeypatch):
    """More cells than a batch may hold are trained in several."""
    monkeypatch.setattr(pools, "MAX_BATCH", 10)
    sizes = sizes_trained(pool, monkeypatch)
    assert [outcome.cell for outcome in pool.train(SETTINGS, CELLS[:25])] == CELLS[:25]
    assert sizes == [10, 10, 5]


def test_batches_follow_free_memory(monkeypatch):
    """A trainer that cannot hold all cells of a batch trains them one part after another."""
    parts = []
    monkeypatch.setattr(process, "framework", lambda backend: backend)
    monkeypatch.setattr(process.batch, "train", lambda *args, **clocks: parts.append(args[2:]) or args[2])
    assert process._train(SETTINGS, tuple(CELLS[:20]), (0.1,) * 20) == CELLS[:20]
    monkeypatch.setattr(process, "free", lambda: 0)
    assert process._train(SETTINGS, tuple(CELLS[:5]), (1.0, 2.0, 3.0, 4.0, 5.0)) == CELLS[:5]
    assert [len(cells) for cells, _ in parts] == [20, 2, 2, 1]
    assert [rates for _, rates in parts[1:]] == [(1.0, 2.0), (3.0, 4.0), (5.0,)]


def test_batches_follow_the_memory_of_a_gpu(pool, monkeypatch, tmp_path):
    """A trainer on a GPU fits batches into what was free there when it came, and not into the machine's memory."""
    program = tmp_path / "nvidia-smi"
    program.write_text('#!/bin/sh\ntest "$1" = --id=3 && echo 1200\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    wide = SETTINGS.model_copy(update={"network": Network(width=512, depth=10)})
    start = process._start, "pytorch", process.Slot(threads=1, gpu=3), os.getpid(), str(tmp_path / "log")
    on_gpu = process.Trainer("pytorch", process.Slot(threads=1), tmp_path / "log")
    try:
        on_gpu.call(*start)
        with pool.lease("pytorch") as other:
            sizes = [trainer.call(process._together, wide, 1) for trainer in (on_gpu, other)]
    finally:
        on_gpu.stop()
    assert sizes[0] == 2 < sizes[1]
    assert memory.free_on(3) == 1200 * 2**20
    program.write_text("#!/bin/sh\necho '[N/A]'\n")  # of a GPU that has no memory of its own
    monkeypatch.setattr(memory, "free", lambda: 7)
    assert memory.free_on(3) == 7


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="the C library is not glibc")
def test_what_is_freed_goes_back_to_the_machine(monkeypatch):
    """Memory that the C library would keep is given back whenever a trainer has done what it was asked."""

    def work():
        blocks = [bytearray(60_000) for _ in range(2_000)]
        return blocks[-1], memory.held(os.getpid())  # what is above the others keeps them from going back unasked

    monkeypatch.setenv(user_code.FOLDERS, "")
    _, most = process._allowed("", work)
    assert most - memory.held(os.getpid()) > 100 * 2**20


def test_fewer_cells_train_where_memory_runs_out(monkeypatch):
    """If a framework runs out of memory, the cells that are left train fewer at a time; two are the fewest."""
    sizes = []

    class Framework:
        OUT_OF_MEMORY = MemoryError

    def train(backend, settings, cells, rates, **clocks):
        sizes.append(len(cells))
        if len(cells) > most:
            raise MemoryError
        return list(zip(cells, rates, strict=True))

    monkeypatch.setattr(process, "framework", lambda _: Framework)
    monkeypatch.setattr(process.batch, "train", train)
    most, rates = 16, tuple(map(float, range(20)))
    assert process._train(SETTINGS, tuple(CELLS[:20]), rates) == list(zip(CELLS[:20], rates, strict=True))
    assert sizes == [20, 16, 4]
    most = 1
    with pytest.raises(MemoryError):
        process._train(SETTINGS, tuple(CELLS[:20]), rates)
    assert sizes[3:] == [20, 16, 2]


def test_a_pool_that_is_held_gets_its_limit_back():
    """A benchmark inside a held pool may let fewer slots train at once, for itself alone."""
    slots = process.slots([], processors=2)
    with pools.pool(slots, ["pytorch"], 2) as outer:
        with pools.pool(slots, ["pytorch"], 1) as inner:
            assert (inner, outer.most) == (outer, 1)
        assert outer.most == 2


def test_free_memory_is_that_of_the_container(monkeypatch, tmp_path):
    """A container's limit counts if it is below what the machine has; its file cache can be had back."""
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 9 kB\nMemAvailable:    2048 kB\n")
    monkeypatch.setattr(memory, "MEMINFO", meminfo)
    monkeypatch.setattr(memory, "GROUP", tmp_path)
    assert memory.free() == 2048 * 1024
    (tmp_path / "memory.current").write_text("700\n")
    (tmp_path / "memory.stat").write_text("anon 600\ninactive_file 100\n")
    for limit, expected in (("max", 2048 * 1024), ("1000", 1000 - 700 + 100)):
        (tmp_path / "memory.max").write_text(f"{limit}\n")
        assert memory.free() == expected


def test_trainers_wait_for_the_record(pool, monkeypatch):
    """While too many trained cells wait to be recorded no others are trained; once these are recorded, they are."""
    monkeypatch.setattr(pools, "MOST_HELD", 2)
    sizes = sizes_trained(pool, monkeypatch)
    with ThreadPoolExecutor(1) as thread:
        with pool.trained(SETTINGS, CELLS[:2]):
            later = thread.submit(pool.train, SETTINGS, CELLS[2:3])
            with pytest.raises(TimeoutError):
                later.result(timeout=1)
            assert sizes == [2]
        assert [outcome.cell for outcome in later.result()] == CELLS[2:3]
    assert not pool._held


def test_a_trainer_that_holds_much_is_replaced(pool, monkeypatch):
    """A trainer whose memory has passed its share ends after its batch, and the next batch has another one."""
    first = pid(pool)
    assert pid(pool) == first
    monkeypatch.setattr(memory, "SHARE", memory.held(first) / 2 / memory.whole())
    assert pool.train(SETTINGS, CELLS[:2])[0].status == "finished"
    monkeypatch.undo()
    assert pid(pool) != first
    assert pool.peaks["pytorch"] >= 2**27  # a framework is loaded


def test_trainers_die_and_end(monkeypatch, tmp_path, eventually):
    """Cells aboard a trainer that is killed hear of it; tried again they train on a new one, and apart.

    No trainer outlives its pool, and whoever comes late is told.
    """
    busy = tmp_path / "busy"
    with closing(pools.Pool([process.Slot(threads=1)], STUDY.backends)) as pool:
        first = pid(pool)
        # so that the kill finds a batch under way
        monkeypatch.setattr(process, "_train", functools.partial(_sleep, busy))
        with ThreadPoolExecutor(3) as threads:
            tries = [threads.submit(pool.train, SETTINGS, [cell]) for cell in CELLS[:3]]
            eventually(busy.exists)
            os.kill(first, signal.SIGKILL)
            assert all(isinstance(each.exception(), process.TrainerError) for each in tries)
            assert "SIGKILL" in str(tries[0].exception())
            monkeypatch.undo()
            sizes = sizes_trained(pool, monkeypatch)
            again = [threads.submit(pool.train, SETTINGS, [cell]) for cell in CELLS[:3]]
            assert [each.result()[0].status for each in again] == ["finished"] * 3
        assert sizes == [1, 1, 1]
        second = pid(pool)
        assert second != first
    eventually(lambda: not alive(second))
    with pytest.raises(process.TrainerError, match="closed"):
        pool.train(SETTINGS, CELLS[:1])


def _sleep(busy, settings, cells, rates):
    import time

    busy.touch()
    time.sleep(60)


def test_errors_reach_every_task_and_keep_the_trainer(pool):
    """An error in training is told to the task whose cells they were; the trainer lives on."""
    before = pid(pool)
    with pytest.raises(TypeError, match="this is for perceptrons"):
        pool.train(SETTINGS.model_copy(update={"network": None}), CELLS[:1])
    assert pid(pool) == before


def test_pools_nest():
    """A pool asked for within another is that other one: its trainers are warm. It is closed at the outer one's end."""
    with (
        pools.pool([process.Slot(threads=1)], STUDY.backends) as outer,
        pools.pool([process.Slot(threads=9)], STUDY.backends) as inner,
    ):
        assert inner is outer
        assert pools.current() is outer
        with pools.pool([process.Slot(threads=1)], ("keras",)) as other:
            assert other is not outer  # for it has no slot for Keras
        assert pools.current() is outer
    with pytest.raises(process.TrainerError, match="closed"):
        outer.train(SETTINGS, CELLS[:1])


def test_trainers_end_with_their_parent(eventually):
    """A trainer whose parent was killed ends by itself."""
    import subprocess
    import sys

    code = """
import os
from tasks.trainers.pool import Pool
from tasks.trainers.process import Slot
pool = Pool([Slot(threads=1)], ("pytorch",))
with pool.lease("pytorch") as trainer:
    print(trainer.call(os.getpid), flush=True)
os.kill(os.getpid(), 9)
"""
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    process = int(child.stdout)
    eventually(lambda: not alive(process))


def test_backend_that_cannot_use_the_gpu_says_so():
    """A GPU slot with a CPU build of the framework is an error that names the remedy, not silent CPU training."""
    import torch

    if torch.cuda.is_available():
        pytest.skip("this build of PyTorch can use the GPU")
    with (
        pools.pool([process.Slot(threads=1, gpu=0)], STUDY.backends) as pool,
        pytest.raises(process.TrainerError, match="CUDA_VISIBLE_DEVICES=-1"),
    ):
        pool.train(SETTINGS, CELLS[:1])
