"""How payloads are read with the schemas of a registry: `codec.framed.Schemas` over `Registry`. Keeps what it made."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from qanat.codec.avro import avro_decoder
from qanat.codec.avro_schema import AvroType
from qanat.codec.base import Decode, Decoded
from qanat.codec.framed import MAGIC, in_order, refuse
from qanat.codec.json_schema import json_schema_decoder
from qanat.codec.protobuf import protobuf_decoder
from qanat.codec.protobuf_schema import ProtoFile, ProtoMessage
from qanat.contracts.json_schema import JsonSchema
from qanat.contracts.registry import Registry
from qanat.contracts.schema import Format
from qanat.contracts.streams import Bound
from qanat.errors import ConfigError, ContractError
from qanat.model.streams import Column

_MAX_MADE = 2000
#: Which contract a payload without a mark needs.
_PLAIN = {"avro-plain": Format.AVRO, "protobuf": Format.PROTOBUF, "json-schema": Format.JSON}


class Contracts:
    """Thread-safe. `bound`: the contract in force of each stream."""

    def __init__(self, registry: Registry, bound: Mapping[str, Bound]) -> None:
        self.registry, self._bound = registry, bound
        self._made: OrderedDict[tuple[str, bytes], Decode] = OrderedDict()
        self._lock = threading.Lock()

    def version(self, stream: str) -> int | None:
        """The number of the version in force; None for a stream without a contract."""
        found = self._bound.get(stream)
        return None if found is None else found.version.version

    def framed(self, stream: str, mark: bytes) -> Decode:
        """Raises `ContractError` for a schema that is not in the registry."""
        with self._lock:
            known = self._made.get((stream, mark))
        if known is not None:
            return known
        made = self._make(stream, self.registry.tree(self._id_of(mark)))
        with self._lock:
            self._made[stream, mark] = made
            if len(self._made) > _MAX_MADE:
                self._made.popitem(last=False)
        return made

    def bound(self, stream: str, name: str) -> Decode:
        """Raises `ConfigError` where the stream's contract is in another format."""
        contract, wanted = self._bound.get(stream), _PLAIN[name]
        if contract is None or contract.version.schema.format is not wanted:
            found = "none" if contract is None else contract.version.schema.format
            label = "json-schema" if wanted is Format.JSON else wanted.lower()
            raise ConfigError(
                f"payloads of {stream} in {name} need a contract in {wanted}, and it is {found}",
                hint=f"qanat.yaml: contracts: {{{stream}: {{format: {label}}}}}",
            )
        tree = self.registry.tree(contract.version.id)
        if isinstance(tree, ProtoFile):
            return protobuf_decoder(_message(tree, contract.message))
        return self._make(stream, tree)

    def _id_of(self, mark: bytes) -> int:
        if mark[:1] == MAGIC:
            return int.from_bytes(mark[1:], "big")
        found = self.registry.id_of_fingerprint(mark[2:])
        if found is None:
            raise ContractError(f"no Avro schema with the fingerprint {mark[2:].hex()} is registered", code=40403)
        return found

    def _make(self, stream: str, tree: Any) -> Decode:
        if isinstance(tree, AvroType):
            return avro_decoder(tree, self._reader(stream))
        if isinstance(tree, JsonSchema):
            return json_schema_decoder(tree.document, tree.others)
        if isinstance(tree, ProtoFile):
            return _by_message(tree)
        raise AssertionError(tree)

    def _reader(self, stream: str) -> AvroType | None:
        """The stream's own schema, for its aliases and defaults."""
        contract = self._bound.get(stream)
        if contract is None or contract.version.schema.format is not Format.AVRO:
            return None
        tree = self.registry.tree(contract.version.id)
        return tree if isinstance(tree, AvroType) else None


def _message(file: ProtoFile, name: str | None) -> ProtoMessage:
    found = file.named(name) if name is not None else next(iter(file.messages), None)
    if found is None:
        raise ConfigError(f"the schema has no message {name or 'at all'}")
    return found


def _by_message(file: ProtoFile) -> Decode:
    """Payloads that begin with the places of their message in the file: a count and so many places, or one 0."""
    made: dict[tuple[int, ...], Decode] = {}

    def decode(payloads: Sequence[bytes], columns: Sequence[Column]) -> Decoded:
        groups: dict[tuple[int, ...], tuple[list[int], list[bytes]]] = {}
        for place, payload in enumerate(payloads):
            path, size = ((0,), 1) if payload[:1] == b"\0" else _places(payload)
            places, bodies = groups.setdefault(path, ([], []))
            places.append(place)
            bodies.append(payload[size:])
        parts = []
        for path, (places, bodies) in groups.items():
            where = np.array(places, dtype=np.int64)
            message = file.find(path)
            if message is None:
                parts.append(refuse(f"its schema has no message at {list(path)}", bodies, where, columns))
                continue
            if path not in made:
                made[path] = protobuf_decoder(message)
            one = made[path](bodies, columns)
            bad = tuple(type(row)(int(where[row.index]), row.data, row.reason) for row in one.bad)
            parts.append(Decoded(one.rows, where[one.index], bad))
        return in_order(parts, payloads, columns)

    return decode


def _places(payload: bytes) -> tuple[tuple[int, ...], int]:
    """The places and how many bytes they take; no places where the payload ends before them."""
    found: list[int] = []
    at, count = 0, None
    while count is None or len(found) < count:
        value, shift = 0, 0
        while True:
            if at >= len(payload) or shift > 28:
                return (), len(payload)
            byte = payload[at]
            value |= (byte & 0x7F) << shift
            at, shift = at + 1, shift + 7
            if byte < 0x80:
                break
        number = (value >> 1) ^ -(value & 1)
        if count is None:
            count = number
            if not 0 < count <= 100:
                return (), len(payload)
        else:
            found.append(number)
    return tuple(found), at
