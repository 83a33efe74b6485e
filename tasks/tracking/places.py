"""Where runs keep their files: on this machine's disk, or wherever MLflow's repositories of artifacts reach."""

import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.utils.file_utils import local_file_uri_to_path
from mlflow.utils.uri import is_local_uri


def put(location: str, uri: str, files: Mapping[str, bytes]) -> None:
    """Keep files under a run's location, in a store with this address; names may have folders.

    On a disk of this machine a file is there whole or not at all, also if the process is killed meanwhile.
    """
    if is_local_uri(location):
        _write(Path(local_file_uri_to_path(location)), files)
    elif files:
        with tempfile.TemporaryDirectory() as folder:
            _write(Path(folder), files)
            # MlflowClient.log_artifacts would read the run back first, and take twice as long
            get_artifact_repository(location, tracking_uri=uri).log_artifacts(folder)


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_name(f".{file.name}.part")
        part.write_bytes(content)
        part.rename(file)


def has(folder: Path, names: Iterable[str]) -> bool:
    """Tell whether a folder has files of these names."""
    return folder.is_dir() and {each.name for each in folder.iterdir()}.issuperset(names)
