"""The `initbench` command.

Prefect, MLflow and pandas take seconds to import, so each command imports only the modules that it needs.
"""

import logging
import os
import socket
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfoNotFoundError, available_timezones

import click
from tzlocal import get_localzone_name

from flows import studies
from flows.serving import proxies
from tasks import documents
from tasks.core.design import grid
from tasks.core.design.initializers import BACKENDS, Backend
from tasks.core.design.own import Loaded
from tasks.core.design.settings import Network
from tasks.core.design.study import Study

if TYPE_CHECKING:
    from flows.result import BenchmarkResult
    from tasks.core.audit.findings import Severity

INVALID = 2
MIB = 2**20
INTERRUPTED = 130  # 128 + SIGINT, as shells count
LOGGING = {
    "PREFECT_LOGGING_LEVEL": "WARNING",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",  # the table and Prefect's page say why a task failed
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",  # it logs each error of the store with its traceback, and then raises it
}
QUIET = {
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "1",  # Prefect's telemetry
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "ALEMBIC_LOGGING_LEVEL": "WARNING",
}
SERVING = ("up", "deploy", "worker")  # the flow runs of these commands log to Prefect
PORT = click.IntRange(1, 65535)


def _here() -> str:
    """Return the name of this machine's timezone, or UTC if the machine does not say."""
    try:
        name = get_localzone_name()
    except ZoneInfoNotFoundError:  # the machine's settings contradict each other
        name = None
    return name if name in available_timezones() else "UTC"


def _timezone(context: click.Context, parameter: click.Parameter, name: str) -> str:  # noqa: ARG001  # click's signature
    if name not in available_timezones():
        raise Invalid(f"--timezone must be one of the IANA names, like Europe/Paris; got {name!r}")
    return name


TIMEZONE = click.option(
    "--timezone",
    envvar="INITBENCH_TIMEZONE",
    default=_here,
    show_default="this machine's",
    callback=_timezone,
    help="Timezone of the hour at which the nightly starts.",
)


SET = click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="Change a setting: recipe.epochs=50.")


class Invalid(click.ClickException):
    """Wrong input: the command prints one line for each fault, and runs nothing."""

    exit_code = INVALID

    def show(self, file: object = None) -> None:  # noqa: ARG002  # click's signature
        for line in self.message.splitlines():
            click.echo(f"error: {line}", err=True)


@contextmanager
def refusing() -> Iterator[None]:
    """Turn errors about the input into Invalid, so that the user sees a line and no traceback."""
    try:
        yield
    except OSError as error:
        raise Invalid(_told(error)) from None
    except ValueError as error:
        raise Invalid(str(error)) from None


def _told(error: OSError) -> str:
    """Return the system's words, after the name of the file if there is one: `out/x: Not a directory`."""
    return f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error)


@click.group()
@click.version_option(package_name="initbench")
@click.pass_context
def cli(context: click.Context) -> None:
    """Compare weight initializers, in PyTorch and Keras, with evidence."""
    proxies.bypass()
    warnings.filterwarnings("ignore", "Failed to create the Prefect home")  # `server.check_home` tells it as a fault
    for name, value in (QUIET if context.invoked_subcommand in SERVING else QUIET | LOGGING).items():
        os.environ.setdefault(name, value)
    logging.raiseExceptions = False  # a message that cannot be logged, as when all ends, is no reason for a traceback


