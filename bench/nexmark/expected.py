"""What Flink answers to every query: `python -m bench.nexmark.expected [QUERY ...]` asks it and writes expected.json.

Flink runs in one task and moves its watermark after every row, so that it decides about late rows one by one.

q9 needs a detour: Flink 2.3 never takes back the losers of ROW_NUMBER() <= 1 unless the order is that of one time
attribute. So it is asked for the best two with their places, and the first place is the answer.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

from bench.flink import FlinkCluster, Settings
from bench.install import FLINK_VERSION
from bench.nexmark.answers import CHANGELOG_FILES, Answer, answer, file_digest
from bench.nexmark.events import Shape, events_file
from bench.nexmark.queries import QUERIES, Query, script, side_input
from bench.work import empty_folder, write_json

#: Five and a half hours from 18:30 on, past midnight, with 25 events in 10 s; times go back by up to 3.2 s.
SHAPE = Shape(events=50_000, rate=2.5, group=10, first_ms=1_436_985_000_000)
EXPECTED = Path(__file__).with_name("expected.json")


def parameters(output: Path, sink: str = CHANGELOG_FILES) -> dict[str, str]:
    """Of a run over the events of `SHAPE`."""
    return {
        "INPUT": str(events_file(SHAPE)),
        "SIDE_INPUT": str(side_input(SHAPE.seed)),
        "SINK": sink.format(output),
    }


def input_digest() -> str:
    """Of the input, which numpy makes and a future numpy may make differently."""
    return file_digest([events_file(SHAPE), side_input(SHAPE.seed)])


def expected() -> dict[str, Answer]:
    """By name of the query. Raises ValueError where the input is not the one that was asked about."""
    said = json.loads(EXPECTED.read_text())
    if said["input"] != input_digest():
        raise ValueError(f"{EXPECTED.name} is about other events: python -m bench.nexmark.expected")
    return {name: Answer(**each) for name, each in said["answers"].items()}


def _ask(flink: FlinkCluster, query: Query) -> Answer:
    output = empty_folder("nexmark-expected", query.name)
    if query.name == "q9":
        flink.run_sql(_best_two(script(query)), parameters(output))
        return answer(output, first_places=True)
    flink.run_sql(script(query), parameters(output))
    return answer(output)


def _best_two(text: str) -> str:
    """Each edit must find its place: else the text has changed, and this has to follow."""
    for old, new in (
        ("bid_extra STRING\n)", "bid_extra STRING, place BIGINT\n)"),
        ("bid_dateTime, bid_extra\nFROM (", "bid_dateTime, bid_extra, place\nFROM ("),
        ("WHERE place <= 1", "WHERE place <= 2"),
    ):
        before, found, after = text.rpartition(old)
        if not found:
            raise ValueError(f"no {old!r} in q9")
        text = before + new + after
    return text


def main(names: list[str]) -> None:
    """Ask about some queries, or all."""
    answers = {} if not names else {name: asdict(each) for name, each in expected().items()}
    settings = Settings(parallelism=1, auto_watermark="0 ms")
    with FlinkCluster(empty_folder("cluster-nexmark"), settings) as flink:
        for name in names or QUERIES:
            answers[name] = asdict(_ask(flink, QUERIES[name]))
            print(name, answers[name], flush=True)
    ordered = {name: answers[name] for name in QUERIES if name in answers}
    write_json(EXPECTED, {"flink": FLINK_VERSION, "input": input_digest(), "answers": ordered})


if __name__ == "__main__":
    main(sys.argv[1:])
