"""What there is to measure, a row each: how it is measured, shown, and which measurement of it is a whole one."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from bench import cache, lake, nilm, query, report, serve, stores, windows
from bench.gateway import measure as gateway
from bench.nexmark import measure as nexmark
from bench.nexmark.events import Shape as Events
from bench.nexmark.queries import MEASURED

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was measured, as JSON; whether every output of qanat was right; the figures beside those wanted."""

    json: dict[str, Any]
    right: bool
    wanted: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Part:
    """`whole`: whether these options measure all of it; a whole measurement is kept in a file of its own."""

    measure: Callable[[Namespace, Say], Outcome]
    show: Callable[[Console, dict[str, Any]], None]
    whole: Callable[[Namespace], bool] = lambda _: False


def _windows(options: Namespace, say: Say) -> Outcome:
    found = windows.measure(options.shape, options.engines, options.runs, say)
    told = windows.as_json(found)
    return Outcome(told, all(each.right for each in found.results if each.engine == "qanat"), told["wanted"])


def _nilm(options: Namespace, say: Say) -> Outcome:
    found = nilm.measure(options.fleet, options.runs or 3, say)
    return Outcome(nilm.as_json(found), found.ok, nilm.wanted(found))


def _nexmark(options: Namespace, say: Say) -> Outcome:
    found = nexmark.measure(options.events, options.nexmark_engines, options.runs, options.queries, say)
    told = nexmark.as_json(found)
    return Outcome(told, all(each.right for each in found.results if each.engine == "qanat"), told["wanted"])


def _gateway(options: Namespace, say: Say) -> Outcome:
    found = gateway.measure(options.only, options.seconds, options.runs or 5, say)
    told = gateway.as_json(found)
    return Outcome(told, all(each.right for each in found if each.name != "peer"), told["wanted"])


def _serve(options: Namespace, say: Say) -> Outcome:
    found = serve.measure(options.asked, options.seconds, say)
    told = serve.as_json(found)
    return Outcome(told, all(each.right for each in found), told["wanted"])


def _cache(options: Namespace, say: Say) -> Outcome:
    found = cache.measure(options.seconds, say)
    told = cache.as_json(found)
    return Outcome(told, cache.right(found), told["wanted"])


def _lake(options: Namespace, say: Say) -> Outcome:
    found = lake.measure(options.seconds, options.runs or 3, say)
    told = lake.as_json(found)
    return Outcome(told, found.right, told["wanted"])


def _stores(options: Namespace, say: Say) -> Outcome:
    found = stores.measure(list(stores.NAMES), options.seconds or 10, say)
    return Outcome(stores.as_json(found), all(each.right for each in found if each.error is None), [])


def _query(options: Namespace, say: Say) -> Outcome:
    found = query.measure(query.Shape(rows=options.archived), options.runs or 9, say)
    told = query.as_json(found)
    return Outcome(told, found.right, told["wanted"])


def _in_full(options: Namespace) -> bool:
    return options.seconds is None


#: In the order in which `all` measures them.
PARTS = {
    "windows": Part(_windows, report.show_windows),
    "nilm": Part(_nilm, report.show_nilm),
    "nexmark": Part(_nexmark, report.show_nexmark, lambda it: it.queries == list(MEASURED) and it.events == Events()),
    "gateway": Part(_gateway, report.show_gateway, lambda it: _in_full(it) and it.only == list(gateway.NAMES)),
    "serve": Part(_serve, serve.show, lambda it: _in_full(it) and it.asked == list(serve.NAMES)),
    "cache": Part(_cache, cache.show, _in_full),
    "lake": Part(_lake, lake.show, _in_full),
    "stores": Part(_stores, report.show_stores, _in_full),
    "query": Part(_query, query.show, lambda it: it.archived == query.WANTED_ROWS),
}
