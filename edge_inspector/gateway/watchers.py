"""Who looks on, as the configuration says: OPC UA, MQTT, a file of records. Owns which library each of them needs."""

from __future__ import annotations

import importlib
from typing import cast

from ..errors import MissingError
from .base import Watcher
from .config import GatewayConfig

_WATCHERS = {"opcua": (".opcua", "OpcUa", "asyncua"), "mqtt": (".mqtt", "Mqtt", "paho.mqtt.client")}


def make(config: GatewayConfig) -> list[Watcher]:
    """Those that are asked for, not started. Raises MissingError where a library is not here."""
    found = []
    for extra, (module, name, library) in _WATCHERS.items():
        if getattr(config, extra) is None:
            continue
        try:
            importlib.import_module(library)
        except ImportError as error:
            mend = f"pip install 'edge-inspector[{extra}]'"
            raise MissingError(f"{config.path}: {extra}: needs a library ({error}); run: {mend}") from None
        found.append(cast(Watcher, getattr(importlib.import_module(module, __package__), name)(config)))
    if config.gateway.records:
        kind = importlib.import_module(".records", __package__).Records
        found.append(cast(Watcher, kind(config.resolve(config.gateway.records))))
    return found
