"""The shell that runs a server, and what is told of a private server that has ended."""

import subprocess
from pathlib import Path

import pytest

from flows.serving import server
from flows.serving.server import SUPERVISE, ServerError


def supervised(program):
    """Have the shell run a program; its input closes at the end of the block."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.Popen(["sh", "-c", SUPERVISE, "sh", "sh", "-c", program], **pipes)


def test_the_shell_ends_with_the_server():
    """Whoever waits for a server sees that it has ended, and reads all that it has said, while the input is open."""
    with supervised("echo why") as shell:
        shell.wait(30)
        assert shell.stdout.read() == b"why\n"


def test_the_server_ends_with_the_input():
    """A server ends when the input of its shell closes, as it does when the process that started it is killed."""
    with supervised("echo $$; exec sleep 600") as shell:
        number = int(shell.stdout.readline())
        shell.stdin.close()
        shell.wait(30)
        assert not Path(f"/proc/{number}").exists()


@pytest.mark.parametrize(
    ("log", "why"),
    [
        (
            "Traceback:\na.b.CommandError: no such revision\n\nERROR: exiting.\nServer stopped!\n",
            "a.b.CommandError: no such",
        ),
        ("port 4200 is taken\n\n", "port 4200 is taken; see"),
        ("", "it has said nothing; see"),
    ],
)
def test_the_last_error_of_the_log_is_told(monkeypatch, log, why):
    """One line says why a private server has ended, and deletes no database that is not a file of its own."""
    monkeypatch.setattr(server, "database", lambda: None)
    (line,) = str(ServerError.ended(log)).splitlines()
    assert line.startswith(f"Prefect's server must start, but it ended: {why}")
    assert line.endswith("see what `prefect server start` says")
