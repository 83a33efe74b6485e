"""`initbench doctor`: check this environment, and print one line for each check.

Checks create no files. A package that may be broken is imported inside its check, so that the other checks still run.
"""

import importlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from pathlib import Path
from threading import Timer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tasks.core.design.initializers import Backend
    from tasks.trainers.process import Slot

ROOT = Path(__file__).parents[2]
LOCK = ROOT / "infra" / "requirements.txt"
REINSTALL = shlex.join([sys.executable, "-m", "pip", "install", "--requirement", str(LOCK)])
REPAIR = f"{REINSTALL}  # add --force-reinstall if nothing is missing"
SHOWN = 5  # packages that differ and are named in a line
START_SECONDS = 600  # a framework that has not loaded by then never will: on two slow, busy cores it took two minutes
ANSWER_SECONDS = 5
REFUSED = (401, 403)
WAL = b"\2\2"  # bytes 18 and 19 of an SQLite file in WAL mode; opening the database would make files beside it
GIB = 2**30


@dataclass(frozen=True)
class Line:
    """The name and the finding of a check. A line with a remedy is a problem."""

    name: str
    found: str
    remedy: str = ""

    def __str__(self) -> str:
        line = f"{'problem' if self.remedy else 'ok':9}{self.name:19}{self.found}"
        return f"{line}\n{'':9}{self.remedy}" if self.remedy else line


def examine() -> Iterator[Line]:
    """Run all checks at the same time; yield their lines in the order of CHECKS, which has the slowest last."""
    with suppress(ImportError):  # threads that import parts of one package at once may find them half loaded
        importlib.import_module("flows.serving.deployments")
    with ThreadPoolExecutor(len(CHECKS)) as threads:
        checks = [(name, threads.submit(list[Line], check())) for name, check in CHECKS.items()]
        for name, check in checks:
            try:
                yield from check.result()
            except Exception as error:  # of any kind: the other checks must be shown
                remedy = REPAIR if isinstance(error, ImportError) else "repair what the error names"
                yield Line(name, _said(error), remedy)


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0]  # the module of `first_line` may not import


def python() -> Iterator[Line]:
    """Compare the Python interpreter with the versions that initbench supports."""
    from packaging.specifiers import SpecifierSet

    here, asked = ".".join(map(str, sys.version_info[:3])), metadata("initbench")["Requires-Python"]
    remedy = "" if here in SpecifierSet(asked) else f"initbench needs {asked}; PYTHON=python3.x infra/bench"
    yield Line("Python", here, remedy)


def packages() -> Iterator[Line]:
    """Compare the installed packages with the lock, infra/requirements.txt."""
    from packaging.requirements import Requirement

    try:
        lock, project = LOCK.read_text(), tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    except FileNotFoundError as error:
        yield Line("packages", f"cannot be compared with the lock: {error.filename} is missing")
        return
    names = re.findall(r"^[\w.-]+", lock, re.MULTILINE)
    absent = _absent()
    wanted = [line for line in project["dependencies"] if Requirement(line).name not in absent]
    differ = differing(lock, {name: found for name in names if (found := _version(name))}, _needed(wanted))
    if differ:
        more = f"; and {len(differ) - SHOWN} more" if len(differ) > SHOWN else ""
        # installing an absent framework would overwrite CUDA libraries of the other one
        named = shlex.join(line.partition(" ")[0] for line in differ)
        mend = f"{sys.executable} -m pip install --constraint {LOCK} {named}" if absent else REINSTALL
        yield Line("packages", f"not as locked: {'; '.join(differ[:SHOWN])}{more}", mend)
    else:
        yield Line("packages", f"as locked in {LOCK}")


