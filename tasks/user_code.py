"""Code of a user's own: which of it may be imported, from where, what a checksum of it covers, and what it raises.

A study names functions, as `module:function`. A module is imported if it lies in a folder that the variable
INITBENCH_CODE lists, so that a form in a web page cannot import just any code. The command line adds the study's
folder, the current one and Python's own path to the variable. What installed packages offer by an entry point is always
allowed, by the entry point's name.
"""

import ast
import hashlib
import importlib
import importlib.util
import inspect
import os
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import numpy as np

from tasks.core.audit.rows import Rows
from tasks.core.audit.sample import ROOTS, FirstPass, Target
from tasks.core.design.initializers import Backend
from tasks.core.design.layers import Layers
from tasks.core.design.nearest import choice
from tasks.core.design.own import Loaded, OwnNetwork
from tasks.core.training import arrays, datasets
from tasks.core.training.backend import Builder
from tasks.core.training.datasets import Dataset
from tasks.core.training.outcome import first_line

FOLDERS = "INITBENCH_CODE"  # variable that lists the folders of modules, separated as in PATH
NETWORKS, DATASETS = "initbench.networks", "initbench.datasets"  # groups of entry points
INSTALLED = {str(Path(sysconfig.get_paths()[kind]).resolve()) for kind in ("purelib", "platlib")}  # folders of packages
DIGITS = 16  # of a checksum
RAISED = (Exception, SystemExit)  # what a user's code raises is of any kind; a script may end where it is imported


@contextmanager
def telling(rule: str) -> Iterator[None]:
    """Tell, after a rule that a user's code must keep, what it raises meanwhile.

    Raises:
        ValueError: if it raises.
    """
    try:
        yield
    except RAISED as error:
        raise ValueError(f"{rule}; it raised {type(error).__name__}: {first_line(error)}") from None


def folders() -> list[Path]:
    """Return the folders of code that may be imported here."""
    return [Path(folder).resolve() for folder in listed().split(os.pathsep) if folder]


def listed() -> str:
    """Return the folders as the variable lists them, empty if there are none."""
    return os.environ.get(FOLDERS, "")


def allow(*more: Path) -> None:
    """Allow code in these folders, and what Python finds by itself, for this process and those that it starts."""
    python = [Path(folder or ".") for folder in sys.path]
    whole = dict.fromkeys(str(folder.resolve()) for folder in (*more, *folders(), *python))
    os.environ[FOLDERS] = os.pathsep.join(whole)


@contextmanager
def restored() -> Iterator[None]:
    """Allow for a while what is allowed meanwhile; then the folders are listed as before."""
    before = os.environ.get(FOLDERS)
    try:
        yield
    finally:
        os.environ.pop(FOLDERS, None)
        if before is not None:
            os.environ[FOLDERS] = before


def function(reference: str, group: str) -> Callable[..., Any]:
    """Return the function that a reference names, of those that may be imported.

    group: the group of entry points, for references without a colon.

    Raises:
        ValueError: if there is none, or it may not be imported, or importing it fails.
    """
    if ":" not in reference:
        return _offered(reference, group)
    module, _, name = reference.partition(":")
    file = _file(module)
    found = getattr(_imported(module, file), name, None)
    if not callable(found):
        raise ValueError(f"{module} must have a function {name!r}; {_functions(file, name)}")  # noqa: TRY004  # input
    called: Callable[..., Any] = found
    return called


def _offered(name: str, group: str) -> Callable[..., Any]:
    point = _point(name, group)
    with telling(f"the entry point {name} of {group} must be importable"):
        found: Callable[..., Any] = point.load()
    return found


def _point(name: str, group: str) -> EntryPoint:
    points = {point.name: point for point in entry_points(group=group)}
    if name not in points:
        there = choice(name, sorted(points)) if points else f"no package offers any in {group}"
        raise ValueError(f"code is named module:function, or by an entry point; no entry point {name!r}: {there}")
    return points[name]


def _file(module: str) -> Path:
    """Return the file of a module in one of the folders.

    Raises:
        ValueError: if none of them has it.
    """
    step = Path(*module.split("."))
    for folder in folders():
        for file in (folder / step.with_suffix(".py"), folder / step / "__init__.py"):
            if file.is_file():
                return file
    allowed = ", ".join(map(str, folders()[:3])) or "none"
    raise ValueError(f"no module {module!r} in the folders of code that {FOLDERS} lists, which are {allowed}")