@cli.command()
@click.argument("study", default="iris", metavar="[NAME|FILE.yaml]")
@SET
@click.option(
    "--export", type=click.Path(file_okay=False, path_type=Path), help="Copy report and tables into this folder."
)
@click.option("--fresh", is_flag=True, help="Train every cell again, also cells that an earlier run finished.")
@click.option("--parity/--no-parity", default=True, help="Check that the backends compute what the study asks for.")
@click.option("--audit", is_flag=True, help="Audit the study's own network before it trains; short for audit=true.")
@click.option("--dry-run", is_flag=True, help="Print the grid and the cells to train; train nothing.")
def run(
    study: str, changes: tuple[str, ...], export: Path | None, fresh: bool, parity: bool, audit: bool, dry_run: bool
) -> None:
    """Train a study's grid and print the comparison. Cells that an earlier run finished are reused.

    Exit status: 0 if every cell finished or diverged; 1 if a cell failed or a control misbehaved; 2 if the input is
    invalid.
    """
    with refusing():
        asked = _loaded(study, (*changes, *(["audit=true"] if audit else [])))
        if dry_run:
            from flows.planning import plan

            click.echo(plan(asked, fresh=fresh))
            return
        if export:
            export.mkdir(parents=True, exist_ok=True)
    found, failure = _train(asked, fresh=fresh, parity=parity)

    from tasks.tracking import benchmarks, store

    click.echo("\n".join([*found.headline, ""]))
    click.echo(found.table)
    click.echo("\n".join(["Details", *(f"- {line}" for line in found.details), ""]))
    unserved = "" if store.served() else " (once `initbench ui` serves it)"
    click.echo(f"MLflow run: {found.link}{unserved}")
    if export:
        exported = benchmarks.export(found.run_id, export)
        click.echo(f"Exported {', '.join(exported)} to {export}")
    if failure:
        raise failure


def _loaded(study: str, changes: tuple[str, ...]) -> Study:
    """Return a study with changes; code of its own may be imported from its folder and the current one."""
    asked = studies.load(study, changes)
    if not isinstance(asked.network, Network) or isinstance(asked.dataset, Loaded):
        from tasks import user_code

        user_code.allow(*([Path(study).parent] if study not in studies.names() else []), Path.cwd())
    return asked


def _train(study: Study, *, fresh: bool, parity: bool) -> tuple["BenchmarkResult", click.ClickException | None]:
    """Return the result, and the error with which the command has to end, if any."""
    from flows.serving import server

    with refusing():
        server.start()  # first, because its start takes the longest
    import httpx

    from flows.benchmark import benchmark
    from flows.planning import ready
    from flows.result import BenchmarkError
    from tasks.core.training.outcome import first_line
    from tasks.core.training.parity import ParityError
    from tasks.here import trainers
    from tasks.tracking.store import RecordError, StoreError
    from tasks.trainers.process import TrainerError

    with ExitStack() as held:
        with refusing():
            pool = held.enter_context(trainers(study.backends))
            todo = ready(study, fresh=fresh)
        for words in todo.notes:
            click.echo(f"note: {words}", err=True)
        if todo.left and study.runner == "local":
            pool.warm_up()  # frameworks load while the server starts
        try:
            return benchmark(todo, parity=parity), None
        except BenchmarkError as error:
            return error.result, click.ClickException(str(error))
        except server.ServerError as error:
            raise Invalid(str(error)) from None
        except httpx.HTTPError as error:
            said = first_line(error) or type(error).__name__
            words = f"Prefect's server failed; the cells recorded so far will be reused: {said}"
            raise click.ClickException(words) from None
        except (ParityError, RecordError, StoreError, TrainerError, OSError) as error:
            raise click.ClickException(str(error)) from None


@cli.command()
@click.argument("run_id", metavar="RUN_ID|latest")
@click.option(
    "--out",
    default="report",
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the report.",
)
def report(run_id: str, out: Path) -> None:
    """Write the report of an earlier benchmark again, from its record in MLflow.

    RUN_ID is the id of its MLflow run, or a start of the id that no other benchmark has, or `latest`.
    """
    from tasks import comparison
    from tasks.core.report.answer import answer

    with refusing():
        benchmark, findings = comparison.rebuild(run_id, out)
    click.echo("\n".join([*answer(findings), ""]))
    click.echo(f"Wrote {out / 'report.html'} and its tables, of {benchmark.link}")


