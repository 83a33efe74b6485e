"""The whole thing as a user has it: up, the form in Prefect, the comparison, MLflow, Ctrl-C, and up again."""

import json
import os
import signal
import sqlite3
import subprocess
import threading
from contextlib import closing
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from playwright.sync_api import expect
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.serving import notices
from flows.serving.up import UpError, _supervised
from tasks.watch import EVENT
from tests.shared.browser import PATIENCE, READY, SHOTS, chromium
from tests.shared.inside import called
from tests.shared.postgres import free_port
from tests.shared.running import ANSWER_SECONDS, INITBENCH, descendants, up

RUN = 300_000  # milliseconds
NIGHT = {"studies": [], "as_night": True}


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """Return everything, up."""
    with up(tmp_path_factory.mktemp("up"), "--timezone", "Europe/Paris") as everything:
        yield everything


@pytest.fixture
def tab():
    """Return a tab of a browser, which is closed soon: Prefect's page keeps a core busy as long as it is open."""
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        page.set_default_timeout(PATIENCE)
        yield page
        page.screenshot(path=SHOTS / "last.png")  # where it was when something failed


def test_ready(running):
    """Once it says so, no deployment shows as Not Ready: those of workers elsewhere are not there. It comes first."""
    found = running.post("deployments/filter").json()
    assert {each["name"]: each["status"] for each in found} == {"benchmark": "READY", "nightly": "READY"}


def test_from_the_form_to_the_curves(running, tab, eventually):
    """In a browser: pick benchmark, fill in the form, watch it run, open the comparison, click through to MLflow."""
    fill_in_the_form(running, tab)
    watch(running, tab, eventually)
    look_at_mlflow(running, tab)


def fill_in_the_form(running, tab):
    tab.goto(f"{running.prefect}/deployments")
    tab.locator("a[href*='/deployments/deployment/']", has_text="benchmark").first.click()
    tab.get_by_role("button", name="Run", exact=True).first.click()
    tab.get_by_text("Custom run").click()
    seeds, epochs = (tab.locator("input[type=number]").nth(at) for at in (0, 1))
    seeds.fill("2")
    epochs.fill("3")
    tab.locator("button.p-select-button__control").nth(2).focus()
    tab.keyboard.press("ArrowDown")
    for name in ("he_normal", "zeros"):
        tab.get_by_role("option", name=name, exact=True).click()
    tab.keyboard.press("Escape")
    tab.get_by_text("Parameters", exact=True).first.click()  # closes the list
    tab.screenshot(path=SHOTS / "form.png")
    epochs.fill("-1")
    tab.get_by_role("button", name="Submit").click()
    expect(tab.get_by_text("-1 is less than the minimum of 0").first).to_be_visible()  # the form itself refuses it
    epochs.fill("3")
    submit(tab)


def submit(tab):
    """Submit the form, and again if the page says Oops, as it may while SQLite is busy (infra/README.md)."""
    for _ in range(20):
        with tab.expect_response(lambda answer: "create_flow_run" in answer.url) as answered:
            tab.get_by_role("button", name="Submit").click()
        if answered.value.ok:
            return
        tab.wait_for_timeout(1000)


def watch(running, tab, eventually):
    asked = {"flow_runs": {"name": {"any_": ["iris · 2 backends · 2 initializers · 2 seeds"]}}}
    eventually(lambda: running.post("flow_runs/filter", **asked).json(), seconds=300)
    (run,) = running.post("flow_runs/filter", **asked).json()
    tab.goto(f"{running.prefect}/runs/flow-run/{run['id']}")
    tab.get_by_text("Artifacts", exact=True).last.click()
    expect(tab.get_by_text("progress", exact=True).first).to_be_visible(timeout=RUN)
    watched = tab.url
    tab.goto("about:blank")  # Prefect's page would keep a core busy until the end
    ended(running, run["id"], eventually)
    tab.goto(watched)
    expect(tab.get_by_text("Completed").first).to_be_visible(timeout=RUN)
    tab.get_by_text("Artifacts", exact=True).last.click()
    expect(tab.locator("a[href*='/artifacts/']", has_text="summary").first).to_be_visible()
    tab.screenshot(path=SHOTS / "run.png")
    address = tab.url
    tab.locator("a[href*='/artifacts/']", has_text="comparison").first.click()
    expect(tab.get_by_text("he_normal", exact=True).first).to_be_visible()
    tab.screenshot(path=SHOTS / "comparison.png")
    tab.goto(address)
    tab.get_by_text("Artifacts", exact=True).last.click()
    tab.locator("a[href*='/artifacts/']", has_text="summary").first.click()
    tab.wait_for_function("[...document.images].filter(image => image.naturalWidth > 99).length > 3")  # from MLflow
    tab.screenshot(path=SHOTS / "summary.png", full_page=True)


