"""The training tool in processes of their own, forked from one that has PyTorch loaded: loading alone takes seconds."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import sys
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

CONTEXT = multiprocessing.get_context("forkserver")
LOADED = ["tools.train.__main__", "torch._dynamo", "tests.tools.forked"]


def run(words: Sequence[str], said: Path, *, learns_only: bool = False, killed_at: tuple[str, int] = ("", 0)) -> int:
    """`python -m tools.train` and the words, to its end; what it says is in `said`. The exit code; negative: a signal.

    learns_only: without an engine in the end, which takes longer than it learned. killed_at: a function of the loop; it
    kills itself with SIGKILL when that is called for the n-th time, n from 1.
    """
    CONTEXT.set_forkserver_preload(LOADED)
    process: BaseProcess = CONTEXT.Process(target=_train, args=(tuple(words), said, learns_only, killed_at))
    process.start()
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def _train(words: Sequence[str], said: Path, learns_only: bool, killed_at: tuple[str, int]) -> None:
    import torch

    from tools.train import __main__ as tool
    from tools.train import dreams, loop

    with said.open("wb") as file:
        for number in (1, 2):
            os.dup2(file.fileno(), number)
    sys.argv = ["tools.train", *words]
    torch.set_num_threads(1)  # other tests run beside it; and sums do not depend on the machine's processors
    dreams.STEPS = 30  # golden pictures have to be there, not to be beautiful
    if learns_only:
        tool._make_engine = lambda *_: None
    name, call = killed_at
    if name:
        real, calls = getattr(loop, name), itertools.count(1)

        def killing(*given: Any) -> Any:
            if next(calls) == call:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*given)

        setattr(loop, name, killing)
    sys.exit(tool.main())
