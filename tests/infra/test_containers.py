"""The container files without a container engine: their form, and their commands run on this machine."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import jsonschema
import kubernetes_validate
import pytest
import yaml
from dotenv import dotenv_values
from prefect.server.schemas.actions import WorkPoolCreate
from prefect.utilities.templating import apply_values, find_placeholders

from tests.shared.postgres import PROGRAMS, free_port, postgres  # noqa: F401  # a fixture is found by its name
from tests.shared.running import ANSWER_SECONDS

ROOT = Path(__file__).parents[2]
CONTAINERS = ROOT / "infra" / "containers"
BIN = Path(sys.executable).parent
COMPOSE = (CONTAINERS / "compose.yaml").read_text()
DOCKERFILE = (CONTAINERS / "Dockerfile").read_text()
TEMPLATE = json.loads((CONTAINERS / "kubernetes-work-pool.json").read_text())
EXAMPLE = dotenv_values(CONTAINERS / "example.env")
VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")
SECRETS = {name for name, value in EXAMPLE.items() if value in ("", "admin:")} - {"PIP_EXTRA_INDEX_URL"}
ANSWERS = {
    name: f"{value}{name.lower().replace('_', '-')}" if name in SECRETS else value for name, value in EXAMPLE.items()
}
START_SECONDS = 300  # they take 30 s on two slow cores


def interpolated():
    """Return the compose file as it is with example.env filled in, all profiles active."""
    return yaml.safe_load(VARIABLE.sub(lambda found: ANSWERS.get(found[1], ""), COMPOSE))


SERVICES = interpolated()["services"]


def test_dockerfile_passes_hadolint():
    """No rule of hadolint is broken, and none is silenced."""
    assert "hadolint ignore" not in DOCKERFILE
    linted = subprocess.run([BIN / "hadolint", "--no-color", CONTAINERS / "Dockerfile"], capture_output=True, text=True)
    assert (linted.returncode, linted.stdout) == (0, "")


def test_compose_file_follows_the_specification():
    """The compose file is valid by Compose's own schema."""
    checked = subprocess.run(
        [BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", CONTAINERS / "compose.yaml"],
        capture_output=True,
        text=True,
    )
    assert checked.returncode == 0, checked.stdout


def test_example_env_lists_every_variable():
    """What the compose file takes from the environment is in example.env, and nothing else is."""
    assert {found[1] for found in VARIABLE.finditer(COMPOSE)} == EXAMPLE.keys()


def test_no_secret_has_a_default():
    """Compose refuses to start without a secret; all else may be left out, and is then as in example.env."""
    for found in VARIABLE.finditer(COMPOSE):
        name, operator, default = found.groups()
        assert operator == ("?" if name in SECRETS else "-"), name
        if name not in SECRETS:
            assert default == EXAMPLE[name]


def test_example_env_tells_how_to_make_secrets(tmp_path):
    """The command in example.env writes a .env with a secret of its own for each, for its owner's eyes alone."""
    shutil.copy(CONTAINERS / "example.env", tmp_path)
    command = next(line for line in (CONTAINERS / "example.env").read_text().splitlines() if "umask" in line)
    subprocess.run(command.lstrip("# "), shell=True, cwd=tmp_path, check=True)  # noqa: S602  # a shell is meant
    made = dotenv_values(tmp_path / ".env")
    assert (tmp_path / ".env").stat().st_mode & 0o077 == 0
    assert {name for name in made if made[name] != EXAMPLE[name]} == SECRETS
    assert len({made[name].removeprefix("admin:") for name in SECRETS}) == len(SECRETS)
    assert all(re.fullmatch("(admin:)?[0-9a-f]{48}", made[name]) for name in SECRETS)


def test_nothing_is_published_beyond_loopback():
    """Ports are published on this machine's loopback address alone."""
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(published) == 2
    assert all(port.startswith("127.0.0.1:") for port in published)
    assert not any("network_mode" in service for service in SERVICES.values())


@pytest.mark.parametrize("name", SERVICES)
def test_service_is_confined_and_comes_back(name):
    """A service is not root, gains no privileges, reaps its children, and is restarted and checked, or it ends."""
    service = SERVICES[name]
    *_, user = re.findall(r"^USER (\S+)$", DOCKERFILE, re.MULTILINE)
    assert (service["user"] != "root") if "user" in service else (int(user) > 0 and "build" in service)
    assert service["init"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    one_shot = service["restart"] == "on-failure"
    assert one_shot == (name == "deploy")
    assert ("healthcheck" in service) != one_shot


def test_images_are_pinned():
    """An image that is not built here is of one patch release, and so is what ours are built from."""
    (foreign,) = {service["image"] for service in SERVICES.values() if "build" not in service}
    (base,) = re.findall(r"^FROM (.*)$", DOCKERFILE, re.MULTILINE)
    assert re.fullmatch(r"postgres:15\.\d+-\w+", foreign)
    assert re.fullmatch(r"python:3\.11\.\d+-slim-\w+", base)


def test_servers_are_tuned_by_one_file():
    """Both servers, and only they, are tuned by infra/servers.env, which no setting of theirs overrides."""
    tuned = {name: service for name, service in SERVICES.items() if "env_file" in service}
    assert tuned.keys() == {"prefect", "mlflow"}
    for service in tuned.values():
        assert (CONTAINERS / service["env_file"]).resolve() == ROOT / "infra" / "servers.env"
        assert not dotenv_values(ROOT / "infra" / "servers.env").keys() & service["environment"].keys()


def test_servers_run_what_up_runs():
    """The commands of the servers and the worker are those of `initbench up`."""
    supervised = dict(
        re.findall(r"\[program:(\w+)\]\ncommand = (.*)", (ROOT / "infra" / "supervisord.conf").read_text())
    )
    supervised["mlflow"] = supervised["mlflow"].replace("%(ENV_MLFLOW_APPLICATION)s", "--app-name basic-auth")
    assert {name: SERVICES[name]["command"] for name in supervised} == supervised


@pytest.mark.parametrize(("name", "gpu"), [("pytorch", "PYTORCH_GPU"), ("keras", "KERAS_GPU")])
def test_gpu_worker_has_a_gpu_of_its_own(name, gpu):
    """A GPU worker has an image of its backend alone and reserves one GPU, which the environment names."""
    service = SERVICES[name]
    assert service["profiles"] == ["gpu"]
    assert service["image"] == f"initbench:{name}-gpu"
    assert service["build"]["args"] == {"VARIANT": f"{name}-gpu"}
    (device,) = service["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "device_ids": [EXAMPLE[gpu]], "capabilities": ["gpu"]}
    assert EXAMPLE["PYTORCH_GPU"] != EXAMPLE["KERAS_GPU"]


@pytest.mark.parametrize(
    ("variant", "frameworks"),
    [
        ("server", set()),
        ("cpu", {"torch", "tensorflow", "keras"}),
        ("pytorch-gpu", {"torch"}),
        ("keras-gpu", {"tensorflow[and-cuda]", "keras"}),
    ],
)
def test_image_has_the_frameworks_of_its_variant(variant, frameworks):
    """A GPU image has one framework, a server's none, and all have every other dependency of the package."""
    command = [sys.executable, CONTAINERS / "requirements.py", variant]
    with (ROOT / "pyproject.toml").open() as pyproject:
        lines = subprocess.run(command, stdin=pyproject, capture_output=True, text=True, check=True).stdout.splitlines()
    names = {re.match(r"[\w-]+(\[[\w-]+\])?", line)[0] for line in lines}
    assert names & {"torch", "tensorflow", "tensorflow[and-cuda]", "keras"} == frameworks
    assert {"prefect", "mlflow", "psycopg[binary]", "loky", "setuptools"} <= names
    assert variant in {service["build"]["args"]["VARIANT"] for service in SERVICES.values() if "build" in service}


def test_images_are_built_of_what_they_need():
    """The build context holds the files that are copied, read or run in a container, and no more of infra/."""
    ignored, *allowed = (
        line
        for line in (CONTAINERS / "Dockerfile.dockerignore").read_text().splitlines()
        if line and not line.startswith(("#", "**/"))
    )
    assert ignored == "*"
    paths = {line.removeprefix("!") for line in allowed}
    assert all((ROOT / path).exists() for path in paths)
    used = {*re.findall(r"infra/[\w/.-]+\.\w+", DOCKERFILE), *re.findall(r"/opt/initbench/([\w/.-]+)", COMPOSE)}
    used -= {"infra/containers/Dockerfile"}
    read = {"infra/servers.env", "infra/prefect.yaml", "infra/mlflow-auth.ini"}  # by flows/
    assert {path for path in paths if path.startswith("infra/")} == used | read


# Kubernetes


def filled():
    """Return the job of the work pool's template with its defaults."""
    properties = TEMPLATE["variables"]["properties"]
    defaults = {name: variable["default"] for name, variable in properties.items() if "default" in variable}
    return apply_values(TEMPLATE["job_configuration"]["job_manifest"], defaults)


def test_kubernetes_template_is_prefects():
    """Prefect takes the template; every variable is used, told of, and has a default of its own type, if any."""
    WorkPoolCreate(name="pytorch", type="kubernetes", base_job_template=TEMPLATE)
    used = {placeholder.name for placeholder in find_placeholders(json.dumps(TEMPLATE["job_configuration"]))}
    properties = TEMPLATE["variables"]["properties"]
    assert used == properties.keys()
    jsonschema.Draft202012Validator.check_schema(TEMPLATE["variables"])
    for variable in properties.values():
        assert variable["description"]
        if "default" in variable:
            jsonschema.validate(variable["default"], variable)


def test_kubernetes_job_is_valid():
    """With its defaults the template is a Job by Kubernetes' schema, without a field that it does not know."""
    job = filled()
    for misplaced in ("parallelism", "completions"):  # Prefect's worker refuses a template without them there
        assert job["spec"]["template"]["spec"].pop(misplaced) == 1
    kubernetes_validate.validate(job, kubernetes_validate.latest_version(), strict=True)


def test_kubernetes_job_is_confined():
    """A job has one GPU, asks for what it uses, is not tried again by Kubernetes, is cleaned up, and is not root."""
    job = filled()
    assert job["spec"]["backoffLimit"] == 0  # Prefect runs it again
    assert job["spec"]["ttlSecondsAfterFinished"] > 0
    pod = job["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert f"USER {pod['securityContext']['runAsUser']}\n" in DOCKERFILE
    (container,) = pod["containers"]
    assert container["image"] in {service["image"] for service in SERVICES.values()}
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert container["resources"]["requests"].keys() == {"cpu", "memory"}
    assert not container["securityContext"]["allowPrivilegeEscalation"]


# Commands, run on this machine


@dataclass
class Running:
    """A service outside its container: compose's words with the addresses and folders of this machine."""

    command: list[str]
    check: list[str]
    waits: dict[str, str]
    environment: dict[str, str]
    folder: Path
    log: Path
    process: subprocess.Popen | None = None
    healthy: bool = False
    healthy_before: bool | None = None

    def start(self):
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                self.command, cwd=self.folder, env=self.environment, stdout=log, stderr=log, start_new_session=True
            )

    def passes(self):
        """Tell whether its health check does; that of what ends is its status."""
        if not self.check:
            return self.process is not None and self.process.poll() == 0
        checked = subprocess.run(self.check, cwd=self.folder, env=self.environment, capture_output=True)
        return checked.returncode == 0


def outside(name, ports, folder):
    """Return a service to run on this machine."""
    service = SERVICES[name]
    mine = {each: value for each, value in os.environ.items() if not each.startswith(("PREFECT_", "MLFLOW_"))}
    places = {volume.split(":")[1]: folder / "volume" for volume in service.get("volumes", [])}
    for place in places.values():
        place.mkdir(exist_ok=True)

    def here(text):
        text = re.sub(rf"\b(?:{'|'.join(SERVICES)}|127\.0\.0\.1):({'|'.join(ports)})\b", _port(ports), str(text))
        for target, place in {**places, "/opt/initbench": ROOT}.items():
            text = re.sub(rf"(?<![\w/]){target}(?![\w-])", str(place), text)
        return text.replace("0.0.0.0", "127.0.0.1")  # noqa: S104  # it is replaced

    tuned = dotenv_values(CONTAINERS / service["env_file"]) if "env_file" in service else {}
    return Running(
        command=[here(word) for word in shlex.split(service.get("command", ""))],
        check=[here(word) for word in service.get("healthcheck", {}).get("test", [])[1:]],
        waits={other: waited["condition"] for other, waited in service.get("depends_on", {}).items()},
        environment={
            **mine,
            **tuned,
            **{each: here(value) for each, value in service.get("environment", {}).items()},
            "PATH": os.pathsep.join([str(BIN), str(PROGRAMS), os.environ["PATH"]]),
            "PREFECT_HOME": str(folder / "prefect"),
            "PREFECT_SERVER_API_PORT": str(ports["4200"]),
            "MLFLOW_PORT": str(ports["5000"]),
            "PGPORT": str(ports["5432"]),
        },
        folder=Path(here(service.get("working_dir", folder))),
        log=folder / "log",
    )


def _port(ports):
    return lambda found: f"127.0.0.1:{ports[found[1]]}"


@pytest.fixture(scope="module")
def running(postgres, tmp_path_factory):  # noqa: F811  # this is the fixture
    """Start all services as compose would, each once what it waits for is there; return them."""
    server = httpx.URL(postgres)
    ports = {"5432": server.port, "4200": free_port(), "5000": free_port()}
    services = {name: outside(name, ports, tmp_path_factory.mktemp(name)) for name in SERVICES}
    owner = SERVICES["postgres"]["environment"]
    role = "CREATE ROLE {POSTGRES_USER} SUPERUSER LOGIN PASSWORD '{POSTGRES_PASSWORD}'".format(**owner)
    as_owner = str(
        server.copy_with(username=owner["POSTGRES_USER"], password=owner["POSTGRES_PASSWORD"], path="/postgres")
    )
    for url, what in (
        (str(server.copy_with(path="/postgres")), ["--command", role]),
        (as_owner, ["--file", str(CONTAINERS / "databases.sql")]),
    ):
        subprocess.run([PROGRAMS / "psql", "--quiet", "--set=ON_ERROR_STOP=1", url, *what], check=True)
    for name, service in services.items():
        service.healthy_before = name != "postgres" and service.passes()
    deadline = time.monotonic() + START_SECONDS
    try:
        while not all(service.healthy for service in services.values()) and time.monotonic() < deadline:
            if any(service.process and service.process.poll() for service in services.values()):
                break  # one has failed, which its test tells
            for service in services.values():
                ready = all(services[other].healthy for other in service.waits)
                if service.command and service.process is None and ready:
                    service.start()
                if not service.healthy and (service.process or not service.command):
                    service.healthy = service.passes()
            time.sleep(1)  # a check is a process of its own, and the services need the processor, too
        yield services
    finally:
        for service in services.values():
            if service.process:
                with suppress(ProcessLookupError):
                    os.killpg(service.process.pid, signal.SIGKILL)
                service.process.wait()


@pytest.mark.parametrize("name", SERVICES)
def test_service_gets_healthy(running, name):
    """Each command runs, once what it waits for is there, and its health check fails before and succeeds then."""
    service = running[name]
    log = service.log.read_text()[-3000:] if service.log.exists() else "it was never started"
    assert service.healthy, log
    assert not service.healthy_before
    if name != "deploy":
        assert service.process is None or service.process.poll() is None


def test_services_wait_for_health_where_there_is_a_check():
    """Nobody waits for a service only to be started: for its health, or for its end."""
    for service in SERVICES.values():
        for other, waited in service.get("depends_on", {}).items():
            checked = "healthcheck" in SERVICES[other]
            assert waited["condition"] == ("service_healthy" if checked else "service_completed_successfully")


def client(running, name):
    """Return the URL of a server and how a worker signs in there."""
    environment = running["worker"].environment
    if name == "prefect":
        return environment["PREFECT_API_URL"], tuple(environment["PREFECT_API_AUTH_STRING"].split(":"))
    names = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
    return environment["MLFLOW_TRACKING_URI"], tuple(environment[name] for name in names)


PATHS = {"prefect": "/admin/version", "mlflow": "/api/2.0/mlflow/experiments/get?experiment_id=0"}


@pytest.mark.parametrize("name", PATHS)
def test_servers_ask_who_is_there(running, name):
    """Both APIs answer 401 without credentials or with wrong ones, and 200 with those that workers have."""
    url, credentials = client(running, name)
    for auth, expected in ((None, 401), (("admin", "wrong"), 401), (credentials, 200)):
        assert httpx.get(url + PATHS[name], auth=auth, timeout=ANSWER_SECONDS).status_code == expected


def test_mlflow_answers_to_its_names_alone(running):
    """MLflow answers workers, who call it mlflow, and browsers on this machine, but no page that calls it otherwise."""
    url, credentials = client(running, "mlflow")
    allowed = running["mlflow"].environment["MLFLOW_SERVER_ALLOWED_HOSTS"]
    assert "mlflow:5000" in SERVICES["mlflow"]["environment"]["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",")
    for host, expected in ((allowed.split(",")[0], 200), ("localhost:5000", 200), ("evil.example:5000", 403)):
        answer = httpx.get(url + PATHS["mlflow"], auth=credentials, headers={"Host": host}, timeout=ANSWER_SECONDS)
        assert answer.status_code == expected, host


def test_other_origins_are_refused(running):
    """A page of another origin may not write to MLflow, nor read from Prefect; their own pages may."""
    url, credentials = client(running, "mlflow")
    for origin, expected in (("http://evil.example", 403), (url, 200)):
        answer = httpx.post(
            f"{url}/api/2.0/mlflow/experiments/search",
            auth=credentials,
            json={"max_results": 1},
            headers={"Origin": origin},
            timeout=ANSWER_SECONDS,
        )
        assert answer.status_code == expected, origin
    url, credentials = client(running, "prefect")
    own = running["prefect"].environment["PREFECT_UI_URL"]
    for origin, expected in (("http://evil.example", None), (own, own)):
        headers = {"Origin": origin}
        answer = httpx.get(f"{url}/admin/version", auth=credentials, headers=headers, timeout=ANSWER_SECONDS)
        assert answer.headers.get("access-control-allow-origin") == expected


def test_artifacts_go_through_mlflow_to_its_volume(running):
    """Clients need no access to where artifacts are: MLflow takes them, and keeps them on its volume."""
    url, credentials = client(running, "mlflow")
    found = httpx.get(url + PATHS["mlflow"], auth=credentials, timeout=ANSWER_SECONDS)
    experiment = found.json()["experiment"]
    assert experiment["artifact_location"].startswith("mlflow-artifacts:/")
    file = f"{url}/api/2.0/mlflow-artifacts/artifacts/0/it.txt"
    put = httpx.put(file, auth=credentials, content=b"it", timeout=ANSWER_SECONDS)
    assert put.status_code == 200
    assert (running["mlflow"].folder / "artifacts" / "0" / "it.txt").read_bytes() == b"it"
    assert (running["mlflow"].folder / "mlflow-users.db").exists()


def test_links_lead_where_browsers_are(running):
    """What is shown to people names the published addresses, not those inside."""
    for name in ("worker", "pytorch", "keras"):
        assert SERVICES[name]["environment"]["INITBENCH_MLFLOW_UI"] == "http://127.0.0.1:5000"
        assert SERVICES[name]["environment"]["PREFECT_UI_URL"] == "http://127.0.0.1:4200"
    url = running["prefect"].environment["PREFECT_UI_URL"]
    settings = httpx.get(f"{url}/ui-settings", timeout=ANSWER_SECONDS).json()
    assert settings["api_url"] == running["prefect"].environment["PREFECT_UI_API_URL"]