def _absent() -> set[str]:
    """Return the packages of the backends that are left out of this environment on purpose.

    A backend is left out if none of its packages is installed and another backend is there. If no backend is there,
    none was left out on purpose.
    """
    from tasks.machine import FRAMEWORK_PACKAGES

    lacking = [names for names in FRAMEWORK_PACKAGES.values() if not any(map(_version, names))]
    return {name for names in lacking for name in names} if len(lacking) < len(FRAMEWORK_PACKAGES) else set()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def differing(lock: str, installed: Mapping[str, str], needed: Collection[str]) -> list[str]:
    r"""Return the differences between installed versions and the lock; only needed packages have to be installed.

    >>> differing("torch==2.13.0\nnumpy==2.4.1\npytest==9.2.0", {"torch": "2.13.0+cpu"}, needed=["torch", "numpy"])
    ['numpy is missing']
    """
    from packaging.requirements import Requirement

    differ = []
    for line in re.findall(r"^[\w.-]+==[^#\n]+", lock, re.MULTILINE):
        asked = Requirement(line)
        if asked.marker and not asked.marker.evaluate():
            continue
        found = installed.get(asked.name)
        if found and not asked.specifier.contains(found, prereleases=True):  # == accepts local versions, like +cpu
            differ.append(f"{asked.name} {found}, not {str(asked.specifier).removeprefix('==')}")
        if not found and asked.name in needed:
            differ.append(f"{asked.name} is missing")
    return differ


