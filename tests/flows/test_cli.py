"""The command as a user runs it: its own process, private server, store and trainers.

What needs no process of its own is asked of `main` in this one, for importing Prefect takes seconds in each new one.
"""

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import urllib.request
from contextlib import closing
from functools import cache
from pathlib import Path

import click
import pandas as pd
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.sorting import FlowRunSort
from prefect.settings import PREFECT_API_DATABASE_CONNECTION_URL, PREFECT_API_URL, temporary_settings

from flows import cli
from flows.serving import server
from tests.shared import packages
from tests.shared.inside import called
from tests.shared.running import INITBENCH, own_environment

STUDY = """
name: small
initializers: [he_normal, zeros]
seeds: [0, 3]
network: {hidden: [8]}
recipe: {epochs: 2}
controls: null
"""
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """Return the environment of a user who has configured nothing, with a home of Prefect's own."""
    return own_environment(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def initbench(environment):
    """Return a function that runs the command in a folder."""

    def run(folder, *arguments, **changes):
        command = [INITBENCH, *arguments]
        return subprocess.run(command, cwd=folder, env={**environment, **changes}, capture_output=True, text=True)

    return run


@pytest.fixture(scope="module")
def first(tmp_path_factory, initbench):
    """Return a folder in which a small study has run, and how that went."""
    folder = tmp_path_factory.mktemp("first")
    (folder / "small.yaml").write_text(STUDY)
    return folder, initbench(folder, "run", "small.yaml", "--export", "out")


def task_runs(environment):
    with closing(sqlite3.connect(Path(environment["PREFECT_HOME"], "prefect.db"))) as database:
        latest = "(SELECT id FROM flow_run ORDER BY created DESC LIMIT 1)"
        return database.execute(f"SELECT name, state_type FROM task_run WHERE flow_run_id = {latest}").fetchall()  # noqa: S608


@pytest.fixture
def inside(folder, monkeypatch, capsys):
    """Return a function that runs the command in this process, where frameworks may be loaded already."""

    def run(*arguments):
        status, output = called(arguments, monkeypatch, capsys)
        return subprocess.CompletedProcess(arguments, status, output.out, output.err)

    return run


@pytest.fixture
def alone(inside):
    """Return a function that runs the command in this process as if no server was configured."""

    def run(*arguments):
        with temporary_settings(restore_defaults={PREFECT_API_URL}):
            return inside(*arguments)

    return run


@pytest.fixture
def told(alone):
    """Return a function that gives wrong input to the command, without a server, and returns the line that is told."""
    return lambda *arguments: one_line(alone(*arguments))


@pytest.fixture
def with_server(environment, prefect_server):
    """Return the environment of a user who has a Prefect server, so that no private one has to start."""
    return {**environment, "PREFECT_API_URL": PREFECT_API_URL.value()}


def one_line(result):
    """Check that wrong input was answered with one line and exit status 2, and return the line."""
    assert result.returncode == 2
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    return line


def test_run(first, environment):
    """A run prints the comparison, exports it, and ends when its server has recorded every task."""
    folder, result = first
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].startswith("PyTorch: ")
    assert any(line.split()[:2] == ["backend", "initializer"] for line in lines)
    assert "steps of 0.033" in result.stdout
    recorded = task_runs(environment)
    assert len(recorded) == 8 + 6  # a task a cell, and check_parity, collect, compare, publish, crown for each backend
    assert {state for _, state in recorded} == {"COMPLETED"}
    assert ("pytorch · he_normal · seed 3", "COMPLETED") in recorded
    cells = pd.read_csv(folder / "out" / "cells.csv")
    assert {
        *("study", "backend", "initializer", "seed", "status", "test_accuracy", "test_loss", "train_loss"),
        *("epochs_to_target", "train_seconds", "run_id"),
    } <= set(cells)
    assert cells["status"].tolist() == ["finished"] * 8
    assert sorted(path.name for path in (folder / "out").iterdir()) == [
        *("backends.csv", "cells.csv", "checks.csv", "comparison.csv", "comparison.md", "comparison.tex"),
        *("pairs.csv", "parity.csv", "ranks.csv", "report.html"),
    ]


def test_report_and_compare(first, inside, told, monkeypatch):
    """A report is rebuilt from the store; two runs are set side by side, here a run and itself; a bad id is refused."""
    folder, _ = first
    monkeypatch.chdir(folder)
    result = inside("report", "latest", "--out", "again")
    assert result.returncode == 0, result.stderr
    assert (folder / "again" / "report.html").read_text() == (folder / "out" / "report.html").read_text()
    result = inside("compare", "latest", "latest", "--out", "beside")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("8 cells are in both runs, 8 of them equal in every digit;")
    assert set(pd.read_csv(folder / "beside" / "cells.csv")["in"]) == {"both"}
    assert "The answer does not change" in (folder / "beside" / "compare.html").read_text()
    assert "has a run id that starts with 'abc'" in told("compare", "latest", "abc", "--out", "none")
    assert not (folder / "none").exists()


