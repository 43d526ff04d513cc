"""Text of a case file -> `CaseFile`. Every mistake is refused with file, line, what was expected and what was found.

YAML is read as a tree with places, so that what was written stays known: which line, and which characters `--update`
may replace. Scalars are text, numbers, true/false and null, nothing else (no dates, no `on`).
"""

from __future__ import annotations

import decimal
import difflib
import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import NoReturn

import msgspec
import yaml

from qanat.errors import ConfigError
from qanat.trial.cases import (
    OP,
    Case,
    CaseFile,
    Check,
    Crash,
    Expectation,
    Given,
    Idle,
    Payloads,
    Restart,
    Row,
    Rows,
    Spot,
    Step,
    WatermarkExpectation,
)
from qanat.trial.tables import parse_table

_HINT = "docs/testing.md shows what a case may say"
_FILE_KEYS = ("cases", "parameters", "date", "tolerance")
_INPUT_KEYS = ("given", "payloads", "arrived", "partition")
_CASE_KEYS = ("case", *_INPUT_KEYS, "steps", "expect", "ends", "date", "tolerance")
_STEP_KEYS = ("given", "payloads", "expect", "crash", "restart", "idle")
_TABLE_KEYS = ("rows", "changelog", "unordered", "tolerance")
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_NUMBER = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_encode = msgspec.json.Encoder(decimal_format="number").encode
_WORDS: Mapping[str, bool | None] = {"true": True, "false": False, "null": None, "~": None, "": None}


