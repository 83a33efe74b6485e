"""When Python looks for garbage: Prefect, MLflow and frameworks make millions of objects, and hardly any garbage."""

import atexit
import gc

OBJECTS = 50_000  # new ones between two looks; at Python's 700 a sixth of a run's time goes into looking


def rarely() -> None:
    """Have this process look for garbage rarely, and not while it ends, which would take two seconds."""
    gc.set_threshold(OBJECTS)
    atexit.register(gc.freeze)
