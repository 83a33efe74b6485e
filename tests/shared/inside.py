"""The command in the process of a test, where Prefect and the frameworks may be loaded already."""

import sys

from flows import cli


def called(arguments, monkeypatch, capsys):
    """Run the command with these arguments; return its exit status and what it has said."""
    for name, value in {**cli.QUIET, **cli.LOGGING}.items():
        monkeypatch.setenv(name, value)  # `main` would set them for good
    monkeypatch.setattr(sys, "argv", ["initbench", *arguments])
    status = 0
    try:
        cli.main()
    except SystemExit as ended:
        status = ended.code
    return status, capsys.readouterr()