def test_nothing_but_progress_is_heard(first):
    """No log of TensorFlow, Prefect or MLflow reaches the user: stderr is the progress bar."""
    _, result = first
    for line in result.stderr.replace("\r", "\n").splitlines():
        assert line.startswith("small: ") or not line.strip(), line
    assert "100%" in result.stderr


@pytest.mark.usefixtures("trainers", "prefect_server")
def test_longer_study_trains_what_is_missing(first, inside, monkeypatch):
    """A dry run tells what would be trained; the run trains just that, and tables all of it."""
    folder, _ = first
    monkeypatch.chdir(folder)
    more = ("run", "small.yaml", "--set", "seeds=[3, 0, 7]", "--set", "backends=[keras, pytorch]", "--no-parity")
    plan = inside(*more, "--dry-run")
    assert plan.returncode == 0
    assert "12: 4 to train in 4 tasks, 8 reused" in plan.stdout
    assert "keras · zeros · seeds 7\n" in plan.stdout
    result = inside(*more, "--export", "more")
    assert result.returncode == 0, result.stderr
    with get_client(sync_client=True) as client:
        (run, *_) = client.read_flow_runs(sort=FlowRunSort.START_TIME_DESC, limit=1)
        tasks = client.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run.id])))
    assert len([task.name for task in tasks if "·" in task.name]) == 4
    before, after = (pd.read_csv(folder / out / "cells.csv") for out in ("out", "more"))
    assert len(after) == 12
    assert set(before["run_id"]) < set(after["run_id"])


def test_dry_run_leaves_nothing(folder, alone):
    """A dry run in an empty folder prints the grid and makes no file."""
    result = alone("run", "--dry-run")
    assert result.returncode == 0
    assert "160: 160 to train in 160 tasks, 0 reused" in result.stdout
    assert "12: 4 to train" in result.stdout  # the controls, but for those that are cells of the study as well
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "irs"], "no study 'irs'; did you mean 'iris'? Choose one of controls, datasets"),
        (["run", "--set", "recipe.epochs=0"], "recipe.epochs: Input should be greater than or equal to 1; got 0"),
        (["run", "--epochs", "3"], "No such option"),
        (["run", "--set", "controls=contrls"], "controls must be a study that has checks: controls, deep-relu"),
        (["run", "--set", "dataset={path: /etc/hostname, target: a}"], "in a folder that INITBENCH_DATA lists"),
        (
            ["run", "--set", "dataset={path: absent.csv, target: a}"],
            "that can be read; absent.csv: No such file",
        ),
        (["run", "--audit"], "audit needs network.build"),
        (["run", "--audit", "--set", "audit=false"], "must not undo an earlier one; audit undoes audit"),
        (["runn"], "No such command"),
        (["studies", "irs"], "no study 'irs'"),
        (["run", "--set", "seeds=1", "--set", "seeds=2"], "must not undo an earlier one; seeds undoes seeds"),
        (
            ["run", "--set", "split.test_fraction=0.9999"],
            "error: split.test_fraction: both parts must have",
        ),
        (["run", "--export", "/etc/hostname/x"], "error: /etc/hostname/x: Not a directory"),
        (
            ["run", "--set", "dataset={path: a, path: b}"],
            "valid YAML: line 1, column 11: the key 'path' is given twice",
        ),
    ],
)
def test_invalid_input(folder, told, arguments, words):
    """Wrong input is one line that says what is wrong, exit status 2, and nothing is made."""
    early = arguments[0] != "run" or "--export" in arguments
    dry = [] if early else ["--dry-run"]  # else a server would begin to start
    assert words in told(*arguments, *dry)
    assert list(folder.iterdir()) == []


