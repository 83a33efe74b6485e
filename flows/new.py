"""Write a study of a network of one's own to start from, with its builder and its loader."""

from pathlib import Path

from tasks.core.design.initializers import Backend

EXAMPLES = Path(__file__).parent / "studies" / "examples"
MODELS: dict[Backend, str] = {"pytorch": "residual.py", "keras": "recurrent_keras.py"}
LOADERS: dict[Backend, str] = {"pytorch": "images", "keras": "rows"}  # functions of digits_data.py
STUDY = """\
# Which initializer should this network have? `own` is the model as its author wrote it.
name: {name}
backends: [{backend}]
network:
  build: {{{backend}: "{module}_model:build"}}
  options: {{{option}: 8}} # arguments of build; each may be a factor: network.options.{option}
dataset: {{load: "{module}_data:{loader}"}} # or {{path: file.npz}}
initializers: [own, he_normal, orthogonal]
seeds: 3
recipe: {{learning_rate: 0.01, batch_size: 64, epochs: 3}}
"""


def write(name: str, backend: Backend, folder: Path) -> list[str]:
    """Write a study, a builder and a loader into a folder, and return the names of the files.

    Raises:
        ValueError: if the name is none for a study and for modules, or one of the files is there already.
    """
    module = name.replace("-", "_")
    if not module.isidentifier() or name != name.lower():
        raise ValueError(f"a name must be lower-case letters, digits and dashes, a letter first; got {name!r}")
    option = "width" if backend == "pytorch" else "units"
    words = {"name": name, "backend": backend, "module": module, "option": option, "loader": LOADERS[backend]}
    texts = {
        f"{name}.yaml": STUDY.format(**words),
        f"{module}_model.py": (EXAMPLES / MODELS[backend]).read_text(),
        f"{module}_data.py": (EXAMPLES / "digits_data.py").read_text(),
    }
    if there := [file for file in texts if (folder / file).exists()]:
        raise ValueError(f"new must not write over a file; {there[0]} is there already")
    for file, text in texts.items():
        (folder / file).write_text(text)
    return list(texts)
