"""Runs a function in a process of its own: native code that reads files of unknown origin may crash or hang there."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import resource
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from ..errors import InspectorError, MissingError, ModelRefused

T = TypeVar("T")
GB = 2**30
Tell = Callable[[str], None]


def isolated(work: Callable[[Tell], T], tell: Tell, *, memory: int, step_s: float) -> T:
    """What `work` returns. It gets a function to tell its steps with, which are passed on to `tell`.

    memory: how much the process may grow, in bytes. step_s: how long a step may take. Raises what it raised
    (an InspectorError, an OSError), or ModelRefused where it crashed, hung, failed otherwise or wanted more memory.
    """
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_child, args=(work, ours, theirs, memory), daemon=True)
    child.start()
    theirs.close()
    step = "starting"
    try:
        while ours.poll(step_s):
            kind, value = ours.recv()
            if kind == "step":
                step = value
                tell(step)
            elif kind == "done":
                result: T = value
                return result
            else:
                raise value
    except EOFError:
        child.join()
        raise ModelRefused(f"{step} crashes the reader: {_ended(child.exitcode or 0)}; export it again") from None
    finally:
        child.kill()
        child.join()
        ours.close()
    raise ModelRefused(f"{step} takes longer than {step_s:g} s; export it again, or a smaller model")


def _child(work: Callable[[Tell], Any], unused: Connection, answers: Connection, memory: int) -> None:
    """Runs in the child. What native code prints there is of no use to anybody."""
    unused.close()
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (_size_now() + memory,) * 2)
    try:
        answers.send(("done", work(lambda step: answers.send(("step", step)))))
    except InspectorError as error:
        answers.send(("error", error))
    except MemoryError:
        answers.send(
            ("error", ModelRefused(f"it needs more than {memory / GB:.0f} GB of memory; export a smaller one"))
        )
    except ModuleNotFoundError as error:
        what = f"{error.name} is not installed; run: pip install 'edge-inspector[models]'"
        answers.send(("error", MissingError(what)))
    except OSError as error:
        answers.send(("error", error))
    except Exception as error:  # a damaged file can make any library fail in any way
        first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
        what = f"reading it fails: {type(error).__name__}: {first[:200]}; export it again"
        answers.send(("error", ModelRefused(what)))
    with contextlib.suppress(OSError):
        answers.close()
    os._exit(0)


def _size_now() -> int:
    """Of this process's address space, in bytes."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


def _ended(code: int) -> str:
    return f"signal {-code} ({signal.Signals(-code).name})" if code < 0 else f"it ended with {code}"
