"""Log lines: structlog, as JSON for programs or coloured text for people, on stderr. It sets up; it ships nothing.

log = get_logger(room="gateway")
log.info("listening", protocol="mqtt", port=1883)
"""

from __future__ import annotations

import logging
import sys
from typing import TextIO

import structlog
from structlog.typing import FilteringBoundLogger

from qanat.errors import ConfigError


def setup_logs(style: str = "console", level: str = "info", out: TextIO | None = None) -> None:
    """Where and how log lines are written, for the whole process. `style`: "json" or "console".

    Raises `ConfigError` for another style or an unknown level.
    """
    number = logging.getLevelNamesMapping().get(level.upper())
    if style not in ("json", "console") or number is None:
        raise ConfigError(
            f"log style {style!r} with level {level!r} is not known",
            hint="style: json, console; level: debug, info, warning, error",
        )
    file = sys.stderr if out is None else out
    last: structlog.typing.Processor
    if style == "json":
        last = structlog.processors.JSONRenderer()
    else:
        last = structlog.dev.ConsoleRenderer(colors=file.isatty())
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.dict_tracebacks if style == "json" else structlog.processors.StackInfoRenderer(),
            last,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(file),
        cache_logger_on_first_use=False,
    )


def get_logger(**context: object) -> FilteringBoundLogger:
    """A logger whose lines all carry `context`."""
    logger: FilteringBoundLogger = structlog.get_logger().bind(**context)
    return logger
