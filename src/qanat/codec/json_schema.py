"""JSON payloads that have to fit a JSON Schema before they become rows. Which schema that is, others say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson

from qanat.codec.base import BadRow, Decode, Decoded
from qanat.codec.json import decode_payloads
from qanat.errors import ConfigError
from qanat.model.streams import Column

DRAFT_7 = "http://json-schema.org/draft-07/schema#"


def json_schema_decoder(document: Any, others: Mapping[str, Any]) -> Decode:
    """Objects, or arrays of objects, each of which fits the schema; `others` are schemas that it names.

    Every payload is looked at on its own, some 5 us each. Raises `ConfigError` where jsonschema-rs is not installed.
    """
    validator = _validator(document, others)

    def decode(payloads: Sequence[bytes], columns: Sequence[Column]) -> Decoded:
        wrong = {place: reason for place, one in enumerate(payloads) if (reason := _fault(validator, one))}
        if not wrong:
            return decode_payloads(payloads, columns)
        kept = np.array([place for place in range(len(payloads)) if place not in wrong], dtype=np.int64)
        made = decode_payloads([payloads[place] for place in kept.tolist()], columns)
        bad = [BadRow(int(kept[one.index]), one.data, one.reason) for one in made.bad]
        bad += [BadRow(place, bytes(payloads[place]), reason) for place, reason in wrong.items()]
        return Decoded(made.rows, kept[made.index], tuple(sorted(bad, key=lambda one: one.index)))

    return decode


def in_dialect(document: Any) -> Any:
    """The schema with its dialect said; one that does not say it is draft 7, as it is to Confluent's registry."""
    if isinstance(document, dict) and "$schema" not in document:
        return {"$schema": DRAFT_7, **document}
    return document


def _fault(validator: Any, payload: bytes) -> str | None:
    """The first rule that a payload breaks. What is not JSON at all is left to the decoder."""
    try:
        value = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return None
    for one in value if isinstance(value, list) else (value,):
        if not validator.is_valid(one):
            error = next(iter(validator.iter_errors(one)))
            place = "/".join(map(str, error.instance_path))
            return f"{'/' + place + ': ' if place else ''}{error.message}"[:400]
    return None


def _validator(document: Any, others: Mapping[str, Any]) -> Any:
    try:
        import jsonschema_rs
    except ImportError as error:
        raise ConfigError(
            "JSON Schemas need jsonschema-rs, which is not installed", hint="pip install 'qanat[json-schema]'"
        ) from error

    def retrieve(uri: str) -> Any:
        for name, one in others.items():
            if uri == name or uri.endswith(f"/{name}"):
                return one
        raise KeyError(uri)

    return jsonschema_rs.validator_for(in_dialect(document), retriever=retrieve)
