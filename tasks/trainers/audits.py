"""A model that somebody built, looked at by a trainer of the framework that it is for."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from tasks import user_code
from tasks.core.audit.sample import OtherBackendError, Seen, Target
from tasks.core.design.initializers import Backend
from tasks.trainers import pool
from tasks.trainers.process import Slot, Trainer, TrainerError


def looked(target: Target, slots: Sequence[Slot], backend: Backend | None = None) -> Seen:
    """Return what a trainer sees of a model; if it is of the other framework, that one's trainer looks.

    slots: where trainers may be, unless a pool is held. backend: what the model must be of; by default it is found out.

    Raises:
        ValueError: if there is no such function, it may not be imported, or it builds no such model.
    """
    first = backend or _guessed(target.build)
    try:
        with _trainer(first, slots) as trainer:
            return trainer.audit(target)
    except OtherBackendError as error:
        other = error.backend
    if backend:
        raise ValueError(f"{target.name} must build a model of {backend}; it builds one of {other}")
    with _trainer(other, slots) as trainer:
        return trainer.audit(target)


@contextmanager
def _trainer(backend: Backend, slots: Sequence[Slot]) -> Iterator[Trainer]:
    with pool.pool(slots, (backend,)) as held:
        try:
            with held.lease(backend) as trainer:
                yield trainer
        except TrainerError as error:
            raise ValueError(str(error)) from None


def _guessed(build: str | Callable[..., Any]) -> Backend:
    """Return the backend that a builder is probably for, by what its code imports."""
    if isinstance(build, str):
        return user_code.backend(build) if ":" in build else "pytorch"
    around = vars(sys.modules.get(build.__module__, object)) if hasattr(build, "__module__") else {}
    return user_code.backend_of(each.__name__ for each in around.values() if isinstance(each, ModuleType))