@cli.command()
@click.argument("run_a", metavar="RUN_A")
@click.argument("run_b", metavar="RUN_B")
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), help="Write a page, all cells and all verdicts there."
)
def compare(run_a: str, run_b: str, out: Path | None) -> None:
    """Set two benchmarks side by side, to see whether the answer changes.

    RUN_A and RUN_B are the ids of their MLflow runs, or starts of them that no other benchmark has, or `latest`.
    """
    from tasks import comparison

    with refusing():
        beside = comparison.side_by_side(run_a, run_b, out)
    click.echo(beside.as_text())
    if out:
        click.echo(f"Wrote compare.html, cells.csv and verdicts.csv to {out}")


@cli.command()
@click.argument("night", metavar="NIGHT|latest")
@click.option(
    "--study",
    "studies",
    multiple=True,
    help="A study whose baseline the night becomes; by default all of the night's.",
)
@click.option("--why", required=True, help="Why the numbers of that night are the right ones.")
def accept(night: str, studies: tuple[str, ...], why: str) -> None:
    """Make a night the baseline that later nights are held against.

    NIGHT is its name, as the page of the watch has it, or `latest`.
    """
    from tasks.tracking import nights

    with refusing():
        name, chosen = nights.accept(night, studies, why)
    click.echo(f"{name} is the baseline of {', '.join(chosen)}: {why}")


@cli.command()
@click.argument("study")
@click.argument("package")
@click.argument("good")
@click.argument("bad")
@SET
def bisect(study: str, package: str, good: str, bad: str, changes: tuple[str, ...]) -> None:
    """Find the first version of a package that changes the numbers of a study.

    GOOD is a version with the old numbers, and BAD a later one. Each version is installed into an environment of its
    own that is deleted afterwards; nothing is recorded.
    """
    from flows import bisect as bisecting

    with refusing():
        asked = _loaded(study, changes)
        found = bisecting.bisect(asked, package, good, bad, told=click.echo)
    click.echo(found)


@cli.command()
@click.option("--keep", type=click.IntRange(min=1), default=30, show_default=True, help="Newest nights that keep all.")
@click.option("--dry-run", is_flag=True, help="Say what would be deleted; delete nothing.")
def prune(keep: int, dry_run: bool) -> None:
    """Delete the weights and predictions of cells of old nights.

    Reports, tables, numbers and pages stay for ever, and so do all files of nights with a flag, of baselines and of
    champions.
    """
    from tasks.tracking import pruning

    with refusing():
        found = pruning.old(keep)
        for each in found:
            click.echo(f"{each.night}  {each.study:15}{each.size / MIB:9.1f} MiB")
        if not dry_run:
            pruning.prune(found)
    size, nights = sum(each.size for each in found) / MIB, len({each.night for each in found})
    click.echo(f"{'Would free' if dry_run else 'Freed'} {size:.1f} MiB of {nights} nights")


@cli.command("studies")
@click.argument("name", required=False)
def list_studies(name: str | None) -> None:
    """List the studies that ship or, given a NAME, print all settings of one."""
    with refusing():
        for each in [name] if name else studies.names():
            study = studies.load(each)
            if name:
                click.echo(documents.write(study.model_dump(mode="json")), nl=False)
            else:
                click.echo(f"{each:15}{studies.summary(each)} ({len(grid.cells(study))} cells)")


@cli.command()
@click.argument("name")
@click.option(
    "--backend", type=click.Choice(BACKENDS), default="pytorch", show_default=True, help="Framework of the example."
)
def new(name: str, backend: Backend) -> None:
    """Write a study NAME of a network of your own to start from, with its builder and its loader."""
    from flows import new as template

    with refusing():
        files = template.write(name, backend, Path.cwd())
    click.echo(f"Wrote {', '.join(files)}; `initbench run {files[0]} --dry-run` shows what it would train")