def _needed(dependencies: Iterable[str]) -> set[str]:
    """Return the names of packages and of all their dependencies, as far as the installed packages list them."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    seen: set[tuple[str, str]] = set()  # pairs of a name and an extra, or an empty string
    todo = [(line, "") for line in dependencies]
    while todo:
        line, extra = todo.pop()
        asked = Requirement(line)
        if asked.marker is None or asked.marker.evaluate({"extra": extra}):
            new = {(canonicalize_name(asked.name), each) for each in ("", *asked.extras)} - seen
            seen |= new
            todo += [(line, extra) for name, extra in new if _version(name) for line in requires(name) or ()]
    return {name for name, _ in seen}


def prefect_server() -> Iterator[Line]:
    """Ask the configured Prefect server for its version, and whether a worker is there."""
    import httpx
    import prefect
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.objects import WorkPoolStatus
    from prefect.exceptions import ObjectNotFound
    from prefect.settings import (
        PREFECT_API_REQUEST_TIMEOUT,
        PREFECT_API_URL,
        PREFECT_CLIENT_MAX_RETRIES,
        temporary_settings,
    )

    from flows.serving.deployments import POOL

    url: str | None = PREFECT_API_URL.value()
    if url is None:
        yield Line("Prefect server", "none is configured: each run starts a private one")
        return
    hasty = {PREFECT_API_REQUEST_TIMEOUT: ANSWER_SECONDS, PREFECT_CLIENT_MAX_RETRIES: 0}
    try:
        with temporary_settings(hasty), get_client(sync_client=True) as client:
            served, here = client.api_version(), prefect.__version__
            found = f"{_shown(url)}, version {served}"
            if served == here:
                yield Line("Prefect server", found)
            else:
                yield Line("Prefect server", f"{found}, not {here} as here", f"pip install prefect=={here}  # there")
            try:
                ready = client.read_work_pool(POOL).status is WorkPoolStatus.READY
            except ObjectNotFound:
                yield Line("worker", f"none is needed: there is no work pool {POOL}, which `infra/bench deploy` makes")
                return
            yield Line(
                "worker",
                f"{'at work' if ready else 'none at work'} for the pool {POOL}",
                "" if ready else f"prefect work-pool resume {POOL}; prefect worker start --pool {POOL} --type process",
            )
    except (httpx.HTTPError, ValueError) as error:
        yield _unusable("Prefect server", "PREFECT_API_URL", url, error)


def mlflow_server() -> Iterator[Line]:
    """Ask the configured MLflow server, or PostgreSQL, whether it accepts our credentials."""
    name, variable, uri = "MLflow server", "MLFLOW_TRACKING_URI", os.environ.get("MLFLOW_TRACKING_URI")
    if not uri:
        yield Line(name, "none is configured: results are kept in the current folder")
    elif uri.startswith("http"):
        import httpx

        user, token = os.environ.get("MLFLOW_TRACKING_USERNAME"), os.environ.get("MLFLOW_TRACKING_TOKEN")
        try:
            answer = httpx.post(
                f"{uri.rstrip('/')}/api/2.0/mlflow/experiments/search",
                json={"max_results": 1},
                auth=(user, os.environ.get("MLFLOW_TRACKING_PASSWORD", "")) if user else None,
                headers={"Authorization": f"Bearer {token}"} if token and not user else {},
                timeout=ANSWER_SECONDS,
            )
            answer.raise_for_status().json()
            yield Line(name, _shown(uri))
        except (httpx.HTTPError, ValueError) as error:
            yield _unusable(name, variable, uri, error)
    elif uri.startswith("postgresql"):
        from sqlalchemy import NullPool, create_engine
        from sqlalchemy.exc import SQLAlchemyError

        from tasks import postgres

        try:
            create_engine(uri, poolclass=NullPool, connect_args={"connect_timeout": ANSWER_SECONDS}).connect().close()
            url = postgres.url_of(uri)
            half = postgres.remedy(url) if url and postgres.half_made(url) else ""
            yield _fault(name, half, "") if half else Line(name, f"none; {_shown(uri)} lets us in")
        except (SQLAlchemyError, ImportError, OSError) as error:
            example = "postgresql+psycopg://user:password@host:5432/database"
            yield Line(name, f"none; {_shown(uri)}: {_said(error)}", f"{variable} must be like {example}")
    else:
        yield Line(name, f"none; {_shown(uri)} is configured")


def _shown(url: str) -> str:
    return re.sub("//.*@", "//", url)  # no password


def _unusable(name: str, variable: str, url: str, error: Exception) -> Line:
    url, answer = _shown(url), getattr(error, "response", None)  # the message of httpx may show a password in the URL
    if answer is None:
        return Line(name, f"{url} does not answer: {_said(error)}", f"infra/bench up; or unset {variable}")
    if answer.status_code in REFUSED:
        remedy = "set -a; . .initbench/secrets.env  # in the folder where it was started"
        return Line(name, f"{url} refuses our credentials: {answer.status_code}", remedy)
    return Line(name, f"{url} answers {answer.status_code}", f"{variable} must name such a server, or be unset")


def sqlite_store() -> Iterator[Line]:
    """Look at MLflow's SQLite store, and at the folder in which it is, or will be made."""
    from tasks import sqlite
    from tasks.tracking import local

    uri, here = os.environ.get("MLFLOW_TRACKING_URI", ""), f"sqlite:///{Path.cwd() / 'mlflow.db'}"
    file = sqlite.file_of(uri or here)
    if file and (words := local.fault(file)):
        yield _fault("store", words, "work in another folder, or set MLFLOW_TRACKING_URI")
    else:
        yield store("store", uri if uri.startswith("sqlite") else here)
        deleted = local.deleted(file) if file else []
        if deleted:
            yield Line("store", f"deleted, so that runs of their studies are refused: {', '.join(deleted)}")


def prefect_database() -> Iterator[Line]:
    """Look at Prefect's own database, and at the folder in which it is, or will be made."""
    importlib.import_module("prefect")  # waits where another check imports it; importing a part of it would not
    from prefect.settings import PREFECT_API_DATABASE_CONNECTION_URL as URL

    from flows.serving.server import home_fault

    name = "Prefect's database"
    words = home_fault()
    yield _fault(name, words, "set PREFECT_HOME to another folder") if words else store(name, URL.value())


def _fault(name: str, words: str, otherwise: str) -> Line:
    """Return the line of a fault whose words may end with its remedy; otherwise give another one."""
    found, _, remedy = words.partition("; ")
    return Line(name, found, remedy or otherwise)


