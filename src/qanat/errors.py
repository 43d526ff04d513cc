"""Every error that qanat raises.

    QanatError                 what was tried, on what; a hint says what to do next
    ├── ConfigError            a setting, option or argument is wrong
    ├── SqlError               the SQL is wrong or not supported; carries line, column and the excerpt
    │   └── UnsupportedError   correct Flink SQL that qanat refuses, with what to write instead
    ├── FunctionError          a user's function failed, or gave something else than it declares
    ├── DataError              input that cannot be decoded or does not fit its stream
    ├── LogError               the log cannot do what was asked
    │   ├── UnknownStreamError no such stream
    │   ├── LogLockedError     another process holds the log's write lock
    │   ├── RowsError          rows do not fit the stream that they are appended to
    │   ├── LogFullError       the disk or the size limit is reached
    │   └── LogCorruptError    the file is damaged; says what to do
    ├── ArchiveError           the archive cannot do what was asked
    ├── StoreError             a hot store cannot do what was asked
    │   └── CacheError         a cache is down, slow or talks nonsense
    ├── QueryLimitError        a query took longer, or more memory, than it may
    ├── BackpressureError      not now; carries `retry_after` in seconds
    ├── ChangedPipelineError   a pipeline was changed; its state belongs to what it was
    ├── StateLimitError        a pipeline holds more state than it may
    ├── AuthError              unknown user, wrong password, or not allowed
    ├── RegistryError          the registry of devices cannot do what was asked
    │   ├── UnknownDeviceError no such device
    │   └── DeviceExistsError  a device of that id is already there
    ├── ContractError          a schema or subject is not there, or may not be changed; carries the registry's code
    │   ├── SchemaError        a schema that is not valid
    │   └── IncompatibleError  a schema that may not follow the ones before it; carries the rules that it breaks
    └── ProtocolError          the peer broke the protocol

This module imports nothing of ours.
"""

from __future__ import annotations


class QanatError(Exception):
    """Root of all errors. `hint` is the command to run or the text to write instead."""

    #: Exit code of the command line for this kind of error; see docs/cli.md.
    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\n  hint: {self.hint}"


class ConfigError(QanatError):
    """A setting, option or argument is wrong."""

    exit_code = 2


class SqlError(QanatError):
    """The SQL is wrong. `line` and `column` count from 1; the text shows the excerpt with a caret."""

    exit_code = 3

    def __init__(
        self,
        message: str,
        *,
        sql: str | None = None,
        line: int | None = None,
        column: int | None = None,
        source: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.sql, self.line, self.column, self.source = sql, line, column, source

    def __str__(self) -> str:
        place = ""
        if self.line is not None:
            place = f"{self.source or 'SQL'}:{self.line}:{self.column or 1}: "
        text = f"{place}{self.message}"
        if self.sql is not None and self.line is not None:
            lines = self.sql.splitlines()
            if 1 <= self.line <= len(lines):
                excerpt = lines[self.line - 1].replace("\t", " ")
                caret = " " * ((self.column or 1) - 1) + "^"
                text += f"\n  {excerpt}\n  {caret}"
        return text if self.hint is None else f"{text}\n  hint: {self.hint}"


class UnsupportedError(SqlError):
    """Correct Flink SQL that qanat does not run; the hint says what to write instead."""


class DataError(QanatError):
    """Input that cannot be decoded or does not fit its stream."""

    exit_code = 4


class LogError(QanatError):
    """The log cannot do what was asked."""

    exit_code = 5


class UnknownStreamError(LogError):
    """No stream of that name."""


class RowsError(LogError):
    """Rows do not fit the stream that they are appended to: a column, a type, or a NULL where none may be."""


class LogLockedError(LogError):
    """Another process holds the log's write lock."""


class LogFullError(LogError):
    """The disk or the size limit is reached; nothing of the request was stored."""


class LogCorruptError(LogError):
    """The log file is damaged."""


class ArchiveError(QanatError):
    """The archive cannot do what was asked; what it holds stays as it is."""


class StoreError(QanatError):
    """A hot store cannot do what was asked."""


class CacheError(StoreError):
    """A cache is down, slow or talks nonsense. The answer can be had without it."""


class QueryLimitError(QanatError):
    """A query took longer, or more memory, than it may."""


class BackpressureError(QanatError):
    """Not now: a queue is full. Try again after `retry_after` seconds; nothing of the request was stored."""

    exit_code = 6

    def __init__(self, message: str, *, retry_after: float, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after


class AuthError(QanatError):
    """Unknown user, wrong password, or not allowed."""

    exit_code = 7


class RegistryError(QanatError):
    """The registry of devices cannot do what was asked; nothing was changed."""


class UnknownDeviceError(RegistryError):
    """No device of that id."""

    exit_code = 2


class DeviceExistsError(RegistryError):
    """A device of that id is already there."""

    exit_code = 2


class ContractError(QanatError):
    """A schema or subject is not there, or may not be changed so. `code` is what the registry answers with."""

    exit_code = 10

    def __init__(self, message: str, *, code: int = 42201, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.code = code


class SchemaError(ContractError):
    """A schema that is not valid."""


class IncompatibleError(ContractError):
    """A schema that may not follow the ones before it. `problems`: one line for each rule that it breaks."""

    def __init__(self, message: str, problems: tuple[str, ...], *, hint: str | None = None) -> None:
        super().__init__("\n  ".join([message, *problems]), code=409, hint=hint)
        self.problems = problems


class FunctionError(QanatError):
    """A user's function failed, or gave something else than it declares."""


class ProtocolError(QanatError):
    """The peer broke the protocol. `reason_code` is the protocol's own number where it has one."""

    def __init__(self, message: str, *, reason_code: int | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.reason_code = reason_code


class ChangedPipelineError(QanatError):
    """The declared pipeline is not the one that the stored state belongs to."""

    exit_code = 8


class StateLimitError(QanatError):
    """A pipeline holds more state than it may; names the operator and its largest keys."""

    exit_code = 9
