from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Start(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    START_LATEST: _ClassVar[Start]
    START_EARLIEST: _ClassVar[Start]

class Format(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FORMAT_JSON: _ClassVar[Format]
    FORMAT_ARROW: _ClassVar[Format]
    FORMAT_STRUCT: _ClassVar[Format]
START_LATEST: Start
START_EARLIEST: Start
FORMAT_JSON: Format
FORMAT_ARROW: Format
FORMAT_STRUCT: Format

class AppendRequest(_message.Message):
    __slots__ = ("stream", "sequence", "json", "arrow", "structs", "idempotency_key")
    STREAM_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    JSON_FIELD_NUMBER: _ClassVar[int]
    ARROW_FIELD_NUMBER: _ClassVar[int]
    STRUCTS_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    stream: str
    sequence: int
    json: JsonRows
    arrow: bytes
    structs: StructRows
    idempotency_key: str
    def __init__(self, stream: _Optional[str] = ..., sequence: _Optional[int] = ..., json: _Optional[_Union[JsonRows, _Mapping]] = ..., arrow: _Optional[bytes] = ..., structs: _Optional[_Union[StructRows, _Mapping]] = ..., idempotency_key: _Optional[str] = ...) -> None: ...

class JsonRows(_message.Message):
    __slots__ = ("rows",)
    ROWS_FIELD_NUMBER: _ClassVar[int]
    rows: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, rows: _Optional[_Iterable[bytes]] = ...) -> None: ...

class StructRows(_message.Message):
    __slots__ = ("rows",)
    ROWS_FIELD_NUMBER: _ClassVar[int]
    rows: _containers.RepeatedCompositeFieldContainer[_struct_pb2.Struct]
    def __init__(self, rows: _Optional[_Iterable[_Union[_struct_pb2.Struct, _Mapping]]] = ...) -> None: ...

class AppendReply(_message.Message):
    __slots__ = ("sequence", "accepted", "dead_letters", "errors", "replayed", "refusal")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    DEAD_LETTERS_FIELD_NUMBER: _ClassVar[int]
    ERRORS_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    accepted: int
    dead_letters: int
    errors: _containers.RepeatedCompositeFieldContainer[RowError]
    replayed: bool
    refusal: Refusal
    def __init__(self, sequence: _Optional[int] = ..., accepted: _Optional[int] = ..., dead_letters: _Optional[int] = ..., errors: _Optional[_Iterable[_Union[RowError, _Mapping]]] = ..., replayed: _Optional[bool] = ..., refusal: _Optional[_Union[Refusal, _Mapping]] = ...) -> None: ...

class RowError(_message.Message):
    __slots__ = ("row", "reason")
    ROW_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    row: int
    reason: str
    def __init__(self, row: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class Refusal(_message.Message):
    __slots__ = ("code", "message", "hint", "retry_after")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    HINT_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_FIELD_NUMBER: _ClassVar[int]
    code: int
    message: str
    hint: str
    retry_after: float
    def __init__(self, code: _Optional[int] = ..., message: _Optional[str] = ..., hint: _Optional[str] = ..., retry_after: _Optional[float] = ...) -> None: ...

class AppendSummary(_message.Message):
    __slots__ = ("batches", "accepted", "dead_letters", "errors")
    BATCHES_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    DEAD_LETTERS_FIELD_NUMBER: _ClassVar[int]
    ERRORS_FIELD_NUMBER: _ClassVar[int]
    batches: int
    accepted: int
    dead_letters: int
    errors: _containers.RepeatedCompositeFieldContainer[RowError]
    def __init__(self, batches: _Optional[int] = ..., accepted: _Optional[int] = ..., dead_letters: _Optional[int] = ..., errors: _Optional[_Iterable[_Union[RowError, _Mapping]]] = ...) -> None: ...

class SubscribeRequest(_message.Message):
    __slots__ = ("stream", "start", "offsets", "keys", "format")
    class OffsetsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: int
        def __init__(self, key: _Optional[int] = ..., value: _Optional[int] = ...) -> None: ...
    STREAM_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    OFFSETS_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    stream: str
    start: Start
    offsets: _containers.ScalarMap[int, int]
    keys: _containers.RepeatedScalarFieldContainer[str]
    format: Format
    def __init__(self, stream: _Optional[str] = ..., start: _Optional[_Union[Start, str]] = ..., offsets: _Optional[_Mapping[int, int]] = ..., keys: _Optional[_Iterable[str]] = ..., format: _Optional[_Union[Format, str]] = ...) -> None: ...

class Rows(_message.Message):
    __slots__ = ("places", "json", "arrow", "structs")
    PLACES_FIELD_NUMBER: _ClassVar[int]
    JSON_FIELD_NUMBER: _ClassVar[int]
    ARROW_FIELD_NUMBER: _ClassVar[int]
    STRUCTS_FIELD_NUMBER: _ClassVar[int]
    places: _containers.RepeatedCompositeFieldContainer[Place]
    json: JsonRows
    arrow: bytes
    structs: StructRows
    def __init__(self, places: _Optional[_Iterable[_Union[Place, _Mapping]]] = ..., json: _Optional[_Union[JsonRows, _Mapping]] = ..., arrow: _Optional[bytes] = ..., structs: _Optional[_Union[StructRows, _Mapping]] = ...) -> None: ...

class Place(_message.Message):
    __slots__ = ("partition", "offset", "key", "deleted")
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    DELETED_FIELD_NUMBER: _ClassVar[int]
    partition: int
    offset: int
    key: str
    deleted: bool
    def __init__(self, partition: _Optional[int] = ..., offset: _Optional[int] = ..., key: _Optional[str] = ..., deleted: _Optional[bool] = ...) -> None: ...
