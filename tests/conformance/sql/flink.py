"""Runs cases on a real Flink 2.3 through the SQL Gateway and fetches every change of their results.

Flink decides row by row what is late, as qanat does: parallelism 1, a watermark after every row. One cluster runs all
scripts, each in a session of its own, a few at a time. `QANAT_FLINK=REST_URL,GATEWAY_URL` uses one that runs already.
"""

from __future__ import annotations

import json
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from bench.flink import FlinkCluster, FlinkError, Settings, root_message, split_statements

from qanat.model.types import Kind, Type
from tests.conformance.sql.cases import Result
from tests.conformance.sql.values import canonical, type_name, type_of_flink

_KINDS = {"INSERT": "+I", "UPDATE_BEFORE": "-U", "UPDATE_AFTER": "+U", "DELETE": "-D"}
_OPTIONS = {"pipeline.auto-watermark-interval": "0 ms", "parallelism.default": "1", "table.local-time-zone": "UTC"}
#: Statements at work at one time; each takes a slot, and starting jobs is what takes the time.
_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class Flink:
    """A running cluster."""

    rest: str
    gateway: str

    def run(self, script: str) -> Result:
        """Run the statements; the changes of the last one. Raises `FlinkError` with Flink's innermost message."""
        session = _call("POST", f"{self.gateway}/v1/sessions", {"properties": _OPTIONS})["sessionHandle"]
        try:
            result = Result((), ())
            zone = re.search(r"SET 'table.local-time-zone' = '([^']+)'", script)
            for statement in split_statements(script):
                result = self._execute(session, statement, ZoneInfo(zone.group(1) if zone else "UTC"))
            return result
        finally:
            _call("DELETE", f"{self.gateway}/v1/sessions/{session}")

    def run_all(self, scripts: Sequence[str]) -> list[Result | FlinkError]:
        """Run many scripts, a few at a time; results, or what each failed with, in order."""
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return list(pool.map(self._try, scripts))

    def _try(self, script: str) -> Result | FlinkError:
        try:
            return self.run(script)
        except FlinkError as error:
            return error

    def _execute(self, session: str, statement: str, zone: ZoneInfo) -> Result:
        base = f"{self.gateway}/v1/sessions/{session}"
        operation = _call("POST", f"{base}/statements", {"statement": statement})["operationHandle"]
        columns: Sequence[Mapping[str, Any]] = ()
        rows: list[Mapping[str, Any]] = []
        job, token = None, "0"
        while True:
            answer = _call("GET", f"{base}/operations/{operation}/result/{token}?rowFormat=JSON")
            job = answer.get("jobID") or job
            columns = answer.get("results", {}).get("columns") or columns
            new = answer.get("results", {}).get("data", [])
            rows += new
            if answer["resultType"] == "EOS" or (answer["resultType"] != "NOT_READY" and "nextResultUri" not in answer):
                break
            token = answer["nextResultUri"].split("/result/")[1].split("?")[0]
            if not new:
                time.sleep(0.02)
        self._check(job)
        types = [type_of_flink(column["logicalType"]) for column in columns]
        changes = tuple(
            (_KINDS[row["kind"]], tuple(_value(v, t, zone) for v, t in zip(row["fields"], types, strict=True)))
            for row in rows
        )
        named = tuple((column["name"], type_name(t)) for column, t in zip(columns, types, strict=True))
        return Result(named, changes)

    def _check(self, job: str | None) -> None:
        """A failed job may look like an empty result."""
        while job and (state := _call("GET", f"{self.rest}/jobs/{job}")["state"]) != "FINISHED":
            if state in ("FAILED", "CANCELED"):
                told = _call("GET", f"{self.rest}/jobs/{job}/exceptions").get("exceptionHistory", {}).get("entries", [])
                raise FlinkError(root_message(told[0]["stacktrace"]) if told else state)
            time.sleep(0.02)


@contextmanager
def cluster(folder: Path) -> Iterator[Flink]:
    """A cluster that lives in `folder`, or the one that QANAT_FLINK names."""
    running = os.environ.get("QANAT_FLINK")
    if running:
        rest, gateway = running.split(",")
        yield Flink(rest, gateway)
        return
    wanted = Settings(
        slots=_AT_ONCE,
        parallelism=1,
        auto_watermark="0 ms",
        checkpoint_interval="60 s",
        task_manager_memory="1536m",
        job_manager_memory="1024m",
    )
    with FlinkCluster(folder, wanted) as started:
        yield Flink(started.rest, started.gateway)


def _value(value: Any, t: Type, zone: ZoneInfo) -> object:
    """The gateway writes an instant as the session's wall clock shows it, and puts a Z behind that all the same."""
    if t.kind is Kind.TIMESTAMP_LTZ and value is not None:
        value = datetime.fromisoformat(value.rstrip("Z")).replace(tzinfo=zone)
    return canonical(value, t)


def _call(method: str, url: str, body: object = None) -> dict[str, Any]:
    """As bench.flink calls, but numbers stay as they were written: a DECIMAL is no float."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return dict(json.load(answer, parse_float=Decimal))
    except urllib.error.HTTPError as error:
        raise FlinkError(root_message(error.read().decode(errors="replace"))) from error
