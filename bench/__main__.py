"""`python -m bench [windows|nilm|nexmark|gateway|serve|cache|lake|stores|query|all]`: measure, print, write JSON.

Ends with 0 when everything ran and every output of qanat was right, whether or not the wanted figures were reached
(the table says), and with 1 otherwise.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from bench import machine, nilm, query, report, serve
from bench.data import Shape
from bench.engines import USUAL, Engine, all_engines
from bench.flink import Settings
from bench.gateway import measure as gateway
from bench.nexmark import measure as nexmark
from bench.nexmark.engines import FLINK_MEMORY, Flink, Qanat
from bench.nexmark.events import Shape as Events
from bench.nexmark.queries import MEASURED, Query
from bench.parts import PARTS
from bench.work import BENCH, write_json

_LATEST = BENCH / "results" / "latest.json"


def main(arguments: list[str] | None = None) -> int:
    """Run what was asked for; the exit code."""
    options = _parse(arguments)
    # the servers stand in sessions of their own and would outlive a bench that is simply killed
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    # in a file or pipe there is no terminal to fit the tables into
    console = Console(width=None if sys.stdout.isatty() else 120)
    progress = Console(stderr=True)

    def say(text: str) -> None:
        progress.print(f"[dim]{text}[/dim]", highlight=False)

    about = machine.describe()
    report.show_machine(console, about)
    kept = _kept(options.json) | {"machine": about, "at": datetime.now(UTC).isoformat(timespec="seconds")}
    wanted: list[dict[str, Any]] = []
    right = True
    for name in PARTS if options.what == "all" else [options.what]:
        part = PARTS[name]
        outcome = part.measure(options, say)
        kept[name] = outcome.json
        right &= outcome.right
        wanted += outcome.wanted
        part.show(console, outcome.json)
        write_json(options.json, kept)
        if part.whole(options):
            _write_alone(name, kept, options.json)
    report.show_wanted(console, wanted)
    return 0 if right else 1


def _write_alone(part: str, kept: Mapping[str, object], beside: Path) -> None:
    """A whole measurement of one part in a file of its own, which the README quotes."""
    write_json(beside.with_name(f"{part}.json"), {name: kept[name] for name in ("machine", "at", part)})


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure qanat beside its peers.")
    parser.add_argument("what", nargs="?", default="all", choices=(*PARTS, "all"))
    parser.add_argument("--rows", type=int, default=Shape().rows, help="rows of the window bench (default %(default)s)")
    parser.add_argument("--runs", type=int, help="runs of every engine (default: 5 or 3; 1 for slow ones)")
    parser.add_argument(
        "--peers", default="", help="which engines, with commas: qanat,flink,flink-warm,flink-2-files,pathway,bytewax"
    )
    parser.add_argument(
        "--flink-watermark-interval",
        metavar="TIME",
        help="pipeline.auto-watermark-interval, such as '0 ms' (default: Flink's own, 200 ms)",
    )
    parser.add_argument(
        "--flink-option",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="any setting of Flink's, such as pipeline.object-reuse=false; may be repeated",
    )
    parser.add_argument("--flink-memory", default=Settings().task_manager_memory, help="task manager, such as 2048m")
    parser.add_argument(
        "--pathway-behavior",
        choices=("none", "exactly_once"),
        default="none",
        help="none: a plain batch aggregate, Pathway's fastest; exactly_once: as a stream would need it",
    )
    parser.add_argument("--households", type=int, default=nilm.WHOLE.households)
    parser.add_argument(
        "--seconds",
        type=int,
        help=f"of event time in the nilm bench (default {nilm.WHOLE.seconds}); of load in the gateway's (each its own)",
    )
    parser.add_argument(
        "--only",
        default="",
        help=f"of the gateway's bench, with commas: {','.join(gateway.NAMES)}; of serve: {','.join(serve.NAMES)}",
    )
    parser.add_argument(
        "--events", type=int, default=Events().events, help="of the nexmark bench (default %(default)s)"
    )
    parser.add_argument(
        "--archived",
        type=int,
        default=query.Shape().rows,
        metavar="ROWS",
        help="of the query bench (default %(default)s; what is wanted of a key and day is meant for 100000000)",
    )
    parser.add_argument("--queries", default="", help="of the nexmark bench, with commas: q0,q1,... (default: all ten)")
    parser.add_argument("--json", type=Path, default=_LATEST, metavar="PATH", help="default: bench/results/latest.json")
    options = parser.parse_args(arguments)
    options.shape = Shape(rows=options.rows)
    options.fleet = nilm.Fleet(options.households, options.seconds or nilm.WHOLE.seconds)
    options.events = Events(events=options.events)
    options.engines = _chosen(options, parser)
    options.queries = _queries(options.queries, parser)
    options.asked = _scenarios(options.only if options.what == "serve" else "", serve.NAMES, parser)
    options.only = _scenarios("" if options.what == "serve" else options.only, gateway.NAMES, parser)
    options.nexmark_engines = _nexmark_engines(options)
    return options


def _chosen(options: argparse.Namespace, parser: argparse.ArgumentParser) -> list[Engine]:
    known = all_engines(_flink(options), options.pathway_behavior)
    names = [name for name in options.peers.split(",") if name] or list(USUAL)
    for name in names:
        if name not in known:
            parser.error(f"unknown engine {name}: choose from {', '.join(known)}")
    return [known[name] for name in names]


def _queries(text: str, parser: argparse.ArgumentParser) -> list[Query]:
    known = {query.name: query for query in MEASURED}
    for name in filter(None, text.split(",")):
        if name not in known:
            parser.error(f"unknown query {name}: choose from {', '.join(known)}")
    return [known[name] for name in text.split(",") if name] or list(MEASURED)


def _scenarios(text: str, known: Sequence[str], parser: argparse.ArgumentParser) -> list[str]:
    for name in filter(None, text.split(",")):
        if name not in known:
            parser.error(f"unknown load {name}: choose from {', '.join(known)}")
    return [name for name in text.split(",") if name] or list(known)


def _nexmark_engines(options: argparse.Namespace) -> list[nexmark.Engine]:
    """qanat and Flink, or the one of them that is named; the other engines do not run SQL."""
    names = options.peers.split(",") if options.peers else ["qanat", "flink"]
    memory = options.flink_memory if options.flink_memory != Settings().task_manager_memory else FLINK_MEMORY
    flink = replace(_flink(options), task_manager_memory=memory)
    makers: dict[str, Callable[[], nexmark.Engine]] = {"qanat": Qanat, "flink": lambda: Flink(flink)}
    return [make() for name, make in makers.items() if name in names]


def _flink(options: argparse.Namespace) -> Settings:
    return Settings(
        task_manager_memory=options.flink_memory,
        auto_watermark=options.flink_watermark_interval,
        options=dict(option.partition("=")[::2] for option in options.flink_option),
    )


def _kept(path: Path) -> dict[str, Any]:
    # running one bench keeps the other's figures
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError):
        return {}


if __name__ == "__main__":
    sys.exit(main())
