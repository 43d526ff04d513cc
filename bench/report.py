"""The bench's tables, for people. The same figures as in the JSON, and no others."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

_TITLES = {"tumble": "(a) TUMBLE 60 s", "hop": "(b) HOP 15 s / 1 s"}


def show_machine(console: Console, machine: dict[str, Any]) -> None:
    """One line on what it ran on."""
    console.print(
        f"{machine['cores']} cores of {machine['cpu']}, {machine['memory_gb']} GB, Python {machine['python']}, "
        f"{machine['java'] or 'no Java'}",
        highlight=False,
        soft_wrap=True,
    )


def show_windows(console: Console, report: dict[str, Any]) -> None:
    """Rates and memory of every engine; a star where an engine ran over the first rows only."""
    given = report["input"]
    title = f"{given['rows']:,} rows, {given['clients']:,} clients, {given['disorder_ms'] / 1000:g} s of disorder"
    for query, name in _TITLES.items():
        results = [each for each in report["results"] if each["query"] == query]
        if not results:
            continue
        parts = [f"* over the first {each['rows']:,} rows only" for each in results if not each["all_rows"]]
        table = Table(title=f"{name}: {title}", title_justify="left", caption="; ".join(parts), caption_justify="left")
        for heading in ("engine", "rows/s", "qanat is", "seconds", "memory", "output", "runs"):
            left = heading in ("engine", "output")
            table.add_column(heading, justify="left" if left else "right", no_wrap=heading != "output")
        for each in results:
            table.add_row(*_cells(each))
        console.print(table)


def show_nilm(console: Console, report: dict[str, Any]) -> None:
    """The replay of the simulated households."""
    head = f"{report['households']:,} households, {report['seconds_of_event_time']:,} s, both NILM flows"
    if "error" in report:
        console.print(f"[red]{head}: did not run[/red]\n{report['error']}", highlight=False)
        return
    table = Table(title=head, title_justify="left", show_header=False)
    parity = report["parity"]
    table.add_row("rows in", f"{sum(report['rows_in'].values()):,}")
    table.add_row("prediction windows", f"{parity['windows']:,} of {parity['windows_expected']:,}")
    table.add_row("training sets", f"{parity['training_sets']:,} of {parity['training_sets_expected']:,}")
    table.add_row("fused seconds in them", f"{parity['fused_seconds']:,} of {parity['fusable_seconds']:,}")
    table.add_row("seconds", f"{report['seconds']:.1f}")
    table.add_row("rows/s", f"{report['rows_per_second']:,}")
    table.add_row("memory", f"{report['peak_mb']:,.0f} MB")
    table.add_row("output", "right" if report["right"] else "[red]WRONG[/red]")
    console.print(table)


def show_nexmark(console: Console, report: dict[str, Any]) -> None:
    """A row for each query, qanat beside Flink."""
    given = report["input"]
    mean = report["geometric_mean"]
    table = Table(
        title=f"Nexmark: {given['events']:,} events, {given['bytes'] / 1e6:,.0f} MB of JSON",
        title_justify="left",
        caption="" if mean is None else f"geometric mean: {mean:g} x",
        caption_justify="left",
    )
    for heading in ("query", "qanat events/s", "flink events/s", "qanat is", "qanat MB", "flink MB", "output"):
        left = heading in ("query", "output")
        table.add_column(heading, justify="left" if left else "right", no_wrap=heading != "output")
    for name in dict.fromkeys(each["query"] for each in report["results"]):
        found = {each["engine"]: each for each in report["results"] if each["query"] == name}
        qanat, flink = found.get("qanat", {}), found.get("flink", {})
        times = flink.get("qanat_is_times_faster")
        rates = [f"{each['events_per_second']:,}" if "seconds" in each else "-" for each in (qanat, flink)]
        memory = [f"{each['peak_mb']:,.0f}" if "seconds" in each else "-" for each in (qanat, flink)]
        named = f"{name} {next(iter(found.values()))['title']}"
        table.add_row(named, *rates, "" if times is None else f"{times:g} x", *memory, _verdict(qanat, flink))
    console.print(table)


def _verdict(*results: dict[str, Any]) -> str:
    for each in results:
        if "error" in each:
            return f"[red]{each['engine']} did not run[/red]: {each['error'].strip().splitlines()[-1][:120]}"
        if each.get("right") is False:
            return f"[red]{each['engine']} WRONG[/red]: {each['verdict']}"
    return "right"


def show_gateway(console: Console, report: dict[str, Any]) -> None:
    """A row for each load: rate, acknowledgements, what server and sender used."""
    caption = "cores, us/row: processor time of qanat; sender: cores that the load took"
    table = Table(title="the gateway under load", title_justify="left", caption=caption, caption_justify="left")
    for heading in (
        "load",
        "rows/s",
        "p50 ms",
        "p99 ms",
        "cores",
        "us/row",
        "sender",
        "MB",
        "log",
    ):
        table.add_column(heading, justify="left" if heading in ("load", "log") else "right", no_wrap=True)
    for each in report["results"]:
        found = each["medians"]
        if not found:
            table.add_row(
                each["scenario"], *["-"] * 7, f"[red]did not run[/red]: {each['error'].splitlines()[-1][:80]}"
            )
            continue
        way = "visible_ms" if "visible_ms_p50" in found else "ack_ms"
        table.add_row(
            each["scenario"],
            f"{found['per_second']:,.0f}",
            *(f"{found[f'{way}_{share}']:,.1f}" if f"{way}_{share}" in found else "" for share in ("p50", "p99")),
            f"{found['server_cpu_share']:.2f}" if "server_cpu_share" in found else "",
            f"{found['server_cpu_us_per_message']:.2f}" if "server_cpu_us_per_message" in found else "",
            f"{found['sender_cpu_seconds'] / found['seconds']:.2f}",
            f"{found['peak_mb']:,.0f}",
            "right" if each["right"] else "[red]WRONG[/red]",
        )
    console.print(table)


def show_stores(console: Console, report: dict[str, Any]) -> None:
    """A row for each hot store."""
    given = report["input"]
    title = f"hot stores: batches of {given['batch_rows']:,} rows, {given['keys']:,} keys; median, 95th percentile"
    table = Table(title=title, title_justify="left")
    for heading in ("store", "rows", "rows/s written", "latest, ms", f"read {given['rows_of_a_read']}, ms", "output"):
        table.add_column(heading, justify="left" if heading in ("store", "output") else "right", no_wrap=True)
    for each in report["results"]:
        if each["error"] is not None:
            table.add_row(each["store"], "-", "-", "-", "-", f"did not run: {each['error'].splitlines()[0]}")
            continue
        times = [f"{each[what][0]:.2f}, {each[what][1]:.2f}" for what in ("latest_ms", "read_ms")]
        output = "right" if each["right"] else "[red]WRONG[/red]"
        table.add_row(each["store"], f"{each['rows']:,}", f"{each['rows_per_second']:,}", *times, output)
    console.print(table)


def show_wanted(console: Console, rows: list[dict[str, Any]]) -> None:
    """What was asked for, beside what was found."""
    table = Table(title="wanted", title_justify="left")
    for heading in ("", "wanted", "found", ""):
        table.add_column(heading, justify="right" if heading else "left")
    for row in rows:
        mark = {True: "[green]met[/green]", False: "[red]not met[/red]", None: "not measured"}[row["met"]]
        table.add_row(row["what"], row["wanted"], "-" if row["found"] is None else f"{row['found']:g}", mark)
    console.print(table)


def _cells(result: dict[str, Any]) -> list[str]:
    name = f"{result['engine']} {result['version']}"
    if "error" in result:
        return [
            name,
            "-",
            "-",
            "-",
            "-",
            f"[red]did not run[/red]: {result['error'].strip().splitlines()[-1][:160]}",
            "-",
        ]
    part = "" if result["all_rows"] else " *"
    ratio = result["qanat_is_times_faster"]
    return [
        name + part,
        f"{result['rows_per_second']:,}",
        "" if ratio is None else f"{ratio:g} x",
        f"{result['seconds']:.2f}",
        f"{result['peak_mb']:,.0f} MB",
        "right" if result["right"] else f"[red]WRONG[/red]: {result['verdict']}",
        str(len(result["runs"])),
    ]
