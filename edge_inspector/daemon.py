"""The process: startup, serve, drain, stop; signals, watchdog, exit codes.

0 stopped; 1 failed while running; 2 usage; 3 hardware or engine missing at start; 78 configuration wrong.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from .config import load
from .errors import InspectorError
from .line import Line
from .service import Service

log = logging.getLogger(__name__)

TURN_S = 0.1
DRAIN_S = 5.0  # the longest a stop may take; parts in flight have their own, shorter deadlines


class Signals:
    """What this process was asked to do, kept until the main loop looks.

    Plain flags, as a handler runs in the midst of whatever the main thread does: one that took a lock, such as that of
    a threading.Event, could wait for ever for the very thread that it interrupts.
    """

    stop = False
    reload = False

    @contextlib.contextmanager
    def handled(self) -> Iterator[None]:
        """SIGTERM and SIGINT stop, SIGHUP reloads; the former handlers come back afterwards."""
        former = {
            number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        }
        try:
            yield
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)

    def _note(self, number: int, _frame: object) -> None:
        if number == signal.SIGHUP:
            self.reload = True
        else:
            self.stop = True


def run(path: Path) -> int:
    """Run the line that a TOML file describes until it is stopped; returns the exit code."""
    service, signals = Service(), Signals()
    line: Line | None = None
    code = 0
    with signals.handled():
        try:
            config = load(path)
            line = Line(config)
            log.info("starting", extra={"line": config.line.name, "epoch": line.epoch, "pid": os.getpid()})
            line.start(lambda: signals.stop)
            if not signals.stop:
                log.info("ready", extra={"verdicts": config.endpoints[0], "gateway": config.endpoints[1]})
                service.ready()
                _serve(line, service, signals)
        except InspectorError as error:
            log.error("%s", error)
            code = error.exit_code
        except Exception:
            log.exception("failed")
            code = 1
        service.stopping()
        ended = line.stop(DRAIN_S) if line is not None else True
    log.info("stopped", extra={"code": code})
    if not ended:  # a thread hangs in a driver: do not let the interpreter wait for it
        log.warning("a thread did not end in time")
        sys.stderr.flush()
        os._exit(code)
    return code


def _serve(line: Line, service: Service, signals: Signals) -> None:
    """Watch over the threads until told to stop, or until finite cameras have delivered everything."""
    while not signals.stop and not line.finished:
        time.sleep(TURN_S)
        if line.check():
            service.feed_watchdog()
        line.refresh_keys()
        if signals.reload:
            signals.reload = False
            _reload(line)
        counts = [station.ledger.counts for station in line.stations]
        service.status(
            f"{sum(c.triggers for c in counts)} parts: {sum(c.passed for c in counts)} pass, "
            f"{sum(c.rejected for c in counts)} reject, {sum(c.faulted for c in counts)} fault"
        )


def _reload(line: Line) -> None:
    try:
        line.reload_recipes()
    except InspectorError as error:
        log.error("recipes not reloaded, the old ones stay: %s", error)
    else:
        log.info("recipes reloaded", extra={s.name: s.recipe.sha256[:12] for s in line.stations})
