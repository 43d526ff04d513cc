"""What a request asks for: the text of its query as a `Question`, and one key for all texts that ask the same.

Pure. Times that count from now stay so (`-1h`), since an answer may be given again until its time is over; `settle`
makes them instants.
"""

from __future__ import annotations

import datetime as dt
import difflib
import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from urllib.parse import parse_qsl
from zoneinfo import ZoneInfo, available_timezones

import orjson

from qanat.errors import ConfigError
from qanat.model.project import parse_duration
from qanat.model.types import Kind
from qanat.serve.aggregate.measure import PARAMETERS, WHOLE, Measure, Value

FUNCTIONS = ("count", "min", "max", "avg", "sum", "first", "last", "stddev")
USUAL = ("count", "min", "max", "avg")
_PERCENTILE = re.compile(r"p(\d{1,3}(?:\.\d+)?)")
_RELATIVE = re.compile(r"(?:now)?\s*([+-])\s*(\d.*)")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
#: A number below it is seconds since 1970, one from it on milliseconds.
_MILLISECONDS_FROM = 100_000_000_000
#: Years 1 to 9999, in ms since 1970: what a datetime can say.
_EARLIEST, _LATEST = -62_135_596_800_000, 253_402_300_799_999
_USUAL_RANGE_MS = 3_600_000
_MOST_FIELDS = 200


class QuestionError(ConfigError):
    """A parameter that cannot be. The hint says what could stand there."""


@dataclass(frozen=True, slots=True)
class Moment:
    """An instant (ms since 1970), or so many ms from when the answer is made."""

    ms: int
    relative: bool = False

    def at(self, now_ms: int) -> int:
        """The instant."""
        return now_ms + self.ms if self.relative else self.ms


NOW = Moment(0, relative=True)


@dataclass(frozen=True, slots=True)
class Question:
    """Rows of `measure` from `start` (inclusive) to `end` (not), whose dimensions have one of the `chosen` values,
    by group and window. `window_ms` None: one window. `aligned`: windows begin at multiples of their width, in `zone`;
    else at `start`. `empty`: windows without a row are told, too.
    """

    measure: str
    chosen: tuple[tuple[str, tuple[Value, ...]], ...]
    by: tuple[str, ...]
    start: Moment
    end: Moment
    window_ms: int | None
    zone: str
    aligned: bool
    functions: tuple[str, ...]
    empty: bool

    @property
    def key(self) -> str:
        """ASCII, the same for all texts that ask the same."""
        whole = [
            *(self.chosen, self.by, self.start.ms, self.start.relative, self.end.ms, self.end.relative),
            *(self.window_ms, self.zone, self.aligned, self.functions, self.empty),
        ]
        return f"aggregate:{hashlib.blake2b(orjson.dumps([self.measure, whole]), digest_size=16).hexdigest()}"


def parse(query: str, measure: Measure) -> Question:
    """The question that a query string asks. Raises `QuestionError` that names what was probably meant."""
    given = _fields(query)
    dimensions = {column.name: column for column in measure.dimensions}
    for name in given:
        if name not in dimensions and name not in PARAMETERS:
            raise _unknown("parameter", name, [*dimensions, *PARAMETERS])
    chosen = tuple(
        (name, _values(name, dimensions[name].type.kind, texts))
        for name, texts in sorted(given.items())
        if name in dimensions
    )
    zone = _zone(_one(given, "tz", "UTC"))
    window = _window(given)
    start, end = _range(given, window, ZoneInfo(zone))
    aligned = _choice(given, "align", ("clock", "from"), "clock" if "from" in given else "from") == "clock"
    return Question(
        measure.name,
        chosen,
        tuple(_known("by", name, dimensions) for name in _listed(given, "by")),
        start,
        end,
        window,
        zone if aligned and window is not None else "UTC",
        aligned and window is not None,
        tuple(sorted({_function(name) for name in _listed(given, "functions")}, key=_rank)) or USUAL,
        _choice(given, "empty", ("true", "false"), "true") == "true",
    )


def settle(question: Question, now_ms: int) -> tuple[int, int]:
    """From and to (ms since 1970). Raises `QuestionError` where nothing lies between them."""
    start, end = question.start.at(now_ms), question.end.at(now_ms)
    if start >= end:
        raise QuestionError(f"from is {_text(start)} and to is {_text(end)}", hint="from must lie before to")
    return start, end


def _fields(query: str) -> dict[str, list[str]]:
    """What is left empty was not asked."""
    try:
        pairs = parse_qsl(query, max_num_fields=_MOST_FIELDS, errors="strict")
    except (ValueError, UnicodeDecodeError) as error:
        raise QuestionError(f"the query cannot be read: {error}", hint="name=value&name=value, in UTF-8") from error
    given: dict[str, list[str]] = {}
    for name, text in pairs:
        given.setdefault(name, []).append(text)
    return given


def _one(given: Mapping[str, list[str]], name: str, default: str) -> str:
    texts = given.get(name, [default])
    if len(texts) > 1:
        raise QuestionError(f"{name} is given {len(texts)} times", hint="give it once")
    return texts[0].strip()


def _listed(given: Mapping[str, list[str]], name: str) -> list[str]:
    return list(dict.fromkeys(part.strip() for text in given.get(name, ()) for part in text.split(",") if part.strip()))


def _choice(given: Mapping[str, list[str]], name: str, possible: tuple[str, ...], default: str) -> str:
    return _known(name, _one(given, name, default), possible)