def _imported(module: str, file: Path) -> Any:
    """Import a module by the file that was found; anew, if the code behind it is not what was imported before."""
    root = str(file.parents[len(module.split(".")) - (file.name != "__init__.py")])
    found = _sources(module, file)
    if _taken.get(module) != found or _files.get(module) != file:
        ours = {name for names in _taken.values() for name in names}
        for name in ours & {*found, *_taken.get(module, ())}:
            sys.modules.pop(name, None)
        sys.path[:] = [root, *(folder for folder in sys.path if folder != root)]
        importlib.invalidate_caches()
        sys.dont_write_bytecode = True  # a file that changes within a second would be taken for the one before
    with telling(f"{module} must be importable"):
        loaded = importlib.import_module(module)
    if Path(str(loaded.__file__)).resolve() != file.resolve():
        raise ValueError(f"{module} must be the module in {file}; Python has another one in {loaded.__file__}")
    _taken[module], _files[module] = found, file
    return loaded


_taken: dict[str, dict[str, bytes]] = {}
"""The sources of modules that were imported, by the module that a study names and by their own names."""


_files: dict[str, Path] = {}
"""The file of each module that was imported."""


def _functions(file: Path, name: str) -> str:
    found = [
        each.name for each in ast.parse(file.read_bytes()).body if isinstance(each, ast.FunctionDef | ast.ClassDef)
    ]
    return choice(name, found) if found else "it has none"


def checksum(reference: str, group: str) -> str:
    """Return a checksum of a function's code: its module, and what the module imports from its own folder.

    For an entry point it is a checksum of the package's name and version. Nothing is imported for it.

    Raises:
        ValueError: if there is no such module.
    """
    digest = hashlib.sha256()
    if ":" not in reference:
        point = _point(reference, group)
        digest.update(
            f"{point.value} {point.dist.name if point.dist else ''} {point.dist.version if point.dist else ''}".encode()
        )
    else:
        module = reference.partition(":")[0]
        for name, source in sorted(_sources(module, _file(module)).items()):
            digest.update(name.encode() + b"\0" + source + b"\0")
    return digest.hexdigest()[:DIGITS]


def sources(reference: str) -> dict[str, str]:
    """Return the code behind a reference, by module: its own, and what it imports from its own folder."""
    module = reference.partition(":")[0]
    return {name: source.decode() for name, source in _sources(module, _file(module)).items()}


def _sources(module: str, file: Path) -> dict[str, bytes]:
    """Return the sources of a module and of those that it imports from its own folder, by name.

    Of an installed package these are the package's own: its folder holds all other packages, too.
    """
    root = file.parents[len(module.split(".")) - (file.name != "__init__.py")]
    package = f"{module.partition('.')[0]}." if str(root) in INSTALLED else ""
    found: dict[str, bytes] = {}
    pending = [(module, file)]
    while pending:
        name, path = pending.pop()
        if name in found:
            continue
        found[name] = path.read_bytes()
        pending += [
            each
            for each in _imports(name, path, found[name], root)
            if each[0] not in found and f"{each[0]}.".startswith(package)
        ]
    return found


def _imports(module: str, file: Path, source: bytes, root: Path) -> Iterator[tuple[str, Path]]:
    """Yield the name and file of each module that a source imports from a folder."""
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        raise ValueError(f"{module} must be importable; line {error.lineno}: {error.msg}") from None
    names = [*_imported_names(tree, package)]
    whole = [".".join(name.split(".")[:at]) for name in names for at in range(1, len(name.split(".")) + 1)]
    for name in dict.fromkeys(whole):
        step = root.joinpath(*name.split("."))
        for path in (step.with_suffix(".py"), step / "__init__.py"):
            if name and path.is_file():
                yield name, path