@cli.command()
@click.argument("target")
@click.argument("other", required=False)
@click.option(
    "--rules", type=click.Path(path_type=Path), help="What was meant: a YAML file of patterns and initializers."
)
@click.option("--option", "given", multiple=True, metavar="NAME=VALUE", help="An argument of the function.")
@click.option("--shape", metavar="3,32,32", help="Shape of a row, for the first pass.")
@click.option("--data", metavar="MODULE:FUNCTION", help="A function that returns x and y, for the first pass.")
@click.option("--backend", type=click.Choice(BACKENDS), help="The framework; by default it is found out.")
@click.option("--seeds", type=int, default=5, show_default=True, help="Under how many seeds the model is built.")
@click.option("--save", type=click.Path(dir_okay=False, path_type=Path), help="Write a snapshot, to compare with.")
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path), help="Write a page with pictures.")
@click.option("--json", "as_json", is_flag=True, help="Print the snapshot, for machines.")
@click.option("--fail-on", type=click.Choice(["fault", "doubt", "note"]), default="fault", show_default=True)
def audit(
    target: str, other: str | None, as_json: bool, fail_on: "Severity", save: Path | None, html: Path | None, **how: Any
) -> None:
    """Tell by what law each parameter of a model was drawn, and whether that is what was meant.

    TARGET names the function that builds the model, module:function or path/to/file.py:function, or is a snapshot. Two
    snapshots are compared. The model's code runs with your rights.

    Exit status: 0 without a fault; 1 if there is one, or if two snapshots differ; 2 if the input is invalid.
    """
    from flows import audit as auditing
    from tasks.core.report import audit_text

    if other:
        if given := _given(click.get_current_context()):
            raise Invalid(f"two snapshots are compared as they are, without options; got {', '.join(given)}")
        with refusing():
            compared = auditing.beside(target, other)
        click.echo(audit_text.side_by_side(compared, (target, other)))
        sys.exit(0 if compared.same else 1)
    with refusing():
        found = auditing.called(target, **how)
        if save:
            save.write_text(found.to_json())
        if html:
            html.write_text(auditing.page(found))
    click.echo(found.to_json() if as_json else audit_text.text(found), nl=not as_json)
    if found.fails(fail_on):
        sys.exit(1)


def _given(context: click.Context) -> list[str]:
    """Return the options that the command line gives."""
    options = [each for each in context.command.params if isinstance(each, click.Option)]
    return [
        each.opts[0]
        for each in options
        if context.get_parameter_source(each.name or "") is click.core.ParameterSource.COMMANDLINE
    ]


@cli.command()
@click.option("--port", type=PORT, default=5000, show_default=True, help="Port on this machine's loopback address.")
def ui(port: int) -> None:
    """Serve MLflow's page with the results in this folder.

    If MLFLOW_TRACKING_URI names another store, serve the results in that store.
    """
    from flows.serving.server import LOOPBACK, check_free, tuning
    from tasks.tracking import store

    with refusing():
        if store.served():
            raise Invalid(f"MLFLOW_TRACKING_URI must be a store without a server; open {store.uri()} in a browser")
        check_free("--port", port)
        store.open_store()
    command = [sys.executable, "-m", "mlflow", "server", "--host", LOOPBACK, "--port", str(port)]
    click.echo(f"MLflow at http://{LOOPBACK}:{port}; Ctrl-C ends it")
    os.execve(sys.executable, [*command, "--backend-store-uri", store.uri()], {**tuning(), **os.environ})  # noqa: S606  # no shell is meant


@cli.command()
@click.option(
    "--prefect-port", type=PORT, default=4200, show_default=True, help="Prefect's port on the loopback address."
)
@click.option(
    "--mlflow-port", type=PORT, default=5000, show_default=True, help="MLflow's port on the loopback address."
)
@click.option("--postgres", envvar="INITBENCH_POSTGRES", metavar="URL", help="Keep the servers' data in PostgreSQL.")
@click.option("--auth", is_flag=True, help="Ask users for passwords; .initbench/secrets.env holds them.")
@TIMEZONE
def up(prefect_port: int, mlflow_port: int, postgres: str | None, auth: bool, timezone: str) -> None:
    """Run Prefect, MLflow and a worker here, until Ctrl-C.

    The command registers the deployments and schedules the nightly. All data are kept in this folder.
    """
    from flows.serving.deployments import DeploymentError
    from flows.serving.up import Options, UpError
    from flows.serving.up import up as run_all

    with refusing():
        try:
            run_all(Options(prefect_port, mlflow_port, postgres, auth, timezone))
        except (UpError, DeploymentError) as error:
            raise click.ClickException(str(error)) from None
        except KeyboardInterrupt:
            click.echo("Stopped.")


