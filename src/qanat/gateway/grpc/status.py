"""Which error is which status of gRPC, and what goes with it. One table; ends no call by itself."""

from __future__ import annotations

import grpc
from google.protobuf.any_pb2 import Any
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from qanat.errors import (
    AuthError,
    BackpressureError,
    DataError,
    LogError,
    LogFullError,
    QanatError,
    UnknownStreamError,
)
from qanat.gateway.grpc.qanat_pb2 import Refusal

#: What a client should wait (s) where the error does not say.
_RETRY_AFTER = 5.0
_DETAILS = "grpc-status-details-bin"


class RefusedError(QanatError):
    """A request that ends with `code`."""

    def __init__(self, code: grpc.StatusCode, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.code = code


def code_of(error: QanatError) -> grpc.StatusCode:
    """The status of an error."""
    match error:
        case RefusedError(code=code):
            return code
        case AuthError():
            return grpc.StatusCode.UNAUTHENTICATED
        case BackpressureError() | LogFullError():
            return grpc.StatusCode.RESOURCE_EXHAUSTED
        case UnknownStreamError():
            return grpc.StatusCode.NOT_FOUND
        case DataError():
            return grpc.StatusCode.INVALID_ARGUMENT
        case _:
            return grpc.StatusCode.UNAVAILABLE


def retry_after(error: QanatError) -> float:
    """Seconds after which the request may do; 0 where it never will."""
    match error:
        case BackpressureError(retry_after=seconds):
            return seconds
        case UnknownStreamError():
            return 0.0
        case LogError():
            return _RETRY_AFTER
        case _:
            return 0.0


def refusal_of(error: QanatError) -> Refusal:
    """An error as the answer to one batch of many."""
    number: int = code_of(error).value[0]
    return Refusal(code=number, message=error.message, hint=error.hint or "", retry_after=retry_after(error))


def trailers_of(error: QanatError) -> tuple[tuple[str, str | bytes], ...]:
    """The metadata that go with the status: google.rpc details, and `retry-after` in seconds."""
    seconds, details = retry_after(error), []
    if seconds:
        wait = RetryInfo()
        wait.retry_delay.FromMilliseconds(int(seconds * 1000))
        details.append(_packed(wait))
    if error.hint is not None:
        info = ErrorInfo(reason=type(error).__name__, domain="qanat", metadata={"hint": error.hint})
        details.append(_packed(info))
    if not details:
        return ()
    status = Status(code=code_of(error).value[0], message=error.message, details=details)
    trailers: tuple[tuple[str, str | bytes], ...] = ((_DETAILS, status.SerializeToString()),)
    return (*trailers, ("retry-after", f"{seconds:g}")) if seconds else trailers


def _packed(detail: RetryInfo | ErrorInfo) -> Any:
    packed = Any()
    packed.Pack(detail)
    return packed
