"""Protobuf schemas: .proto text, or a serialised FileDescriptorProto in base64 -> a tree of messages, by protoc.

What payloads hold is `protobuf`, how a descriptor is printed as text `protobuf_text`, which schema may follow which
`contracts.protobuf_rules`.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qanat.codec.protobuf_text import as_text
from qanat.errors import ConfigError, SchemaError

if TYPE_CHECKING:
    from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto

_FILE = "schema.proto"
#: What protoc is run with is not safe in two threads.
_ONE_AT_A_TIME = threading.Lock()

#: Files that everybody may import and protoc does not bring.
BUILT_IN: Mapping[str, str] = {
    "confluent/type/decimal.proto": (
        'syntax = "proto3";\npackage confluent.type;\n'
        "message Decimal {\n  bytes value = 1;\n  uint32 precision = 2;\n  int32 scale = 3;\n}\n"
    ),
    "google/type/date.proto": (
        'syntax = "proto3";\npackage google.type;\n'
        "message Date {\n  int32 year = 1;\n  int32 month = 2;\n  int32 day = 3;\n}\n"
    ),
    "google/type/timeofday.proto": (
        'syntax = "proto3";\npackage google.type;\nmessage TimeOfDay {\n'
        "  int32 hours = 1;\n  int32 minutes = 2;\n  int32 seconds = 3;\n  int32 nanos = 4;\n}\n"
    ),
    "confluent/meta.proto": (
        'syntax = "proto3";\npackage confluent;\nimport "google/protobuf/descriptor.proto";\n'
        "message Meta {\n  string doc = 1;\n  map<string, string> params = 2;\n  repeated string tags = 3;\n}\n"
        "extend google.protobuf.FileOptions {\n  optional Meta file_meta = 1088;\n}\n"
        "extend google.protobuf.MessageOptions {\n  optional Meta message_meta = 1088;\n}\n"
        "extend google.protobuf.FieldOptions {\n  optional Meta field_meta = 1088;\n}\n"
        "extend google.protobuf.EnumOptions {\n  optional Meta enum_meta = 1088;\n}\n"
        "extend google.protobuf.EnumValueOptions {\n  optional Meta enum_value_meta = 1088;\n}\n"
    ),
}


@dataclass(slots=True, eq=False)
class ProtoField:
    """A field. `kind` is the scalar's name, `enum` or `message`; `presence`: whether it can be told to be absent.

    `oneof` names the one that it belongs to; `default` is what an absent field without presence counts as.
    """

    name: str
    number: int
    kind: str
    repeated: bool = False
    required: bool = False
    presence: bool = False
    oneof: str | None = None
    default: Any = None
    message: ProtoMessage | None = None
    enum: ProtoEnum | None = None


@dataclass(slots=True, eq=False)
class ProtoEnum:
    """Names by number; where two names share one, the first."""

    name: str
    values: dict[int, str]
    reserved: tuple[tuple[int, int], ...] = ()
    reserved_names: frozenset[str] = frozenset()


@dataclass(slots=True, eq=False)
class ProtoMessage:
    """A message. Not frozen, since it may hold itself. `name` is the full one; `reserved` are [first, last] numbers."""

    name: str
    package: str = ""
    fields: dict[int, ProtoField] = field(default_factory=dict)
    messages: list[ProtoMessage] = field(default_factory=list)
    enums: list[ProtoEnum] = field(default_factory=list)
    reserved: tuple[tuple[int, int], ...] = ()
    reserved_names: frozenset[str] = frozenset()
    is_map: bool = False

    @property
    def local_name(self) -> str:
        """The name without the package."""
        return self.name.removeprefix(f"{self.package}.") if self.package else self.name


@dataclass(frozen=True, slots=True, eq=False)
class ProtoFile:
    """A compiled file: `messages` of its top level in order; `text` as it was given or printed.

    `descriptor` is the serialised FileDescriptorProto, without the file's name: equal bytes, equal schema.
    """

    package: str
    messages: tuple[ProtoMessage, ...]
    enums: tuple[ProtoEnum, ...]
    text: str
    descriptor: bytes
    imports: tuple[str, ...] = ()

    def find(self, indexes: Sequence[int]) -> ProtoMessage | None:
        """The message at this path of places: top level, then nested ones."""
        level: Sequence[ProtoMessage] = self.messages
        found = None
        for index in indexes:
            if not 0 <= index < len(level):
                return None
            found = level[index]
            level = found.messages
        return found

    def named(self, name: str) -> ProtoMessage | None:
        """The message of this name, with or without the package."""
        wanted = {name, f"{self.package}.{name}"}
        return next((one for one in _all_messages(self.messages) if one.name in wanted), None)


def parse_protobuf(text: str, references: Mapping[str, str] | None = None) -> ProtoFile:
    """Compile; `references` are the texts of imported files by the name they are imported under.

    Raises `SchemaError` with protoc's line and column, `ConfigError` where protoc is not installed.
    """
    proto, pool = _modules()
    given = {name: _as_proto_text(one, proto) for name, one in (references or {}).items()}
    source = _as_proto_text(text, proto)
    files = _compile(source, given, proto)
    known = pool.DescriptorPool()
    with _as_schema_errors():
        for one in files:
            known.Add(one)
    mine = files[-1]
    tree = _Tree(files)
    messages = tuple(tree.messages[_full(mine.package, one.name)] for one in mine.message_type)
    enums = tuple(tree.enums[_full(mine.package, one.name)] for one in mine.enum_type)
    bare = proto.FileDescriptorProto()
    bare.CopyFrom(mine)
    bare.ClearField("name")
    bare.ClearField("source_code_info")
    return ProtoFile(
        mine.package, messages, enums, source, bare.SerializeToString(deterministic=True), tuple(mine.dependency)
    )


def _modules() -> tuple[Any, Any]:
    try:
        import grpc_tools  # noqa: F401  protoc
        from google.protobuf import descriptor_pb2, descriptor_pool
    except ImportError as error:
        raise ConfigError(
            "Protobuf schemas need protobuf and protoc, which are not installed", hint="pip install 'qanat[protobuf]'"
        ) from error
    return descriptor_pb2, descriptor_pool


def _as_proto_text(given: str, proto: Any) -> str:
    """Clients may send the descriptor itself, serialised and in base64; everybody else sends text."""
    from google.protobuf.message import DecodeError

    try:
        raw = base64.b64decode(given, validate=True)
        return as_text(proto.FileDescriptorProto.FromString(raw)) if raw else given
    except (binascii.Error, ValueError, DecodeError):  # then it is text, and protoc says what is wrong
        return given


@contextlib.contextmanager
def _as_schema_errors() -> Iterator[None]:
    try:
        yield
    except TypeError as error:
        raise SchemaError(f"this is no valid Protobuf schema: {' '.join(str(error).split())}") from error


def _compile(text: str, references: Mapping[str, str], proto: Any) -> list[FileDescriptorProto]:
    """The files, imported ones first."""
    import grpc_tools
    from grpc_tools import _protoc_compiler, protoc

    own = Path(grpc_tools.__file__).parent / "_proto"
    with _ONE_AT_A_TIME, tempfile.TemporaryDirectory(prefix="qanat-proto-") as folder:
        root = Path(folder)
        for name, content in {**BUILT_IN, **references, _FILE: text}.items():
            path = (root / name).resolve()
            if not path.is_relative_to(root.resolve()):
                raise SchemaError(f"a reference may not be named {name!r}")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")
        try:
            _protoc_compiler.get_protos(_FILE.encode(), [folder.encode(), str(own).encode()])
        except _protoc_compiler.ProtocErrors as errors:
            raise SchemaError(_said(errors)) from errors
        out = root / "set.bin"
        arguments = ["protoc", f"-I{folder}", f"-I{own}", "--include_imports", f"--descriptor_set_out={out}", _FILE]
        if protoc.main(arguments):
            raise SchemaError("protoc does not take this schema")
        return list(proto.FileDescriptorSet.FromString(out.read_bytes()).file)


def _said(errors: Any) -> str:
    lines = [f"{_text(one.filename)}:{one.line + 1}:{one.column + 1}: {_text(one.message)}" for one in errors.errors()]
    return "; ".join(lines) or "protoc does not take this schema"


def _text(said: bytes | str) -> str:
    return said.decode(errors="replace") if isinstance(said, bytes) else said


def _full(package: str, name: str) -> str:
    return f"{package}.{name}" if package else name


def _all_messages(level: Sequence[ProtoMessage]) -> Iterator[ProtoMessage]:
    for one in level:
        yield one
        yield from _all_messages(one.messages)


class _Tree:
    """All messages and enums of a set of files, by full name."""

    def __init__(self, files: Sequence[FileDescriptorProto]) -> None:
        self.messages: dict[str, ProtoMessage] = {}
        self.enums: dict[str, ProtoEnum] = {}
        self._todo: list[tuple[DescriptorProto, ProtoMessage, str]] = []
        for one in files:
            for message in one.message_type:
                self._declare(message, one.package, one.package, one.syntax)
            for enum in one.enum_type:
                self._enum(enum, one.package)
        for described, made, syntax in self._todo:
            made.fields = {one.number: self._field(one, described, syntax) for one in described.field}

    def _declare(self, described: DescriptorProto, space: str, package: str, syntax: str) -> ProtoMessage:
        made = ProtoMessage(
            _full(space, described.name),
            package,
            reserved=tuple((one.start, one.end - 1) for one in described.reserved_range),
            reserved_names=frozenset(described.reserved_name),
            is_map=described.options.map_entry,
        )
        self.messages[made.name] = made
        made.enums = [self._enum(one, made.name) for one in described.enum_type]
        made.messages = [self._declare(one, made.name, package, syntax) for one in described.nested_type]
        self._todo.append((described, made, syntax))
        return made

    def _enum(self, described: Any, space: str) -> ProtoEnum:
        values: dict[int, str] = {}
        for one in described.value:
            values.setdefault(one.number, one.name)
        made = ProtoEnum(
            _full(space, described.name),
            values,
            tuple((one.start, one.end) for one in described.reserved_range),
            frozenset(described.reserved_name),
        )
        self.enums[made.name] = made
        return made

    def _field(self, one: Any, parent: DescriptorProto, syntax: str) -> ProtoField:
        kind = _KINDS[one.type]
        named = one.type_name.lstrip(".")
        repeated, required = one.label == one.LABEL_REPEATED, one.label == one.LABEL_REQUIRED
        in_oneof = one.HasField("oneof_index") and not one.proto3_optional
        explicit = syntax != "proto3" or one.proto3_optional or in_oneof or kind == "message"
        made = ProtoField(
            one.name,
            one.number,
            kind,
            repeated,
            required,
            presence=explicit and not repeated,
            oneof=parent.oneof_decl[one.oneof_index].name if in_oneof else None,
            message=self.messages.get(named) if kind == "message" else None,
            enum=self.enums.get(named) if kind == "enum" else None,
        )
        made.default = _default(made, one.default_value if one.HasField("default_value") else None)
        return made


_KINDS = {
    1: "double",
    2: "float",
    3: "int64",
    4: "uint64",
    5: "int32",
    6: "fixed64",
    7: "fixed32",
    8: "bool",
    9: "string",
    10: "group",
    11: "message",
    12: "bytes",
    13: "uint32",
    14: "enum",
    15: "sfixed32",
    16: "sfixed64",
    17: "sint32",
    18: "sint64",
}


def _default(made: ProtoField, given: str | None) -> Any:
    """What an absent field counts as: what proto2 says, else zero; None where it counts as absent."""
    if given is None:
        if made.presence or made.repeated:
            return None
        first = next(iter(made.enum.values.values()), "") if made.enum is not None else ""
        zero: dict[str, Any] = {"string": "", "bytes": b"", "bool": False, "float": 0.0, "double": 0.0, "enum": first}
        return zero.get(made.kind, 0)
    match made.kind:
        case "string" | "enum":
            return given
        case "bytes":
            return given.encode("latin-1").decode("unicode_escape").encode("latin-1")
        case "bool":
            return given == "true"
        case "float" | "double":
            return float(given)
        case _:
            return int(given)