def store(name: str, url: str) -> Line:
    """Tell whether a store is in WAL mode; in other modes, writers and readers wait for each other."""
    if not url.startswith("sqlite"):
        return Line(name, f"{_shown(url)}, which has no WAL mode to be in")
    file = Path(url.partition(":///")[2].partition("?")[0])
    if not file.is_file():
        return Line(name, f"none yet: {file}")
    with file.open("rb") as readable:
        if readable.read(20)[18:] == WAL:
            return Line(name, f"{file}, in WAL mode")
    program = f'import sqlite3; sqlite3.connect({json.dumps(str(file))}).execute("PRAGMA journal_mode=WAL")'
    return Line(name, f"{file} is not in WAL mode", shlex.join([sys.executable, "-c", program]))


def disks() -> Iterator[Line]:
    """Read how much disk space is left where results, flow runs and temporary files are kept."""
    yield disk("disk, here", Path.cwd(), "free some space, or work in a folder on another disk")
    home = Path(os.environ.get("PREFECT_HOME", "~/.prefect")).expanduser()
    yield disk("disk, Prefect", home, "free some space, or set PREFECT_HOME to a folder on another disk")
    temporary = Path(tempfile.gettempdir())
    yield disk("disk, temporary", temporary, "free some space, or set TMPDIR to a folder on another disk")


def disk(name: str, folder: Path, remedy: str) -> Line:
    """Tell how much space is left in a folder, which need not exist yet."""
    there = next(each for each in (folder, *folder.absolute().parents) if each.exists())
    free = shutil.disk_usage(there).free
    return Line(name, f"{free / GIB:.1f} GiB free in {folder}", remedy if free < GIB else "")


def frameworks() -> Iterator[Line]:
    """List the GPUs, and start a trainer for each backend on each GPU or, without GPUs, on the CPU."""
    from tasks import machine
    from tasks.trainers import process

    absent = _absent()
    here = [backend for backend, names in machine.FRAMEWORK_PACKAGES.items() if not absent.issuperset(names)]
    gpus = machine.gpus()
    if gpus:
        yield Line("GPUs", "; ".join(f"{gpu.index}: {gpu.name}, driver {gpu.driver}" for gpu in gpus))
    else:
        yield _no_gpus()
    slots = dict.fromkeys(process.slots([gpu.index for gpu in gpus], machine.processors()))  # CPU slots are all equal
    with (
        tempfile.TemporaryDirectory(prefix="initbench-doctor-") as logs,
        ThreadPoolExecutor(len(slots) * len(here)) as threads,
    ):
        started = [threads.submit(trainer, backend, slot, Path(logs)) for slot in slots for backend in here]
        yield from (each.result() for each in started)


def _no_gpus() -> Line:
    fine = Line("GPUs", "none: cells train on the CPU, which is fine")
    if not shutil.which("nvidia-smi"):
        return fine
    asked = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True)
    said = f"{asked.stdout}{asked.stderr}".strip().partition("\n")[0]
    return Line("GPUs", f"nvidia-smi fails: {said}", "repair the NVIDIA driver") if asked.returncode else fine


def trainer(backend: "Backend", slot: "Slot", logs: Path) -> Line:
    """Start a trainer for a backend on a slot, stop it, and tell whether it started."""
    from tasks.trainers.process import Trainer, UnusableSlotError

    where = "the CPU" if slot.gpu is None else f"GPU {slot.gpu}"
    started = Trainer(backend, slot, logs / f"{backend}-{slot.gpu}.log")
    limit = Timer(START_SECONDS, started.stop)
    limit.start()
    try:
        started.start()
    except UnusableSlotError as error:
        found, _, remedy = str(error).partition("; ")
        return Line(backend, found, f"{remedy}, or leave {backend} out of `--set backends=[...]`")
    except Exception as error:  # a framework may raise any error while it loads
        return Line(backend, f"does not start on {where}: {_said(error)}", REPAIR)
    finally:
        limit.cancel()
        started.stop()
    return Line(backend, f"starts on {where}")


CHECKS: dict[str, Callable[[], Iterator[Line]]] = {
    "Python": python,
    "packages": packages,
    "disk": disks,
    "MLflow server": mlflow_server,
    "Prefect server": prefect_server,
    "store": sqlite_store,
    "Prefect's database": prefect_database,
    "backends": frameworks,
}
