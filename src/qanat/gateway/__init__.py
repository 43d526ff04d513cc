"""The front door: MQTT and HTTP in, rows into the log, acknowledgements after they are durable.

The names are loaded on first use: the simulator needs `gateway.mqtt.device` and none of the servers.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qanat.gateway.config import GatewayConfig, IngestLimits
    from qanat.gateway.service import Gateway

__all__ = ["Gateway", "GatewayConfig", "IngestLimits"]

_HOMES = {"Gateway": "service", "GatewayConfig": "config", "IngestLimits": "config"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
