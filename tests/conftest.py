import os
import shutil
import time

import hypothesis
import pytest
from xdist.scheduler import LoadFileScheduling

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
# networks are small: more threads would only wait for each other, and for the other test process
os.environ |= dict.fromkeys(["OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"], "1")

# the deadline of an example would be 0.2 s, which a busy machine misses
hypothesis.settings.register_profile("unhurried", deadline=None)
hypothesis.settings.load_profile("unhurried")

TOGETHER = {
    "tests/backends": "backends",
    "tests/flows/test_audit.py": "trainers",
    "tests/flows/test_benchmark.py": "trainers",
    "tests/flows/test_cli.py": "trainers",
    "tests/flows/test_nightly.py": "trainers",
    "tests/flows/test_own.py": "trainers",
    "tests/test_cells.py": "trainers",
    "tests/test_fence.py": "trainers",
    "tests/trainers": "trainers",
    "tests/flows/serving/test_remote.py": "servers",
    "tests/flows/serving/test_up.py": "servers",
    "tests/infra/test_containers.py": "servers",
}
"""Files and folders whose tests run in one process.

Those of "backends" share compiled programs. Those of "trainers" share a Prefect server and trainers, or start trainers
of their own. Those of "servers" each start all servers, which are slow to answer if others run on the same two cores.
So there is never more than one set of servers, and one set of trainers.
"""
FIRST = ("servers", "trainers", "backends", "tests/flows/test_known_results.py")
"""What takes longest, in the order in which test processes begin it. pytest sorts what the command names anew."""


def scope(nodeid):
    """Return the group or, if it belongs to none, the file of a test."""
    file = nodeid.partition("::")[0]
    return next((group for start, group in TOGETHER.items() if file.startswith(start)), file)


def pytest_collection_modifyitems(items):
    """Have what takes longest begin first."""
    order = {group: place for place, group in enumerate(FIRST)}
    items.sort(key=lambda item: order.get(scope(item.nodeid), len(FIRST)))


class Scheduling(LoadFileScheduling):
    """Gives each test process whole files, and several files at once where their tests share what is dear to start."""

    def _split_scope(self, nodeid: str) -> str:
        return scope(nodeid)


def pytest_xdist_make_scheduler(config, log):
    """Have the tests distributed so."""
    return Scheduling(config, log)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return an empty current folder, with no tracking store configured."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory):
    """Return an SQLite file as MLflow makes it for a store that holds nothing; making one takes seconds."""
    from tasks.tracking import store

    file = tmp_path_factory.mktemp("store") / "mlflow.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(file.parent)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        store.open_store()
    return file


@pytest.fixture
def stored(folder, empty_store):
    """Return an empty current folder, but for a tracking store that holds nothing."""
    shutil.copy(empty_store, folder)
    return folder


@pytest.fixture
def parent(stored):
    """Return the run of a benchmark, to which cells are recorded, in the store of the current folder."""
    from tasks.core.design.study import Study
    from tasks.tracking import recording

    with recording.benchmark(Study(seeds=2), {"packages": {}, "planned": "here"}, {"prefect.flow_run_id": "f"}) as run:
        yield run


@pytest.fixture
def client(parent):
    """Return MLflow's client of the store that has `parent`."""
    from mlflow import MlflowClient

    return MlflowClient(parent.uri)


@pytest.fixture(scope="session")
def prefect_server():
    """Run Prefect's server for all tests of this process that ask for it; it is the configured one meanwhile."""
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=300):
        yield


@pytest.fixture(scope="session")
def trainers():
    """Hold one pool of trainers for all tests of this process that ask for it, so that frameworks load once."""
    from tasks.core.design.initializers import BACKENDS
    from tasks.trainers import pool, process

    with pool.pool(process.slots([], 2), BACKENDS) as held:
        yield held


@pytest.fixture(scope="module")
def pytorch_set_up():
    """Have PyTorch compute as it does in a trainer; hypothesis draws no floats while denormal numbers count as zero."""
    import torch

    from tasks.backends import pytorch

    pytorch.setup(threads=1)
    yield
    torch.set_flush_denormal(False)


@pytest.fixture(scope="session")
def eventually():
    """Return a function that waits for a condition, at most so many seconds."""

    def wait(condition, seconds=150):
        started = time.monotonic()
        while not condition():
            waited = time.monotonic() - started
            assert waited < seconds, "it never happened"
            time.sleep(min(max(0.05, waited / 20), 1))  # what is waited for needs the processor, too

    return wait
