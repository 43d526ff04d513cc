"""The front door: MQTT and HTTP in, rows into the log, acknowledgements after they are durable."""

from qanat.gateway.config import GatewayConfig, IngestLimits
from qanat.gateway.service import Gateway

__all__ = ["Gateway", "GatewayConfig", "IngestLimits"]
