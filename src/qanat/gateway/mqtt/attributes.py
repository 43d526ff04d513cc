"""What an MQTT 5 message says beside its payload, by the names that sources know (`$content_type`, ...). Pure."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping

from qanat.gateway.mqtt.properties import Properties, Property

_NAMES = {
    Property.CONTENT_TYPE: "content_type",
    Property.RESPONSE_TOPIC: "response_topic",
    Property.CORRELATION_DATA: "correlation_data",
    Property.MESSAGE_EXPIRY: "message_expiry",
    Property.PAYLOAD_FORMAT: "payload_format",
}


def attributes_of(who: Mapping[str, str], properties: Properties) -> dict[str, str]:
    """`who` and what the message says: `content_type`, `response_topic`, `correlation_data` (Base64), `message_expiry`
    (s), `payload_format` (1: UTF-8), and `property.NAME` for each user property; of two with one name the last."""
    found = dict(who)
    for name, value in properties.items():
        if name is Property.USER_PROPERTY and isinstance(value, tuple):
            found |= {f"property.{one[0]}": one[1] for one in value if isinstance(one, tuple)}
        elif name in _NAMES:
            found[_NAMES[name]] = b64encode(value).decode() if isinstance(value, bytes) else str(value)
    return found
