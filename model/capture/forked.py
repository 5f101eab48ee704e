"""Run a function of the author's model in a process of its own, so that nothing here changes."""

from __future__ import annotations

import os
import pickle
import random
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing import connection
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn

from lapilli.ir.errors import CaptureError
from lapilli.model.neurons.copies import copied

T = TypeVar("T")

SILENCE_S = 300.0  # of a forked process that has stopped answering
_CAN_FORK = sys.platform.startswith("linux")  # elsewhere there is none, or libraries forbid it


def apart(
    model: nn.Module, works: Sequence[Callable[[nn.Module], Iterator[T]]]
) -> tuple[list[tuple[T, ...]], tuple[str, ...]]:
    """Run each `work(model)` in a forked process, all at once; return what they yield, and notes.

    Where a process cannot be forked, or dies, or says nothing for `SILENCE_S` seconds (another
    thread may have held a lock when it was forked), they run here, each on a copy of the model.
    Copies share globals and closures with the model, which the note says.

    Args:
        model: given to each work.
        works: each yields values that can be pickled.

    Raises:
        CaptureError: raised by a work; or the model cannot be copied where it has to be.
    """
    if _CAN_FORK:
        with suppress(_NoAnswerError):
            return _forked([partial(work, model) for work in works]), ()
    with _generators_kept():
        found = [tuple(work(copied(model))) for work in works]
    return found, (
        "the model was called in this process, on a copy, to see that it answers the same images "
        "alike; what it keeps in globals or closures has seen these calls",
    )


class _NoAnswerError(Exception):
    """A forked process gave no answer."""


def _forked(works: Sequence[Callable[[], Iterator[T]]]) -> list[tuple[T, ...]]:
    children: list[tuple[int, connection.Connection]] = []
    try:
        children += map(_started, works)
        return [tuple(_answers(pipe)) for _, pipe in children]
    finally:
        for process, pipe in children:
            pipe.close()
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)


def _started(work: Callable[[], Iterator[Any]]) -> tuple[int, connection.Connection]:
    """Fork a process that does the work; return its number and where it answers."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()  # or the child would write it again
    ours, theirs = connection.Pipe(duplex=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: threads; see `apart`
        process = os.fork()
    if process == 0:
        _answer(ours, theirs, work)
    theirs.close()
    return process, ours


def _answers(pipe: connection.Connection) -> Iterator[Any]:
    while True:
        if not pipe.poll(SILENCE_S):
            raise _NoAnswerError
        try:
            kind, value = pickle.loads(pipe.recv_bytes())
        except EOFError:
            raise _NoAnswerError from None
        if kind == "error":
            raise CaptureError(*value)
        if kind == "end":
            return
        yield value


def _answer(
    ours: connection.Connection, theirs: connection.Connection, work: Callable[[], Iterator[Any]]
) -> None:
    """Do the work in the child, and end it; never returns."""
    status = 1
    try:
        ours.close()
        nowhere = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(nowhere, descriptor)  # what the author prints was meant to be printed once
        sys.stdout = sys.stderr = os.fdopen(nowhere, "w")
        torch.set_num_threads(1)  # the pool of threads was not forked
        try:
            for value in work():
                theirs.send_bytes(pickle.dumps(("value", value)))
            theirs.send_bytes(pickle.dumps(("end", None)))
        except CaptureError as error:
            theirs.send_bytes(pickle.dumps(("error", (error.path, error.problem))))
        status = 0
    finally:
        os._exit(status)


@contextmanager
def _generators_kept() -> Iterator[None]:
    """Bring the process's random numbers back to where they were."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng(devices=[]):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002
