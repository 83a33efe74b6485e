"""Folders that processes share: whether they can be written to, and a lock for what one process may do alone."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LEAST = 64 * 2**20  # bytes that must be free: a database, its log, and the files of some hundred cells


def fault(folder: Path, least: int = LEAST) -> str:
    """Return in words why a folder, which need not exist yet, cannot hold so many bytes more; empty if it can."""
    try:
        there = next(each for each in (folder, *folder.absolute().parents) if each.exists())
        with tempfile.TemporaryFile(dir=there):  # it is tried, for root may write where permissions forbid it
            pass  # the file has no name
        free = shutil.disk_usage(there).free
    except OSError as error:
        return f"{folder} cannot be written to: {error.strerror}"
    words = f"{free / 2**20:.0f} MiB are free, and about {least / 2**20:.0f} MiB are needed"
    return f"{folder} is on a disk that is too full: {words}" if free < least else ""


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder, once other processes have released it."""
    with _locked(folder, fcntl.LOCK_EX):
        yield


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder at once.

    Raises:
        BlockingIOError: if another process holds it.
    """
    with _locked(folder, fcntl.LOCK_EX | fcntl.LOCK_NB):
        yield


@contextmanager
def _locked(folder: Path, how: int) -> Iterator[None]:
    """Hold the lock of a folder itself, so that no file stays behind; the lock ends with the process, too."""
    held = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(held, how)
        yield
    finally:
        os.close(held)