def look_at_mlflow(running, tab):
    cells = opened(tab, "every cell, by initializer")
    expect(cells.get_by_text("Group: pytorch · he_normal").first).to_be_visible()
    expect(cells.locator(".js-plotly-plot .scatterlayer .trace").first).to_be_visible()  # a curve
    cells.get_by_role("button", name="Close").last.click()  # MLflow's assistant, which takes a quarter of the page
    cells.screenshot(path=SHOTS / "cells.png")
    cells.close()
    run = opened(tab, "all of it in MLflow")
    back = run.get_by_role("link", name="iris · 2 backends · 2 initializers · 2 seeds")
    assert back.get_attribute("href").startswith(f"{running.prefect}/runs/flow-run/")
    run.close()
    report = opened(tab, "The report")
    frame = report.frame_locator("iframe").first
    frame.locator(READY).wait_for(timeout=RUN)
    head = frame.locator("#groups thead th", has_text="test loss").first
    head.click()
    expect(head).to_have_attribute("aria-sort", "ascending")  # its tables sort there, too
    frame.locator("h1").scroll_into_view_if_needed()
    report.screenshot(path=SHOTS / "report.png")
    report.close()


def opened(tab, link):
    """Return the tab that a link opens."""
    with tab.context.expect_page() as new:
        tab.get_by_role("link", name=link).first.click()
    new.value.set_default_timeout(PATIENCE)
    return new.value


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"epochs": -1}, "Validation failed for field 'epochs'. Failure reason: -1 is less than the minimum of 0"),
        ({"advanced": {"recipe": {"optimizer": "adma"}}}, "field 'advanced.recipe.optimizer'. Failure reason: 'adma'"),
    ],
)
def test_what_the_schema_refuses(running, parameters, words):
    """The server refuses invalid parameters, and names the field, before a run is made."""
    benchmark = running.get("deployments/name/benchmark/benchmark").json()["id"]
    answer = running.post(f"deployments/{benchmark}/create_flow_run", parameters=parameters)
    assert answer.status_code == 409
    assert words in answer.json()["detail"]


def started(running, name, parameters, due=None):
    """Ask for a flow run of a deployment; return its id."""
    deployment = running.get(f"deployments/name/{name}/{name}").json()["id"]
    state = {"type": "SCHEDULED", "state_details": {"scheduled_time": due}} if due else None
    asked = {"parameters": parameters} | ({"state": state} if state else {})
    answer = running.post(f"deployments/{deployment}/create_flow_run", **asked)
    assert answer.is_success, answer.text
    return answer.json()["id"]


def read(running, run):
    return running.get(f"flow_runs/{run}").json()


def ended(running, run, eventually):
    """Return a flow run once it has ended."""
    final = ("COMPLETED", "FAILED", "CANCELLED", "CRASHED")
    eventually(lambda: read(running, run)["state"]["type"] in final, seconds=300)
    return read(running, run)


def test_what_only_the_study_refuses(running, eventually):
    """Parameters that only make no sense together fail the run, with a line that names the field."""
    run = started(running, "benchmark", {"advanced": {"network": {"width": 8}}})
    message = ended(running, run, eventually)["state"]["message"]
    assert message.endswith("StudyError: network: width and depth go together; got width 8 and depth None")
    assert len(message.splitlines()) == 1


