"""Writes the golden files beside it: what real Flink says about every expression in them.

    python tests/sql/functions/produce.py [--gateway URL] [FILE ...]

A line is `expression | type | value`; only the expression is read. `type` is what Flink infers (CHAR and VARCHAR as
STRING, BINARY as BYTES), `value` what CAST(expression AS STRING) gives, written as JSON (null: no value). An expression
that Flink refuses or that fails in the job has the type ERROR and, as its value, Flink's words. Lines that begin with
`SET` hold for the file, lines that begin with `#` are comments. Without --gateway it starts a cluster as the bench
does.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
_BATCH = 32
_PROPERTIES = {"parallelism.default": "1", "restart-strategy.type": "none"}
_NAMES = {
    "INTEGER": "INT",
    "CHAR": "STRING",
    "VARCHAR": "STRING",
    "BINARY": "BYTES",
    "VARBINARY": "BYTES",
    "TIME_WITHOUT_TIME_ZONE": "TIME",
    "TIMESTAMP_WITHOUT_TIME_ZONE": "TIMESTAMP",
    "TIMESTAMP_WITH_LOCAL_TIME_ZONE": "TIMESTAMP_LTZ",
    "INTERVAL_DAY_TIME": "INTERVAL DAY TO SECOND",
    "INTERVAL_YEAR_MONTH": "INTERVAL YEAR TO MONTH",
}


class RefusedError(Exception):
    """Flink refused the statement, or its job failed."""


def type_text(kind: Mapping[str, Any]) -> str:
    """A type of the gateway's JSON, as qanat writes it."""
    name = _NAMES.get(kind["type"], kind["type"])
    match name:
        case "DECIMAL":
            name = f"DECIMAL({kind['precision']}, {kind['scale']})"
        case "TIME" | "TIMESTAMP" | "TIMESTAMP_LTZ":
            name += f"({kind['precision']})"
        case "ARRAY":
            name = f"ARRAY<{type_text(kind['elementType'])}>"
        case "MAP":
            name = f"MAP<{type_text(kind['keyType'])}, {type_text(kind['valueType'])}>"
        case "ROW":
            name = "ROW<" + ", ".join(f"`{one['name']}` {type_text(one['fieldType'])}" for one in kind["fields"]) + ">"
    return name if kind["nullable"] else name + " NOT NULL"


class Gateway:
    """One session of a SQL Gateway."""

    def __init__(self, url: str, settings: Sequence[str]) -> None:
        self._url = url
        self._session = self._call("POST", "/v1/sessions", {"properties": _PROPERTIES})["sessionHandle"]
        for one in settings:
            self.select(one)

    def close(self) -> None:
        """End the session."""
        self._call("DELETE", f"/v1/sessions/{self._session}")

    def select(self, statement: str) -> tuple[list[str], list[Any]]:
        """Types and values of the only row of a query. Raises `RefusedError`."""
        base = f"/v1/sessions/{self._session}"
        operation = self._call("POST", f"{base}/statements", {"statement": statement})["operationHandle"]
        token, columns, rows = 0, [], []
        while True:
            page = self._call("GET", f"{base}/operations/{operation}/result/{token}?rowFormat=JSON")
            if page["resultType"] == "NOT_READY":
                time.sleep(0.02)
                continue
            results = page.get("results", {})
            columns = results.get("columns") or columns
            rows += results.get("data", [])
            following = page.get("nextResultUri")
            if page["resultType"] == "EOS" or not following:
                break
            token = int(following.split("/result/")[1].split("?")[0])
            time.sleep(0.01)
        return [type_text(one["logicalType"]) for one in columns], rows[0]["fields"] if rows else []

    def _call(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return dict(json.load(answer))
        except urllib.error.HTTPError as error:
            raise RefusedError(_cause(error.read().decode(errors="replace"))) from None


def _cause(text: str) -> str:
    text = text.replace("\\n", "\n").replace("\\t", "\t")
    causes = [line.removeprefix("Caused by: ") for line in text.split("\n") if line.startswith("Caused by: ")]
    return (causes or [text])[-1][:160]


def evaluate(gateway: Gateway, expressions: Sequence[str]) -> list[tuple[str, str]]:
    """(type, value as JSON) of every expression; halves the list until the ones that fail stand alone."""
    selected = ", ".join(f"{one} AS t{i}, CAST({one} AS STRING) AS v{i}" for i, one in enumerate(expressions))
    try:
        types, values = gateway.select(f"SELECT {selected}")
    except RefusedError as error:
        if len(expressions) == 1:
            return [("ERROR", json.dumps(str(error), ensure_ascii=False))]
        half = len(expressions) // 2
        return evaluate(gateway, expressions[:half]) + evaluate(gateway, expressions[half:])
    texts = [json.dumps(one, ensure_ascii=False) for one in values[1::2]]
    return list(zip(types[0::2], texts, strict=True))


def produce(url: str, path: Path) -> None:
    """Rewrite one file."""
    lines = path.read_text().splitlines()
    gateway = Gateway(url, [one for one in lines if one.startswith("SET ")])
    wanted = [one.split(" | ")[0].strip() for one in lines if one and not one.startswith(("#", "SET "))]
    found: dict[str, tuple[str, str]] = {}
    try:
        for start in range(0, len(wanted), _BATCH):
            batch = wanted[start : start + _BATCH]
            found.update(zip(batch, evaluate(gateway, batch), strict=True))
    finally:
        gateway.close()
    written = [
        one
        if not one or one.startswith(("#", "SET "))
        else " | ".join((key := one.split(" | ")[0].strip(), *found[key]))
        for one in lines
    ]
    path.write_text("\n".join(written) + "\n")


def main() -> None:
    """Ask the given gateway, or a cluster of its own."""
    parser = argparse.ArgumentParser(description="Ask Flink about every expression of the golden files.")
    parser.add_argument("--gateway", help="URL of a running SQL Gateway")
    parser.add_argument("files", nargs="*", type=Path)
    options = parser.parse_args()
    files = options.files or sorted(FOLDER.glob("*.txt"))
    if options.gateway:
        for path in files:
            produce(options.gateway.rstrip("/"), path)
        return
    sys.path.insert(0, str(FOLDER.parents[2]))
    from bench.flink import FlinkCluster

    with tempfile.TemporaryDirectory() as folder, FlinkCluster(Path(folder)) as cluster:
        for path in files:
            produce(cluster.gateway, path)


if __name__ == "__main__":
    main()
