"""What is told of a file of one's own before anything is trained on it."""

import shutil
from collections import namedtuple
from contextlib import nullcontext

import numpy as np
import pytest

from flows import data
from flows.plan import picked, plan
from tasks import folders
from tasks.core.design.grid import UNTUNED
from tasks.core.design.own import ArrayFile
from tasks.core.design.settings import CsvFile, Network
from tasks.core.design.study import Study
from tasks.core.training import arrays, datasets, memory
from tasks.core.training.parity import TWINS
from tasks.tracking import store
from tasks.trainers.process import Slot

ROWS = "Id,length,kind\n" + "".join(f"{at},{at % 7}.5,{'xy'[at % 2]}\n" for at in range(1, 41))


def test_a_files_size_and_its_row_number_are_told(folder):
    """The plan tells how much of a file is read, and names a column that counts the rows."""
    (folder / "mine.csv").write_text(ROWS)
    file = CsvFile(path="mine.csv", target="kind")
    size, counts = data.notes([file, "iris"])
    assert size == "mine.csv has 40 rows, 2 classes, and features: 2"
    assert counts.startswith("column Id of mine.csv rises from row to row")
    planned = plan(Study(dataset=file, seeds=1, controls=None), fresh=True)
    assert f"note          {counts}" in str(planned)
    assert data.notes([file.model_copy(update={"exclude": ("Id",)})]) == (size.replace("features: 2", "features: 1"),)


@pytest.mark.parametrize("task", [None, "classification"])
def test_a_plan_reads_a_file_once(folder, monkeypatch, task):
    """A file of arrays may be large, so a plan reads it once, forgets it, and the next plan reads it anew."""
    rng = np.random.default_rng(0)
    np.savez(folder / "mine.npz", x=rng.normal(size=(40, 3)), y=np.arange(40) % 2)
    source = ArrayFile(path="mine.npz", task=task)
    read, times = arrays.in_file, []
    monkeypatch.setattr(arrays, "in_file", lambda source: times.append(source) or read(source))
    before, after = (str(plan(Study(dataset=source, seeds=2, controls=None), fresh=True)) for _ in range(2))
    assert before == after
    assert len(times) == 2


def test_what_cannot_fit_into_memory_is_refused(folder, monkeypatch):
    """A study that memory cannot hold is refused with the estimate before anything is trained."""
    (folder / "mine.csv").write_text(ROWS)
    monkeypatch.setattr(data, "free", lambda: 2 * 2**30)
    small, large = (
        Study(dataset=CsvFile(path="mine.csv", target="kind"), seeds=1, controls=None, network=network)
        for network in (Network(), Network(width=4096, depth=100))
    )
    plan(small, fresh=True)
    words = r"mine.csv \(40 rows, 2 features\), 100 hidden layers of up to 4096 units .* GiB .* 2.0 GiB are free"
    with pytest.raises(ValueError, match=words):
        plan(large, fresh=True)
    plan(large.model_copy(update={"runner": "workers"}), fresh=True)  # other machines have other memory
    picked(large, UNTUNED, fresh=True)  # what a benchmark plans on its way, while its own trainers hold memory


def test_what_cannot_fit_on_the_disk_is_refused(folder, monkeypatch):
    """A study whose cells the disk cannot hold is refused before training; cells of workers lie elsewhere."""
    usage = namedtuple("usage", ["free"])
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(folders.LEAST + 20 * 2**20))
    study = Study(seeds=2, controls=None, initializers=("zeros",))
    plan(study, fresh=True)
    wide = study.model_copy(update={"network": Network(width=1024, depth=3)})
    words = "the store cannot hold all cells: .* 84 MiB are free, and about 9[0-9] MiB are needed"
    with pytest.raises(store.StoreError, match=words):
        plan(wide, fresh=True)
    plan(wide.model_copy(update={"runner": "workers"}), fresh=True)
    assert list(folder.iterdir()) == []


def test_what_cannot_fit_on_a_gpu_is_refused(monkeypatch):
    """On GPUs the memory of the fullest one counts, and each holds one trainer."""
    asked = [Study(network=Network(width=1024, depth=10)).settings("pytorch", ())]
    slots = [Slot(1, gpu) for gpu in (0, 1)]
    needed = memory.needed(asked[0], datasets.load("iris"), cells=1 + TWINS, folds=1)
    monkeypatch.setattr(data, "free", lambda: 0)
    for least, refused in ((needed, False), (needed - 1, True)):
        monkeypatch.setattr(data, "free_on", (2 * needed, least).__getitem__)
        with pytest.raises(ValueError, match=r"GiB on a GPU; .* GiB are free") if refused else nullcontext():
            data.check_memory(asked, slots)


def test_what_is_left_out_has_a_checksum_of_its_own(folder):
    """Columns that are left out change the data and so the keys of cells; how the columns are named does not."""
    (folder / "mine.csv").write_text(ROWS)
    (folder / "bare.csv").write_text(ROWS.partition("\n")[2])
    files = [
        CsvFile(path="mine.csv", target="kind"),
        CsvFile(path="bare.csv", target=3, header=False),
        CsvFile(path="bare.csv", target="c", names=("a", "b", "c")),
        CsvFile(path="mine.csv", target="kind", exclude=("Id",)),
    ]
    same, *others, less = [data.datasets.load(file).checksum for file in files]
    assert others == [same, same]
    assert less != same