def test_nights_that_were_missed(running, eventually):
    """Of several nights that are due only the last runs, and one that was due while it ran does not run after it."""
    now = datetime.now(UTC)
    last, before = (started(running, "nightly", NIGHT, f"{now - timedelta(days=days)}") for days in (1, 2))
    last_run = ended(running, last, eventually)
    assert last_run["state"]["type"] == "COMPLETED", last_run["state"]
    assert ended(running, before, eventually)["state"]["message"].startswith("It is the turn of a later night: ")
    meanwhile = datetime.fromisoformat(last_run["end_time"]) - timedelta(seconds=0.1)
    overrun = ended(running, started(running, "nightly", NIGHT, f"{meanwhile}"), eventually)
    assert overrun["state"]["type"] == "CANCELLED"
    assert overrun["state"]["message"] == f"The last night was still at work: {last_run['name']}"


def test_deployments(running, monkeypatch, capsys):
    """The nightly is due at 02:00 in its timezone, no run is doubled; registering them again changes nothing.

    It also keeps what somebody has set in Prefect's page: the models that the nightly audits.
    """

    def registered():
        found = running.post("deployments/filter").json()
        return [{name: each[name] for name in each if name != "updated"} for each in found]

    before = {each["name"]: each for each in registered()}
    (schedule,) = before["nightly"]["schedules"]
    assert schedule["schedule"]["cron"] == "0 2 * * *"
    assert schedule["schedule"]["timezone"] == "Europe/Paris"
    assert schedule["parameters"] == {"as_night": True}
    limits = {name: each["global_concurrency_limit"] for name, each in before.items()}
    assert limits["nightly"]["limit"] == limits["benchmark"]["limit"] == 1
    assert before["nightly"]["concurrency_options"]["collision_strategy"] == "ENQUEUE"
    assert before["benchmark"]["concurrency_options"]["collision_strategy"] == "ENQUEUE"
    due = running.post("flow_runs/filter", flow_runs={"state": {"type": {"any_": ["SCHEDULED"]}}}).json()
    assert before["nightly"]["id"] in {run["deployment_id"] for run in due}

    watched = {"audits": [{"build": "mymodel:build", "options": {"width": 64}}]}
    running.patch(f"deployments/{before['nightly']['id']}", parameters=watched)

    automations = running.post("automations/filter").json()
    for name, value in running.environment.items():
        monkeypatch.setenv(name, value)
    with temporary_settings({PREFECT_API_URL: f"{running.prefect}/api"}):
        status, said = called(["deploy", "--timezone", "Europe/Paris"], monkeypatch, capsys)
    assert status == 0, said.err
    after = {each["name"]: each for each in registered()}
    assert set(after) == {*before, "pytorch", "keras"}  # which it registers for workers that are about to start
    assert {name: after[name]["id"] for name in before} == {name: each["id"] for name, each in before.items()}
    assert len(after["nightly"]["schedules"]) == 1
    assert after["nightly"]["parameters"] == watched
    assert running.post("automations/filter").json() == automations
    assert len(automations) == 3


def test_a_flag_is_posted(running, monkeypatch, capsys, eventually):
    """Whoever names a web address gets each flag of the night watch there, as Slack's webhooks take it.

    A second `deploy` changes nothing, and an address that is none is refused.
    """
    posted = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self):
            posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            """Say nothing."""

    for name, value in running.environment.items():
        monkeypatch.setenv(name, value)
    with temporary_settings({PREFECT_API_URL: f"{running.prefect}/api"}), HTTPServer(("127.0.0.1", 0), Receiver) as own:
        threading.Thread(target=own.serve_forever, daemon=True).start()
        monkeypatch.setenv(notices.ADDRESS, "slack.example")
        status, said = called(["deploy", "--timezone", "Europe/Paris"], monkeypatch, capsys)
        assert (status, len(said.err.splitlines())) == (2, 1)
        assert "INITBENCH_WEBHOOK must be a web address" in said.err
        monkeypatch.setenv(notices.ADDRESS, f"http://127.0.0.1:{own.server_port}/flags")
        for _ in range(2):
            status, said = called(["deploy", "--timezone", "Europe/Paris"], monkeypatch, capsys)
            assert status == 0, said.err
        assert len(running.post("automations/filter").json()) == 4
        event = {
            "occurred": datetime.now(UTC).isoformat(),
            "event": EVENT,
            "resource": {"prefect.resource.id": "initbench.study.iris"},
            "payload": {"text": 'It lost 0.02 "accuracy"', "link": "http://mlflow/night"},
            "id": str(uuid4()),
        }

        def told():
            running.client.post(f"{running.prefect}/api/events", json=[event | {"id": str(uuid4())}])
            return posted

        eventually(told)
        own.shutdown()
    assert posted[0] == {"text": 'It lost 0.02 "accuracy" http://mlflow/night'}