@cli.command()
@TIMEZONE
def deploy(timezone: str) -> None:
    """Register the deployments with the Prefect server at PREFECT_API_URL.

    A second call changes nothing, except the timezone of the nightly.
    """
    from flows.serving.deployments import DeploymentError, nightly_due, register

    with refusing():
        try:
            registered = register(timezone)
        except DeploymentError as error:
            raise click.ClickException(str(error)) from None
    click.echo(f"Registered {', '.join(registered)}; the nightly is due at {nightly_due(timezone)}")


@cli.command()
def doctor() -> None:
    """Check packages, GPUs, servers, stores and disk.

    The line below a problem is its remedy. Exit status: 0 if all is well, 1 if there is a problem.
    """
    from flows.serving.doctor import examine

    problems = 0
    for line in examine():
        click.echo(line)
        problems += bool(line.remedy)
    if problems:
        raise click.ClickException(f"problems: {problems}; the line below each is its remedy")


@cli.command()
@click.argument("backend", type=click.Choice(BACKENDS))
@click.option("--gpu", type=click.IntRange(min=0), help="Index of the one GPU to use. Default: all GPUs.")
def worker(backend: Backend, gpu: int | None) -> None:
    """Run a worker: it trains in one backend for studies that say `runner: workers`.

    The first worker of a backend registers the deployment that it serves. PREFECT_API_URL and MLFLOW_TRACKING_URI must
    name the servers.
    """
    from flows.serving import server
    from flows.serving.deployments import DeploymentError, register_worker
    from flows.serving.server import check_servers
    from tasks import machine

    with refusing():
        check_servers()
        server.start()
    there = [each.index for each in machine.gpus()]
    if gpu is not None and gpu not in there:
        raise Invalid(f"--gpu must be the index of a GPU that nvidia-smi lists: {there or 'none'}; got {gpu}")
    try:
        register_worker(backend, _here())
    except DeploymentError as error:
        raise click.ClickException(str(error)) from None
    name = "-".join([socket.gethostname(), backend, str(os.getpid()) if gpu is None else f"gpu{gpu}"])
    command = ["prefect", "worker", "start", "--pool", backend, "--type", "process", "--limit", "1", "--name", name]
    only = {} if gpu is None else {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": str(gpu)}
    programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # `python` is this one
    environment = {"PREFECT_WORKER_QUERY_SECONDS": "2", **os.environ, "PATH": programs, **only}
    os.execve(sys.executable, [sys.executable, "-m", *command], environment)  # noqa: S606  # no shell is meant


def main() -> None:
    """Run the command; print one line for wrong usage, as for other wrong input, and for an interrupt."""
    try:
        cli.main(standalone_mode=False)
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except BaseException as error:
        if _interrupted(error):
            click.echo("interrupted; the next run reuses the cells recorded so far", err=True)
            sys.exit(INTERRUPTED)
        if isinstance(error, OSError):  # such as a full disk, when results are exported
            error = click.ClickException(_told(error))
        if not isinstance(error, click.ClickException):
            raise
        shown = Invalid(error.format_message()) if isinstance(error, click.UsageError) else error
        shown.show()
        sys.exit(shown.exit_code)


def _interrupted(error: BaseException | None) -> bool:
    """Tell whether an error is an interrupt, or was raised while an interrupt ended the command."""
    return error is not None and (isinstance(error, click.Abort | KeyboardInterrupt) or _interrupted(error.__context__))