def _known(parameter: str, text: str, possible: Iterable[str]) -> str:
    names = list(possible)
    if text not in names:
        raise _unknown(f"value of {parameter}", text, names)
    return text


def _values(name: str, kind: Kind, texts: Iterable[str]) -> tuple[Value, ...]:
    return tuple(sorted({_value(name, kind, text) for text in texts}, key=str))


def _value(name: str, kind: Kind, text: str) -> Value:
    if kind in WHOLE:
        if not re.fullmatch(r"-?\d{1,18}", text.strip()):
            raise QuestionError(f"{name} is {text!r}, which is no whole number", hint=f"{name}=7")
        return int(text)
    if kind is Kind.BOOLEAN:
        return _known(name, text.strip().lower(), ("true", "false")) == "true"
    return text


def _function(name: str) -> str:
    """`p95.0` is `p95`."""
    found = _PERCENTILE.fullmatch(name)
    if found is not None:
        percent = float(found[1])
        if percent > 100:
            raise QuestionError(f"functions: {name} is beyond 100 per cent", hint="p0 to p100, such as p95 or p99.9")
        return "p" + repr(percent).removesuffix(".0")
    return _known("functions", name, (*FUNCTIONS, "p50", "p95", "p99"))


def _rank(function: str) -> tuple[int, float]:
    percent = percent_of(function)
    return (FUNCTIONS.index(function), 0.0) if percent is None else (len(FUNCTIONS), percent)


def percent_of(function: str) -> float | None:
    """95.0 of `p95`; None where the function is no percentile."""
    return float(function[1:]) if _PERCENTILE.fullmatch(function) else None


def _window(given: Mapping[str, list[str]]) -> int | None:
    text = _one(given, "window", "")
    if not text:
        return None
    width = _duration("window", text)
    if width < 1:
        raise QuestionError(f"window is {text}", hint="a window is at least 1 ms long, such as 15 min")
    return width


def _duration(name: str, text: str) -> int:
    try:
        return int(parse_duration(text))
    except (ValueError, OverflowError) as error:
        raise QuestionError(f"{name}: {error}", hint="ms, s, min, h and d are units: 15 min, 1 h, 1 d") from error


def _range(given: Mapping[str, list[str]], window: int | None, zone: ZoneInfo) -> tuple[Moment, Moment]:
    """Without `from` the last window, or the last hour, up to `to`."""
    end = _moment("to", _one(given, "to", "now"), zone)
    if "from" in given:
        start = _moment("from", _one(given, "from", ""), zone)
    else:
        start = Moment(end.ms - (window or _USUAL_RANGE_MS), end.relative)
    if not end.relative and not start.relative and start.ms >= end.ms:
        raise QuestionError(f"from is {_text(start.ms)} and to is {_text(end.ms)}", hint="from must lie before to")
    return start, end


def _moment(name: str, text: str, zone: ZoneInfo) -> Moment:
    if text == "now":
        return NOW
    relative = _RELATIVE.fullmatch(text)
    if relative is not None and not _NUMBER.fullmatch(text):
        span = _duration(name, relative[2])
        moment = Moment(span if relative[1] == "+" else -span, relative=True)
    elif _NUMBER.fullmatch(text):
        number = float(text) if "." in text else int(text)
        moment = Moment(int(number if abs(number) >= _MILLISECONDS_FROM else number * 1000))
    else:
        moment = Moment(_instant(name, text, zone))
    if not _EARLIEST <= moment.ms <= _LATEST:
        raise QuestionError(f"{name} is {text}, which is in no year from 1 to 9999", hint="2026-11-21T10:00:00Z")
    return moment


def _instant(name: str, text: str, zone: ZoneInfo) -> int:
    """ISO 8601; without a zone in `zone`. A `+` that was not escaped has come as a blank."""
    repaired = re.sub(r"(T[\d:.]+) (\d\d:?\d\d)$", r"\1+\2", text)
    try:
        found = dt.datetime.fromisoformat(repaired)
        zoned = found if found.tzinfo is not None else found.replace(tzinfo=zone)
        return (zoned - _EPOCH) // dt.timedelta(milliseconds=1)
    except (ValueError, OverflowError) as error:
        hint = "2026-11-21T10:00:00Z, seconds or milliseconds since 1970, now, or a time before now: -1h"
        raise QuestionError(f"{name} is {text!r}, which is no time", hint=hint) from error


_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def _text(ms: int) -> str:
    return (_EPOCH + dt.timedelta(milliseconds=max(_EARLIEST, min(ms, _LATEST)))).isoformat()


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())


def _zone(name: str) -> str:
    if name not in _zones():
        raise _unknown("value of tz", name, _zones())
    return name


def _unknown(what: str, name: str, known: Iterable[str]) -> QuestionError:
    names = sorted(known)
    near = difflib.get_close_matches(name, names, 1, 0.5) or difflib.get_close_matches(
        name.lower(), [one.lower() for one in names], 1, 0.6
    )
    meant = next((one for one in names if near and one.lower() == near[0].lower()), None)
    few = ", ".join(names) if 0 < len(names) <= 30 else None
    return QuestionError(
        f"no {what} is {name!r}" + (f"; did you mean {meant}?" if meant else ""),
        hint=f"there are: {few}" if few else ("names such as Europe/Berlin" if names else "there are none"),
    )
