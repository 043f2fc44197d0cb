"""systemd or nothing: readiness, status, watchdog, journal. Owns the notify protocol and how a log line looks."""

from __future__ import annotations

import importlib
import logging
import os
import re
import socket
import sys
import time
from collections.abc import Callable

log = logging.getLogger(__name__)

STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
PRIORITY = {"DEBUG": 7, "INFO": 6, "WARNING": 4, "ERROR": 3, "CRITICAL": 2}
NO_FIELD = re.compile(r"[^A-Z0-9_]")  # journald drops a field whose name has others, such as a station's "-"


class Service:
    """What a supervisor is told. Without one, every call does nothing."""

    def __init__(self) -> None:
        self._notify = _notifier()
        period_us = os.environ.get("WATCHDOG_USEC", "")
        mine = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self._every_s = int(period_us) / 3e6 if period_us.isdigit() and mine else None
        self._fed_s = 0.0
        self._status = ""
        self._unheard = False

    def ready(self) -> None:
        """Warm-up is over and every camera is open."""
        self._tell("READY=1")

    def status(self, text: str) -> None:
        """One line for `systemctl status`; sent where it has changed."""
        if text != self._status:
            self._status = text
            self._tell(f"STATUS={text}")

    def feed_watchdog(self) -> None:
        """To be called while every thread makes progress; tells so at a third of the time allowed."""
        if self._every_s is not None and time.monotonic() - self._fed_s >= self._every_s:
            self._fed_s = time.monotonic()
            self._tell("WATCHDOG=1")

    def stopping(self) -> None:
        """Draining has begun."""
        self._tell("STOPPING=1")

    def _tell(self, state: str) -> None:
        """A supervisor that does not listen is worth one line in the log; the inspection goes on."""
        try:
            self._notify(state)
        except OSError as error:
            if not self._unheard:
                self._unheard = True
                log.warning("systemd does not listen", extra={"reason": str(error)})


def _notifier() -> Callable[[str], object]:
    """systemd-python where it is installed, else the same datagram by hand, else nothing."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return lambda state: None
    try:
        # not `import systemd`: run from the checkout, the folder systemd/ is a package of that name, and empty
        daemon = importlib.import_module("systemd.daemon")
    except ImportError:
        return lambda state: _send(address, state)
    notify: Callable[[str], object] = daemon.notify
    return notify


def _send(address: str, state: str) -> None:
    """sd_notify(3): one datagram to the socket; a leading @ is the abstract namespace."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.sendto(state.encode(), address.replace("@", "\0", 1) if address.startswith("@") else address)


def log_to(*, least: int = logging.INFO) -> None:
    """Send log lines to the journal with fields, or to standard error as key=value."""
    logging.raiseExceptions = False  # a full disk behind standard error must not disturb a verdict
    logging.basicConfig(level=least, handlers=[_handler()], force=True)


def _handler() -> logging.Handler:
    if "JOURNAL_STREAM" not in os.environ:
        handler: logging.Handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(KeyValue("%(asctime)s %(levelname)-7s %(message)s"))
        return handler
    try:
        journal = importlib.import_module("systemd.journal")
    except ImportError:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(KeyValue("<%(priority)d>%(message)s"))
        return handler
    return _journal(journal.send)


def _journal(send: Callable[..., object]) -> logging.Handler:
    """A handler that gives each extra as a field EI_<NAME>; a journal that does not take it disturbs nobody."""

    class Journal(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            fields = {f"EI_{NO_FIELD.sub('_', key.upper())}": str(value) for key, value in extras(record).items()}
            fields["PRIORITY"] = str(PRIORITY.get(record.levelname, 6))
            fields["SYSLOG_IDENTIFIER"] = "edge-inspector"  # else the journal calls the sender python3
            place = {"CODE_FILE": record.pathname, "CODE_LINE": record.lineno, "CODE_FUNC": record.funcName}
            try:
                send(KeyValue("%(message)s").format(record), **place, **fields)
            except Exception:
                self.handleError(record)

    return Journal()


class KeyValue(logging.Formatter):
    """`message key=value ...`; a value with a space in it stands in quotes."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, whatever the values hold."""
        record.priority = PRIORITY.get(record.levelname, 6)
        text = super().format(record)
        pairs = [f"{key}={_quoted(str(value))}" for key, value in extras(record).items() if value != ""]
        return " ".join([text, *pairs]).replace("\n", "\\n")


def extras(record: logging.LogRecord) -> dict[str, object]:
    """What was given as `extra` with a log call."""
    return {key: value for key, value in vars(record).items() if key not in STANDARD and key != "priority"}


def _quoted(text: str) -> str:
    return '"' + text.replace('"', "'") + '"' if " " in text or not text else text
