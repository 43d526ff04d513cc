"""The live view of the demo: a calm board for a terminal, one line now and then for anything else.

Pure: numbers in, Rich renderables or text out. `Board.add` takes the look of one moment; the rates are taken between
looks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from qanat.sim.parity import Report, summary
from qanat.sim.watch import Reading

_BARS = "▁▂▃▄▅▆▇█"
_WIDTH = 32


@dataclass(frozen=True, slots=True)
class Moment:
    """One look at everything. `at`: seconds since the start. `ack_p50_ms`, `ack_p99_ms`: from sending to PUBACK."""

    at: float
    sent: int
    acknowledged: int
    again: int
    connected: int
    reading: Reading
    ack_p50_ms: float | None = None
    ack_p99_ms: float | None = None


_COUNTS = ("sent", "acknowledged", "stored", "windows", "sets")


class Board:
    """Remembers the last looks. `title`: what is being shown; `seconds`: how long the play will take."""

    def __init__(self, title: str, seconds: float) -> None:
        self.title, self.seconds = title, seconds
        self.state = "starting"
        self._now: Moment | None = None
        self._rates: dict[str, deque[float]] = {name: deque(maxlen=_WIDTH) for name in _COUNTS}

    def add(self, moment: Moment) -> None:
        """The look of this moment."""
        before, self._now = self._now, moment
        if before is None or moment.at <= before.at:
            return
        for name, rates in self._rates.items():
            rates.append(max(0.0, (_count(moment, name) - _count(before, name)) / (moment.at - before.at)))

    def rate(self, name: str) -> float:
        """Per second, smoothed over the last few looks."""
        recent = list(self._rates[name])[-4:]
        return sum(recent) / len(recent) if recent else 0.0

    # --- a terminal

    def __rich__(self) -> RenderableType:
        head = Table.grid(expand=True)
        head.add_column()
        head.add_column(justify="right")
        head.add_row(Text.assemble(("qanat", "bold cyan"), "  ", self.title), Text(self._clock(), style="dim"))
        done = min(self._now.at if self._now else 0.0, self.seconds)
        bar = ProgressBar(total=self.seconds, completed=done, complete_style="cyan", finished_style="cyan")
        return Padding(Group(head, bar, Text(), self._table()), (1, 2))

    def _clock(self) -> str:
        at = min(self._now.at, self.seconds) if self._now else 0.0
        return f"{self.state}   {_minutes(at)} / {_minutes(self.seconds)}"

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 2))
        table.add_column(style="dim", min_width=22)
        table.add_column(justify="right", min_width=14)
        table.add_column(justify="right", style="dim", min_width=10)
        table.add_column(style="cyan")
        now = self._now
        if now is None:
            return table
        reading = now.reading
        self._counted(table, "messages sent", "sent", now)
        self._counted(table, "acknowledged", "acknowledged", now)
        table.add_row("connections", f"{now.connected:,}", "", "")
        table.add_row()
        self._counted(table, "rows in the log", "stored", now)
        table.add_row("watermark", _instant(reading.watermark_ms), "", "")
        table.add_row()
        self._counted(table, "prediction windows", "windows", now)
        self._counted(table, "training sets", "sets", now)
        table.add_row("late rows", _wary(reading.late), "", "")
        table.add_row("dead letters", _wary(reading.dead), "", "")
        table.add_row()
        table.add_row("arrival to result", _pair(_ms(reading.p50_s), _ms(reading.p99_s)), "p50  p99", "")
        table.add_row("sending to PUBACK", _pair(now.ack_p50_ms, now.ack_p99_ms), "p50  p99", "")
        return table

    def _counted(self, table: Table, label: str, name: str, now: Moment) -> None:
        rates = self._rates[name]
        table.add_row(
            label, Text(f"{_count(now, name):,}", style="bold"), f"{self.rate(name):,.0f}/s", sparkline(rates)
        )

    # --- a pipe or a file

    def line(self) -> str:
        """The same in one line, without colours."""
        now = self._now
        if now is None:
            return f"{self.state} ..."
        reading = now.reading
        parts = (
            _minutes(now.at),
            f"sent {now.sent:,} ({self.rate('sent'):,.0f}/s)",
            f"acknowledged {now.acknowledged:,}",
            f"log {reading.stored:,} rows",
            f"watermark {_instant(reading.watermark_ms)}",
            f"windows {reading.windows:,} ({self.rate('windows'):,.0f}/s)",
            f"training sets {reading.sets:,}",
            f"late {reading.late:,}",
            f"dead {reading.dead:,}",
            f"to result p50 {_pair(_ms(reading.p50_s), _ms(reading.p99_s), ' p99 ')}",
        )
        return "  ".join(parts)


def sparkline(values: Sequence[float]) -> str:
    """One bar per value, the highest is full.

    >>> sparkline([0, 1, 2, 4])
    '▁▃▅█'
    """
    top = max(values, default=0.0)
    if not top:
        return _BARS[0] * len(values)
    return "".join(_BARS[min(len(_BARS) - 1, int(value / top * len(_BARS)))] for value in values)


def report_table(report: Report) -> RenderableType:
    """The parity report for a terminal; `parity.text` is the same for a pipe."""
    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column(style="dim", min_width=42)
    table.add_column()
    mark = {True: Text("✓", style="green"), False: Text("✗", style="bold red"), None: Text(" ")}
    for what, found, ok in summary(report):
        table.add_row(mark[ok], what, Text(found, style="bold red" if ok is False else ""))
    verdict = (
        Text("everything that was acknowledged is there", style="green")
        if report.ok
        else Text("parity failed", style="bold red")
    )
    return Padding(Group(Rule("parity", align="left", style="dim"), table, Text(), verdict), (1, 2))


def _count(moment: Moment, name: str) -> int:
    return int(getattr(moment if name in ("sent", "acknowledged") else moment.reading, name))


def _minutes(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def _instant(ms: int | None) -> str:
    return "-" if ms is None else f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M:%S}"


def _wary(count: int) -> Text:
    return Text(f"{count:,}", style="yellow" if count else "")


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1000


def _pair(p50_ms: float | None, p99_ms: float | None, between: str = "  ") -> str:
    return between.join("-" if value is None else f"{value:,.0f} ms" for value in (p50_ms, p99_ms))