def test_invalid_input_of_a_run(tmp_path, initbench):
    """A run that is to train tells a wrong study in the same way."""
    assert "no study 'irs'; did you mean 'iris'?" in one_line(initbench(tmp_path, "run", "irs"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("prefect_server")
def test_invalid_data_of_a_run(folder, inside):
    """A run that is to train tells wrong data in the same way."""
    line = one_line(inside("run", "--set", "dataset={path: /etc/hostname, target: a}"))
    assert "in a folder that INITBENCH_DATA lists" in line
    assert list(folder.iterdir()) == []


def test_a_prefect_server_that_does_not_answer(folder, inside):
    """A configured server that does not answer is told in one line before anything runs."""
    for command in ("run", "deploy"):
        with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
            line = one_line(inside(command))
        assert "PREFECT_API_URL must be the address of a running" in line
    assert list(folder.iterdir()) == []


@pytest.mark.usefixtures("prefect_server")
def test_an_mlflow_server_that_does_not_answer(folder, inside, monkeypatch):
    """So is a configured store that does not."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9/api")
    assert "MLFLOW_TRACKING_URI must be the address of a running" in one_line(inside("run"))


def test_home_that_cannot_be_written_to(tmp_path, initbench):
    """A home in which the private server could not keep its data is told at once, instead of waiting for the server."""
    (tmp_path / "file").touch()
    line = one_line(initbench(tmp_path, "run", PREFECT_HOME=str(tmp_path / "file" / "home")))
    assert line.startswith("error: PREFECT_HOME must be a folder that can be written to: ")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_private_server_that_cannot_start(folder, inside, monkeypatch):
    """A private server that ends as it starts, here because a newer Prefect made its database, is told at once."""
    file = folder / "prefect.db"
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("CREATE TABLE alembic_version (version_num)")
        database.execute("INSERT INTO alembic_version VALUES ('newer')")
    url = f"sqlite+aiosqlite:///{file}"
    monkeypatch.setenv(PREFECT_API_DATABASE_CONNECTION_URL.name, url)
    monkeypatch.setattr(server, "_start_private", cache(server._start_private.__wrapped__))
    small = ("--set=backends=[pytorch]", "--set=initializers=[zeros]", "--set=seeds=1", "--set=controls=null")
    with temporary_settings({PREFECT_API_DATABASE_CONNECTION_URL: url}, restore_defaults={PREFECT_API_URL}):
        line = one_line(inside("run", *small))
    assert line == (
        "error: Prefect's server must start, but it ended: alembic.util.exc.CommandError: Can't locate revision "
        "identified by 'newer'; see what `prefect server start` says, and if its database is at fault, delete it (it "
        f"holds no result): rm '{file}'*"
    )


def test_store_that_cannot_be_used(folder, told):
    """A dry run refuses a store that cannot hold a benchmark, here one whose folder of files is a file."""
    (folder / "mlruns").touch()
    assert "the store cannot be used: " in told("run", "--dry-run")


def test_failed_cells_exit_1(stored, initbench, with_server):
    """Cells that cannot be trained are rows with a reason, and the exit status is 1."""
    program = stored / "nvidia-smi"
    program.write_text("#!/bin/sh\necho '0, GPU-a, NVIDIA X, 1.0'\n")  # a GPU that this build of PyTorch cannot use
    program.chmod(0o755)
    (stored / "small.yaml").write_text(STUDY)
    one = ("--set", "backends=[pytorch]", "--set", "initializers=[zeros]", "--set", "seeds=1")
    path = f"{stored}:{os.environ['PATH']}"
    url = with_server["PREFECT_API_URL"]
    result = initbench(stored, "run", "small.yaml", *one, "--export", "out", PATH=path, PREFECT_API_URL=url)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1] == "Error: 1 of 1 cells failed; the reasons are in cells.csv"
    assert "1 failed with: UnusableSlotError: GPU 0 is visible" in result.stdout
    assert "Traceback" not in result.stderr
    (cell,) = pd.read_csv(stored / "out" / "cells.csv").to_dict("records")
    assert cell["status"] == "failed"
    assert "set CUDA_VISIBLE_DEVICES=-1 to train on the CPU" in cell["reason"]


def test_an_error_that_an_interrupt_ends_in(monkeypatch, capsys):
    """Where ending after Ctrl-C fails, the command still says that it was interrupted, and nothing else."""

    def interrupted(**_):
        try:
            raise KeyboardInterrupt
        finally:
            raise click.ClickException("the store is busy") from None

    monkeypatch.setattr(cli.cli, "main", interrupted)
    with pytest.raises(SystemExit, match="130"):
        cli.main()
    assert capsys.readouterr().err == "interrupted; the next run reuses the cells recorded so far\n"


@pytest.mark.parametrize(("sent", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)])
def test_interrupt(tmp_path, environment, with_server, eventually, sent, status):
    """Ctrl-C or a termination ends a long run soon, without a traceback, and leaves no run open."""
    long = [INITBENCH, "run", "--set", "recipe.epochs=10000", "--no-parity"]
    private = sent is signal.SIGINT  # Ctrl-C reaches a private server and several trainers, too
    there, long = (environment, long) if private else (with_server, [*long, "--set", "backends=[pytorch]"])
    run = subprocess.Popen(long, cwd=tmp_path, env=there, start_new_session=True, stderr=subprocess.PIPE, text=True)
    store = tmp_path / "mlflow.db"

    def states():
        with closing(sqlite3.connect(store)) as database:
            return {state for (state,) in database.execute("SELECT status FROM runs")}

    try:
        eventually(lambda: store.exists() and store.with_name("mlruns").exists() and "RUNNING" in states())
        (os.killpg if sent is signal.SIGINT else os.kill)(run.pid, sent)
        _, errors = run.communicate(timeout=150)
    finally:
        run.kill()
    assert run.returncode == status, errors
    assert "Traceback" not in errors
    assert states() == {"KILLED"}


def test_studies(inside):
    """The studies that ship are listed with what they are, and each can be printed as YAML."""
    listed = inside("studies").stdout
    assert "160 cells" in listed
    assert "notebook" in listed
    assert "learning_rate: 0.01" in inside("studies", "iris").stdout


def example(folder, section, language):
    """Return the example of a language in a section of a folder's README."""
    text = (ROOT / folder / "README.md").read_text().partition(f"## {section}\n")[2]
    return text.partition(f"```{language}\n")[2].partition("```")[0]


@pytest.mark.usefixtures("prefect_server")
def test_example_study(folder, inside):
    """The README's study is one: every setting in it is allowed, and its grid is what it says."""
    (folder / "mine.yaml").write_text(example("flows/studies", "What a study can ask for", "yaml"))
    result = inside("run", "mine.yaml", "--dry-run")
    assert result.returncode == 0, result.stderr
    assert "240: 240 to train" in result.stdout  # 2 backends x 2 depths x 3 remedies x 4 initializers x 5 seeds


@pytest.mark.usefixtures("prefect_server")
def test_package_adds_an_initializer(stored, inside, told, trainers):
    """The README's package, once installed, brings an initializer that takes parameters, trains, and is marked."""
    package, site = stored / "package", stored / "site"
    package.mkdir()
    (package / "pyproject.toml").write_text(example("tasks/core/design", "An initializer of your own", "toml"))
    (package / "initbench_sparse.py").write_text(example("tasks/core/design", "An initializer of your own", "python"))
    install = ["pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--target", str(site)]
    subprocess.run([sys.executable, "-m", *install, str(package)], check=True, capture_output=True)
    (stored / "sparse.yaml").write_text(STUDY.replace("[he_normal, zeros]", "[{name: sparse, connections: 2}]"))
    with packages.found(str(site), trainers):
        result = inside("run", "sparse.yaml", "--export", "out", "--no-parity")
        wrong = told("run", "sparse.yaml", "--set", "initializers=[sparse(connections=0)]", "--dry-run")
    assert result.returncode == 0, result.stderr
    assert "sparse(connections=2) †" in result.stdout
    assert "† Drawn once in NumPy and copied into both backends: sparse(connections=2)." in result.stdout
    assert pd.read_csv(stored / "out" / "cells.csv")["status"].tolist() == ["finished"] * 4
    assert "sparse's connections: Input should be greater than 0; got 0" in wrong
    assert "unknown initializer 'sparse'" in told("run", "sparse.yaml", "--dry-run")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("deploy",), "PREFECT_API_URL must be the address of a Prefect server"),
        (("worker", "keras"), "runner: workers needs servers that the workers reach as well"),
        (("up", "--prefect-port", "5000"), "--prefect-port and --mlflow-port must differ; got 5000 for both"),
        (("up", "--mlflow-port", "70000"), "Invalid value for '--mlflow-port': 70000 is not in the range"),
        (("up", "--timezone", "Mars"), "--timezone must be one of the IANA names, like Europe/Paris; got 'Mars'"),
        (("up", "--postgres", "mysql://me@host/x"), "--postgres must be a URL like postgresql://"),
    ],
)
def test_servers_that_cannot_be(folder, told, arguments, words):
    """Options that cannot work give one line, and nothing is made."""
    assert words in told(*arguments)
    assert list(folder.iterdir()) == []


def test_ui_on_a_port_that_is_taken(folder, told):
    """Somebody who listens there already is told of in one line."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert f"--port must be free; {port} on 127.0.0.1" in told("ui", "--port", port)


def test_ui(first, environment, eventually):
    """The MLflow UI answers on the folder's results, and ends when it is told to."""
    folder, _ = first
    port = "5923"
    server = subprocess.Popen([INITBENCH, "ui", "--port", port], cwd=folder, env=environment, stderr=subprocess.DEVNULL)

    def answers():
        try:
            return urllib.request.urlopen(f"http://127.0.0.1:{port}/health").status == 200
        except OSError:
            return False

    try:
        eventually(answers)
    finally:
        server.terminate()
        server.wait(60)