def _imported_names(tree: ast.AST, package: str) -> Iterator[str]:
    """Yield the names that a module of a package imports: of modules, and of what is in them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        if isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
            start = ".".join([*above, *([node.module] if node.module else [])])
            yield from (start, *(f"{start}.{each.name}" for each in node.names))


def builder(network: OwnNetwork, backend: Backend) -> Builder:
    """Return what builds a network of one's own in a backend, with the network's options.

    Raises:
        ValueError: if there is no such code, or it has another checksum than the network says.
    """
    reference = network.build[backend]
    asked, found = network.code.get(backend), checksum(reference, NETWORKS)
    if asked and asked != found:
        raise ValueError(f"the code of {reference} must be as the study says ({asked}); it has changed ({found})")
    return partial(_built, reference, function(reference, NETWORKS), dict(network.options))


def _built(
    reference: str, build: Callable[..., Any], options: dict[str, Any], shape: tuple[int, ...], outputs: int
) -> Any:
    given = "".join(f", {name}={value!r}" for name, value in options.items())
    with telling(f"{reference}({shape}, {outputs}{given}) must build a model"):
        return build(shape, outputs, **options)


def backend(reference: str) -> Backend:
    """Return the backend of a model by what its builder's code imports: PyTorch, unless it is Keras alone.

    Nothing is imported for it.
    """
    return backend_of(
        name
        for module, source in sources(reference).items()
        for name in _imported_names(ast.parse(source), module.rpartition(".")[0])
    )


def backend_of(modules: Iterable[str]) -> Backend:
    """Return the backend of code that imports these modules: PyTorch, unless it is Keras alone.

    >>> backend_of(["numpy", "keras.layers"])
    'keras'
    """
    found = {ROOTS.get(name.partition(".")[0]) for name in modules}
    return "keras" if "keras" in found and "pytorch" not in found else "pytorch"


def target(asked: Target) -> tuple[Callable[[], Any], Rows | None]:
    """Return what builds a model without arguments, and the rows of its first pass, as an audit asks for.

    Arguments without a default that no option gives are the shape of a row and the number of outputs, in this order.

    Raises:
        ValueError: if there is no such code, or it takes other arguments.
    """
    build = function(asked.build, NETWORKS) if isinstance(asked.build, str) else asked.build
    data = loaded(Loaded(load=asked.load)) if asked.load else None
    known: dict[str, Any] = {}
    if data is not None:
        known = {"shape": data.problem.shape, "outputs": data.problem.outputs}
    elif asked.shape is not None:
        known = {"shape": asked.shape}
    arguments = _arguments(asked, build, known)
    rows = Rows.of(data) if data is not None else Rows.normal(asked.shape) if asked.shape is not None else None
    return partial(_called, asked.name, build, arguments), rows


def _arguments(asked: Target, build: Callable[..., Any], known: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a builder by name."""
    takes = inspect.signature(build).parameters.values()
    names = [each.name for each in takes if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)]
    if not any(each.kind is each.VAR_KEYWORD for each in takes):
        for name in asked.options:
            if name not in names:
                raise ValueError(
                    f"{asked.name} takes no argument {name!r}; {choice(name, names) if names else 'it takes none'}"
                )
    needed = [each.name for each in takes if each.name in names and each.default is each.empty]
    missing = [name for name in needed if name not in asked.options]
    given = dict(zip(missing, known.values(), strict=False))
    if "outputs" in missing and "outputs" not in known:
        given = {name: known[name] for name in missing if name in known}
    if lacking := [name for name in missing if name not in given]:
        raise ValueError(
            f"{asked.name} needs {', '.join(lacking)}: give --data or --shape, or --option {lacking[0]}=VALUE"
        )
    return {**given, **asked.options}


def _called(name: str, build: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    inside = ", ".join(f"{key}={each!r}" for key, each in arguments.items())
    with telling(f"{name}({inside}) must build a model"):
        return build(**arguments)


def loaded(source: Loaded) -> Dataset:
    """Return the dataset that a function returns.

    Raises:
        ValueError: if there is no such function, it raises, or what it returns is no data to learn.
    """
    load = function(source.load, DATASETS)
    with telling(f"{source.load}() must return arrays"), np.errstate(all="ignore"):
        found = load()
    return datasets.of_arrays(source, source.load, arrays.returned(source.load, found))


def held(source: object) -> None:
    """Call the function of a `Loaded` source, unless this process has its dataset; other sources need nothing."""
    if isinstance(source, Loaded) and not datasets.holds(source):
        datasets.hold(source, loaded(source))


def first_pass(
    tries: list[Rows], call: Callable[[Rows], Layers], run: Callable[[Rows, Layers], FirstPass]
) -> FirstPass:
    """Return the first pass on the first rows that a model takes, or a note why there is none.

    call: calls the model on a few rows, and lists its layers in order of execution. run: makes the first pass.
    """
    said = []
    for rows in tries:
        try:
            found = call(rows)
        except RAISED as error:
            said.append(f"on {rows.words} the model raised {type(error).__name__}: {first_line(error)}")
            continue
        if not found.layers:
            return FirstPass(note="no first pass was made: the model has no layer of a known kind")
        try:
            return run(rows, found)
        except RAISED as error:  # of what the model gives, or of its backward pass
            said = [f"the model takes {rows.words}, but then came {type(error).__name__}: {first_line(error)}"]
            break
    return FirstPass(note=f"no first pass was made: {'; '.join(said)}")