def read_cases(text: str, name: str) -> CaseFile:
    """The cases of a file. Raises `ConfigError`."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        what = " ".join(part for part in (error.context, error.problem) if part)
        raise ConfigError(f"{name}:{line}: this is not YAML: {what}", hint=_HINT) from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{name}: this is not YAML: {' '.join(str(error).split())}", hint=_HINT) from error
    return _Reader(text, name).file(root)


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


class _Reader:
    """One file. Methods take nodes and give values; all of them raise `ConfigError`."""

    def __init__(self, text: str, name: str) -> None:
        self._text, self._name = text, name
        self._lines = re.findall(r"[^\n]*\n|[^\n]+$", text)
        self._starts = [0]
        for one in self._lines:
            self._starts.append(self._starts[-1] + len(one))

    def _fail(self, line: int, message: str, hint: str = _HINT) -> NoReturn:
        raise ConfigError(f"{self._name}:{line}: {message}", hint=hint)

    # -- files, cases, steps ------------------------------------------------------------------------------------------

    def file(self, root: yaml.Node | None) -> CaseFile:
        """The whole file."""
        if root is None:
            return CaseFile(self._name, self._text, ())
        defaults: dict[str, yaml.Node] = {}
        cases = root
        if isinstance(root, yaml.MappingNode):
            defaults = self._mapping(root, "the file", _FILE_KEYS)
            if "cases" not in defaults:
                self._fail(_line(root), "expected a list of cases, each beginning with `- case: what it shows`")
            cases = defaults["cases"]
        found = tuple(self._case(node, defaults) for node in self._sequence(cases, "a list of cases"))
        self._check_names(found)
        return CaseFile(self._name, self._text, found, self._parameters(defaults.get("parameters")))

    def _check_names(self, cases: Collection[Case]) -> None:
        seen: dict[str, int] = {}
        for case in cases:
            if case.name in seen:
                self._fail(case.line, f"a case of this name stands in line {seen[case.name]}: {case.name!r}")
            seen[case.name] = case.line

    def _parameters(self, node: yaml.Node | None) -> dict[str, str]:
        if node is None:
            return {}
        return {
            key: self._scalar_text(value, f"a value for {key}")
            for key, value in self._mapping(node, "parameters").items()
        }

    def _case(self, node: yaml.Node, defaults: Mapping[str, yaml.Node]) -> Case:
        keys = self._mapping(node, "a case", _CASE_KEYS)
        if "case" not in keys:
            self._fail(_line(node), "a case begins with its name: `- case: what it shows`")
        name = self._scalar_text(keys["case"], "the name of the case")
        steps = [*self._inputs(node, keys)]
        for step in self._sequence(keys["steps"], "a list of steps") if "steps" in keys else ():
            steps += self._step(step)
        final = self._check(keys["expect"]) if "expect" in keys else None
        if final is None and not any(isinstance(step, Check) for step in steps):
            self._fail(_line(node), f"the case {name!r} expects nothing", "add expect: with the rows of a stream")
        given = {**defaults, **keys}
        ends = self._boolean(keys["ends"], "ends") if "ends" in keys else True
        tolerance = self._tolerance(given["tolerance"]) if "tolerance" in given else None
        return Case(name, _line(node), tuple(steps), final, ends, self._date(given.get("date")), tolerance)

    def _date(self, node: yaml.Node | None) -> str | None:
        if node is None:
            return None
        text = self._scalar_text(node, "a date")
        if not _DATE.fullmatch(text):
            self._fail(_line(node), f"expected a date such as 2026-01-31, found {text!r}")
        return text

    def _step(self, node: yaml.Node) -> list[Step]:
        if isinstance(node, yaml.ScalarNode):
            keys: dict[str, yaml.Node] = {str(node.value): node}
        else:
            keys = self._mapping(node, "a step", (*_STEP_KEYS, "arrived", "partition"))
        what = [key for key in keys if key in _STEP_KEYS]
        if len(what) != 1 or (isinstance(node, yaml.ScalarNode) and what[0] not in ("crash", "restart")):
            found = " and ".join(what) or f"{next(iter(keys), '')!r}"
            self._fail(_line(node), f"a step is one of {', '.join(_STEP_KEYS)}; found {found}")
        if what[0] not in ("given", "payloads") and len(keys) > 1:
            self._fail(_line(node), f"{next(key for key in keys if key != what[0])} belongs to given and payloads")
        match what[0]:
            case "crash":
                return [Crash(_line(node))]
            case "restart":
                return [Restart(_line(node))]
            case "idle":
                return self._idle(keys["idle"])
            case "expect":
                return [self._check(keys["expect"])]
            case _:
                return self._inputs(node, keys)

    def _idle(self, node: yaml.Node) -> list[Step]:
        nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
        steps: list[Step] = []
        for one in nodes:
            text = self._scalar_text(one, "a stream, or stream/partition")
            stream, slash, partition = text.rpartition("/")
            if slash and not partition.isdecimal():
                self._fail(_line(one), f"expected a stream or stream/partition, such as power/1; found {text!r}")
            steps.append(Idle(_line(one), stream, int(partition)) if slash else Idle(_line(one), text, None))
        return steps

    # -- inputs -------------------------------------------------------------------------------------------------------

    def _inputs(self, node: yaml.Node, keys: Mapping[str, yaml.Node]) -> list[Step]:
        arrived = self._scalar_text(keys["arrived"], "a time") if "arrived" in keys else None
        partition = self._count(keys["partition"], "the number of a partition") if "partition" in keys else None
        steps: list[Step] = []
        if "given" in keys:
            streams = self._mapping(keys["given"], "given")
            rows = tuple((name, self._rows(one, f"rows of {name}")) for name, one in streams.items())
            steps.append(Given(_line(keys["given"]), rows, arrived, partition))
        if "payloads" in keys:
            for name, one in self._mapping(keys["payloads"], "payloads").items():
                items = self._sequence(one, f"a list of payloads for {name}")
                payloads = tuple((_line(item), self._payload(item)) for item in items)
                steps.append(Payloads(_line(one), name, payloads, arrived, partition))
        if not steps and (arrived is not None or partition is not None):
            self._fail(_line(node), "arrived and partition belong to given and payloads")
        return steps

    def _payload(self, node: yaml.Node) -> bytes:
        """Text and `!!binary` as they are, mappings and lists as JSON."""
        if isinstance(node, yaml.ScalarNode):
            if node.tag == "tag:yaml.org,2002:binary":
                return bytes(yaml.SafeLoader.construct_yaml_binary(yaml.SafeLoader(""), node))
            return str(node.value).encode()
        return _encode(self._value(node))

    def _rows(self, node: yaml.Node, what: str) -> Rows:
        if isinstance(node, yaml.SequenceNode):
            return self._row_list(node)
        if not isinstance(node, yaml.ScalarNode) or "|" not in node.value:
            wanted = f"{what}: a table (`|`, then lines `| like | this |`) or a list of mappings"
            self._fail(_line(node), f"expected {wanted}; found {_kind(node)}")
        return self._table(node)

    def _table(self, node: yaml.ScalarNode) -> Rows:
        if node.style != "|":
            self._fail(_line(node), "a table begins on a line of its own: write `|` after the colon, the rows below")
        return parse_table(node.value.rstrip("\n").split("\n"), _line(node) + 1, self._fail)

    def _row_list(self, node: yaml.SequenceNode) -> Rows:
        rows = []
        columns: dict[str, None] = {}
        for item in node.value:
            cells = self._mapping(item, "a row")
            columns |= dict.fromkeys(cells)
            rows.append(Row(_line(item), {key: self._value(value) for key, value in cells.items()}))
        return Rows(_line(node), tuple(columns), tuple(rows))

    # -- expectations -------------------------------------------------------------------------------------------------

    def _check(self, node: yaml.Node) -> Check:
        streams: list[Expectation] = []
        watermarks: list[WatermarkExpectation] = []
        for key, value, name in self._pairs(node, "expect"):
            if name == "watermark":
                for pipeline, text, marked in self._pairs(value, "watermark"):
                    watermarks.append(self._watermark(pipeline, text, marked))
            else:
                streams.append(self._expectation(key, value, name, flow=_is_flow(node)))
        return Check(_line(node), tuple(streams), tuple(watermarks))

    def _watermark(self, key: yaml.Node, value: yaml.Node, pipeline: str) -> WatermarkExpectation:
        text = self._scalar_text(value, "a time, none or end")
        return WatermarkExpectation(_line(value), pipeline, text, self._scalar_spot(key, value, flow=False))

    def _expectation(self, key: yaml.Node, node: yaml.Node, stream: str, *, flow: bool) -> Expectation:
        if not isinstance(node, yaml.MappingNode):
            return self._contents(key, node, stream, changelog=False, flow=flow)
        keys = self._mapping(node, f"what is expected of {stream}", _TABLE_KEYS)
        if ("rows" in keys) == ("changelog" in keys):
            self._fail(_line(node), f"expected rows: or changelog: with the rows of {stream}")
        which = "rows" if "rows" in keys else "changelog"
        inner = next(one for one, _ in node.value if one.value == which)
        changelog = which == "changelog"
        made = self._contents(inner, keys[which], stream, changelog=changelog, flow=_is_flow(node))
        unordered = self._boolean(keys["unordered"], "unordered") if "unordered" in keys else None
        tolerance = self._tolerance(keys["tolerance"]) if "tolerance" in keys else None
        return replace(made, unordered=unordered, tolerance=tolerance)

    def _contents(self, key: yaml.Node, node: yaml.Node, stream: str, *, changelog: bool, flow: bool) -> Expectation:
        line = _line(node)
        value = self._value(node) if isinstance(node, yaml.ScalarNode) else None
        if isinstance(node, yaml.ScalarNode) and (value is None or type(value) is int):
            if value is not None and value < 0:
                self._fail(line, f"expected a number of rows, found {value}")
            return Expectation(line, stream, None, value, self._scalar_spot(key, node, flow=flow), changelog)
        rows = self._rows(node, f"rows of {stream}, or how many")
        if changelog and rows.rows and OP not in rows.columns:
            self._fail(line, f"a changelog has a column {OP} with +I, -U, +U or -D")
        if isinstance(node, yaml.ScalarNode):
            spot = self._block_spot(key, node)
        elif isinstance(node, yaml.SequenceNode) and not node.flow_style:
            spot = self._list_spot(key, node)
        else:
            spot = self._scalar_spot(key, node, flow=flow)
        return Expectation(line, stream, rows, None, spot, changelog)

    def _scalar_spot(self, key: yaml.Node, node: yaml.Node, *, flow: bool) -> Spot:
        return Spot(node.start_mark.index, node.end_mark.index, key.start_mark.column, "scalar", flow=flow)

    def _block_spot(self, key: yaml.Node, node: yaml.ScalarNode) -> Spot:
        """The lines of the block, from the first one's beginning to before the last one's line break."""
        first = int(node.start_mark.line) + 1
        last = first + len(node.value.rstrip("\n").split("\n")) - 1
        end = self._starts[last] + len(self._lines[last].rstrip("\r\n"))
        return Spot(self._starts[first], end, key.start_mark.column, "table")

    def _list_spot(self, key: yaml.Node, node: yaml.SequenceNode) -> Spot:
        items = tuple(int(item.start_mark.line) for item in node.value)
        last = self._text.count("\n", 0, _end(node))
        end = self._starts[last] + len(self._lines[last].rstrip("\r\n"))
        return Spot(self._starts[items[0]], end, key.start_mark.column, "list", items)

    # -- YAML ---------------------------------------------------------------------------------------------------------

    def _mapping(self, node: yaml.Node, what: str, known: Collection[str] | None = None) -> dict[str, yaml.Node]:
        found: dict[str, yaml.Node] = {}
        for key, value, name in self._pairs(node, what):
            if name in found:
                self._fail(_line(key), f"{name!r} stands here for the second time")
            if known is not None and name not in known:
                close = difflib.get_close_matches(name, known, 1, 0.5)
                meant = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
                self._fail(_line(key), f"{what} has no key {name!r}; {meant}")
            found[name] = value
        return found

    def _pairs(self, node: yaml.Node, what: str) -> list[tuple[yaml.Node, yaml.Node, str]]:
        if not isinstance(node, yaml.MappingNode):
            self._fail(_line(node), f"{what} must be a mapping of names to values, found {_kind(node)}")
        return [(key, value, self._scalar_text(key, "a name")) for key, value in node.value]

    def _sequence(self, node: yaml.Node, what: str) -> list[yaml.Node]:
        if not isinstance(node, yaml.SequenceNode):
            self._fail(_line(node), f"expected {what}, found {_kind(node)}")
        return list(node.value)

    def _scalar_text(self, node: yaml.Node, what: str) -> str:
        if not isinstance(node, yaml.ScalarNode) or not node.value:
            self._fail(_line(node), f"expected {what}, found {_kind(node)}")
        return str(node.value)

    def _boolean(self, node: yaml.Node, what: str) -> bool:
        value = self._value(node)
        if not isinstance(value, bool):
            self._fail(_line(node), f"{what} is true or false, found {_kind(node)}")
        return value

    def _count(self, node: yaml.Node, what: str) -> int:
        value = self._value(node)
        if type(value) is not int or value < 0:
            self._fail(_line(node), f"expected {what}, found {_kind(node)}")
        return value

    def _tolerance(self, node: yaml.Node) -> float:
        value = self._value(node)
        if isinstance(value, bool) or not isinstance(value, int | decimal.Decimal) or value < 0:
            self._fail(_line(node), f"tolerance is a number such as 1e-6, found {_kind(node)}")
        return float(value)

    def _value(self, node: yaml.Node) -> object:
        """A value as JSON would have it; numbers with a fraction keep all their digits."""
        if isinstance(node, yaml.MappingNode):
            return {name: self._value(value) for name, value in self._mapping(node, "a value").items()}
        if isinstance(node, yaml.SequenceNode):
            return [self._value(item) for item in node.value]
        text = str(node.value)
        if getattr(node, "style", None) is not None:
            return text
        if text.lower() in _WORDS:
            return _WORDS[text.lower()]
        if _INTEGER.fullmatch(text):
            return int(text)
        return decimal.Decimal(text) if _NUMBER.fullmatch(text) else text


def _end(node: yaml.Node) -> int:
    """Where a node ends; the end mark of a block collection lies behind the comments that follow it."""
    if isinstance(node, yaml.MappingNode) and not node.flow_style and node.value:
        return _end(node.value[-1][1])
    if isinstance(node, yaml.SequenceNode) and not node.flow_style and node.value:
        return _end(node.value[-1])
    return int(node.end_mark.index)


def _is_flow(node: yaml.Node) -> bool:
    return bool(getattr(node, "flow_style", False))


def _kind(node: yaml.Node) -> str:
    if isinstance(node, yaml.ScalarNode):
        return repr(node.value) if node.value else "nothing"
    return "a list" if isinstance(node, yaml.SequenceNode) else "a mapping"