def test_a_port_that_is_taken(running, folder, monkeypatch, capsys):
    """A second one on the same port is told so in one line, exit status 2, and nothing is made."""
    port = running.prefect.rpartition(":")[2]
    status, said = called(["up", "--prefect-port", port], monkeypatch, capsys)
    assert status == 2
    (line,) = said.err.splitlines()
    assert f"--prefect-port must be free; {port} on 127.0.0.1: Address already in use" in line
    assert list(folder.iterdir()) == []


def test_a_folder_in_use(running, monkeypatch, capsys):
    """A second one in the same folder, on other ports, is told so in one line."""
    ports = ["--prefect-port", str(free_port()), "--mlflow-port", str(free_port())]
    monkeypatch.chdir(running.folder)
    status, said = called(["up", *ports], monkeypatch, capsys)
    assert status == 2
    (line,) = said.err.splitlines()
    assert "a folder can be used by one `initbench up` at a time" in line


def test_a_process_manager_that_does_not_start(monkeypatch):
    """That it has ended is told at once, here because it lacks a variable that infra/supervisord.conf names."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    with pytest.raises(UpError, match="the process manager did not start"), _supervised({"PATH": os.environ["PATH"]}):
        pytest.fail("it started")


def test_store_is_tuned(running):
    """MLflow's store is in WAL mode, and logs are kept apart."""
    header = (running.folder / "mlflow.db").read_bytes()[18:20]
    assert header == b"\2\2"
    logs = {path.name for path in (running.folder / ".initbench" / "logs").iterdir()}
    assert logs == {"mlflow.log", "prefect.log", "supervisor.log", "worker.log"}


def test_down_and_up(running, eventually):
    """Ctrl-C ends everything and cancels what runs; commands without a server, and the next `up`, find all data.

    It comes last, for it stops what the other tests use.
    """
    cancelled = started(running, "benchmark", {"epochs": 10_000, "seeds": 20, "parity": False})
    eventually(lambda: read(running, cancelled)["state"]["type"] == "RUNNING", seconds=300)
    runs = running.post("flow_runs/filter", flow_runs={"state": {"type": {"any_": ["COMPLETED"]}}}).json()
    assert runs
    processes = descendants(running.process.pid)
    assert len(processes) > 4
    assert running.stop() == 0
    assert running.said[-1] == "Stopped.\n"
    assert not any(Path(f"/proc/{process}").exists() for process in processes)
    recorded = cells(running.folder)
    form = ("seeds=2", "recipe.epochs=3", "initializers=[he_normal, zeros]")  # what the form was filled in with
    alone = [INITBENCH, "run", "--no-parity", *(f"--set={change}" for change in form)]
    subprocess.run(alone, cwd=running.folder, env=running.environment, check=True)
    assert cells(running.folder) == recorded  # all were found, and none was trained
    with up(running.folder) as again:
        found = again.post("flow_runs/filter", flow_runs={"id": {"any_": [run["id"] for run in runs]}}).json()
        assert len(found) == len(runs)
        assert read(again, cancelled)["state"]["type"] == "CANCELLED"
        experiment = f"{again.mlflow}/api/2.0/mlflow/experiments/get-by-name?experiment_name=initbench/iris"
        search = httpx.get(experiment, timeout=ANSWER_SECONDS)
        assert search.is_success


def cells(folder):
    """Return the keys of all cells that MLflow's store in a folder holds."""
    with closing(sqlite3.connect(folder / "mlflow.db")) as database:
        return database.execute("SELECT value FROM tags WHERE key = 'initbench.cell' ORDER BY run_uuid").fetchall()
