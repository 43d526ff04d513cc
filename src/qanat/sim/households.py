"""Simulated households: pure, seeded, in virtual time. One logic, two forms.

`slices` is the logic: it steps all households at once, cycle by cycle, and gives rows of both streams in order of
arrival. `messages` turns them into MQTT publications (for sockets, in real or accelerated time), `batches` into Arrow
batches as the log would store them (for the bench). No socket, no clock, no random state: every draw is a hash of
(seed, household, cycle, purpose): household 7 of a fleet of ten is household 7 of a fleet of four thousand, and slices
may be cut anywhere.

What a household does is in `docs/design/sim.md`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from qanat.errors import ConfigError

POWER = "power"
DEVICE_STATE = "device_state"

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


class Appliance(NamedTuple):
    """Nominal draw in W and how likely it is on after a redraw."""

    name: str
    watts: float
    share_on: float


#: Position in this tuple = position in `state_bitmap`.
APPLIANCES = (
    Appliance("fridge", 90.0, 0.45),
    Appliance("freezer", 110.0, 0.40),
    Appliance("television", 120.0, 0.35),
    Appliance("computer", 180.0, 0.30),
    Appliance("lights", 60.0, 0.50),
    Appliance("washing machine", 1900.0, 0.08),
    Appliance("dishwasher", 1800.0, 0.07),
    Appliance("kettle", 2800.0, 0.06),
    Appliance("oven", 2200.0, 0.08),
)

PAUSE_MS = (1000, 3000)
JITTER_MS = (1, 100)
REDRAW_CYCLES = (10, 20)
STRETCH_CYCLES = (16, 50)
LATE_MS = (6_000, 60_000)
#: How far a clock is wrong: beyond every guard, however long the play.
AHEAD_S = 3_650 * 86_400
FIRST_MESSAGE_MS = (0, 2000)

POWER_SCHEMA = pa.schema(
    [("client_id", pa.string()), ("username", pa.string()), ("timestamp", pa.int64()), ("consumption", pa.float64())]
)
DEVICE_STATE_SCHEMA = pa.schema(
    [
        ("client_id", pa.string()),
        ("username", pa.string()),
        ("timestamp", pa.int64()),
        ("state_bitmap", pa.list_(pa.bool_())),
    ]
)


@dataclass(frozen=True, slots=True)
class Neighbourhood:
    """How many households, for how long, and what goes wrong. Shares are between 0 and 1, of messages unless said.

    `start_ms`: event time of the beginning (ms since the epoch). `growth` households join every `growth_ms`, the first
    of them at once; 0 lets all of them start together. `noise_w`: standard deviation of a measuring error in W (0: the
    total is exactly the inner product). `no_clock`: share of households whose messages carry no timestamp. `late`:
    messages held back for 6-60 s. `duplicate`: sent a second time within 2 s. `malformed`: JSON cut short.
    `clock_fault`: with a time that is ten years ahead.
    """

    households: int = 100
    seconds: float = 60.0
    seed: int = 1
    start_ms: int = 1_767_225_600_000
    growth: int = 100
    growth_ms: int = 5_000
    swap: float = 0.01
    noise_w: float = 0.0
    no_clock: float = 0.0
    late: float = 0.0
    duplicate: float = 0.0
    malformed: float = 0.0
    clock_fault: float = 0.0

    def __post_init__(self) -> None:
        if self.households < 1 or self.seconds <= 0:
            raise ConfigError(f"a fleet of {self.households} households for {self.seconds} s sends nothing")
        for name in ("swap", "no_clock", "late", "duplicate", "malformed", "clock_fault"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ConfigError(f"{name} is a share between 0 and 1, not {getattr(self, name)}")


class Message(NamedTuple):
    """One publication. `at_ms`: when it is sent, ms since the epoch in the fleet's own time."""

    at_ms: int
    client: str
    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of one stream in order of arrival; one array per column, all of one length.

    `arrival`: ms since the epoch. `timestamp`: seconds since the epoch, by the household's clock. `states`: bit i =
    appliance i is on. `clocked`: whether the message carries its timestamp. `malformed`: whether its JSON is cut short.
    `ahead`: whether its clock is wrong.
    """

    arrival: Ints
    household: Ints
    cycle: Ints
    timestamp: Ints
    consumption: Floats
    states: Ints
    clocked: Bools
    malformed: Bools
    ahead: Bools

    def __len__(self) -> int:
        return len(self.arrival)

    def take(self, which: Ints | Bools) -> Rows:
        """The rows at these places."""
        return Rows(*(getattr(self, f.name)[which] for f in fields(self)))


@dataclass(frozen=True, slots=True)
class Slice:
    """What arrives within one stretch of time, `end_ms` (ms since the epoch) excluded."""

    end_ms: int
    power: Rows
    device_state: Rows


def client_id(household: int) -> str:
    """`household-0001` and so on."""
    return f"household-{household + 1:04d}"


def username(household: int) -> str:
    """The user that household logs in as."""
    return f"meter-{household + 1:04d}"


def bitmap(states: Ints) -> Bools:
    """One row of booleans per value of `Rows.states`."""
    return ((states[:, None] >> np.arange(len(APPLIANCES))) & 1).astype(np.bool_)


# --- draws ------------------------------------------------------------------------------------------------------------

_WATTS, _ON, _REDRAW, _STRETCH, _PAUSE, _JITTER, _FIRST, _LABELLED, _CLOCK, _NOISE = range(10)
_SWAP, _LATE, _LATE_BY, _COPY, _COPY_BY, _CUT, _WRONG = 16, 18, 20, 22, 24, 26, 28  # + 1 for device_state

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def _mixed(z: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014)."""
    z = (z ^ (z >> np.uint64(30))) * _MIX_1
    z = (z ^ (z >> np.uint64(27))) * _MIX_2
    return z ^ (z >> np.uint64(31))


class _Draws:
    """Random numbers as a function of (household, cycle, purpose) under one seed."""

    def __init__(self, seed: int) -> None:
        self._seed = _mixed(np.array([seed & (2**64 - 1)], dtype=np.uint64) + _GOLDEN)

    def bits(self, household: Ints, cycle: Ints, purpose: int) -> npt.NDArray[np.uint64]:
        """64 random bits each."""
        z = _mixed(household.astype(np.uint64) * _GOLDEN + self._seed)
        return _mixed(z + (cycle.astype(np.uint64) * np.uint64(64) + np.uint64(purpose)) * _GOLDEN)

    def share(self, household: Ints, cycle: Ints, purpose: int) -> Floats:
        """Uniform in [0, 1)."""
        return (self.bits(household, cycle, purpose) >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def whole(self, household: Ints, cycle: Ints, purpose: int, bounds: tuple[int, int]) -> Ints:
        """Uniform whole numbers, both bounds included."""
        low, high = bounds
        return low + np.floor(self.share(household, cycle, purpose) * (high - low + 1)).astype(np.int64)


# --- the logic --------------------------------------------------------------------------------------------------------


class _State:
    """Where every household stands: the time of its next cycle (ms after the start), its appliances, its stretch."""

    def __init__(self, hood: Neighbourhood) -> None:
        self.hood, self.draws = hood, _Draws(hood.seed)
        who = np.arange(hood.households, dtype=np.int64)
        zero = np.zeros_like(who)
        joined = who // hood.growth * hood.growth_ms if hood.growth else zero
        self.next = joined + self.draws.whole(who, zero, _FIRST, FIRST_MESSAGE_MS)
        self.cycle = zero.copy()
        self.redraw_in = zero.copy()
        self.toggle_in = self.draws.whole(who, zero, _STRETCH, (1, STRETCH_CYCLES[1]))  # the first one is under way
        self.labelled = self.draws.share(who, zero, _LABELLED) < 0.5
        self.clocked = self.draws.share(who, zero, _CLOCK) >= hood.no_clock
        self.on = np.zeros((hood.households, len(APPLIANCES)), dtype=np.bool_)
        self.watts = np.stack(
            [
                np.round(a.watts * (0.85 + 0.3 * self.draws.share(who, zero + i, _WATTS)))
                for i, a in enumerate(APPLIANCES)
            ],
            axis=1,
        )

    def redraw(self, who: Ints, cycle: Ints) -> None:
        """A new on/off vector for those whose time has come."""
        due = self.redraw_in[who] == 0
        chosen, at = who[due], cycle[due]
        bits = self.draws.bits(chosen, at, _ON)
        sevens = (bits[:, None] >> (np.arange(len(APPLIANCES), dtype=np.uint64) * np.uint64(7))) & np.uint64(127)
        self.on[chosen] = sevens < np.array([round(a.share_on * 128) for a in APPLIANCES], dtype=np.uint64)
        self.redraw_in[chosen] = self.draws.whole(chosen, at, _REDRAW, REDRAW_CYCLES)
        self.redraw_in[who] -= 1

    def toggle(self, who: Ints, cycle: Ints) -> None:
        """Labelled becomes unlabelled and the other way round, for those whose stretch is over."""
        due = self.toggle_in[who] == 0
        chosen = who[due]
        self.labelled[chosen] ^= True
        self.toggle_in[chosen] = self.draws.whole(chosen, cycle[due], _STRETCH, STRETCH_CYCLES)
        self.toggle_in[who] -= 1

    def step(self, who: Ints) -> tuple[Rows, Rows]:
        """One cycle of these households: their power rows and the states of the labelled ones."""
        cycle, sent = self.cycle[who], self.next[who]
        self.redraw(who, cycle)
        self.toggle(who, cycle)
        self.next[who] += self.draws.whole(who, cycle, _PAUSE, PAUSE_MS)
        self.next[who] += self.draws.whole(who, cycle, _JITTER, JITTER_MS)
        self.cycle[who] += 1
        on = self.on[who]
        rows = Rows(
            arrival=sent + self.hood.start_ms,
            household=who,
            cycle=cycle,
            timestamp=(sent + self.hood.start_ms) // 1000,
            consumption=self.measured(who, cycle, (on * self.watts[who]).sum(axis=1)),
            states=(on.astype(np.int64) << np.arange(len(APPLIANCES))).sum(axis=1),
            clocked=self.clocked[who],
            malformed=np.zeros(len(who), dtype=np.bool_),
            ahead=np.zeros(len(who), dtype=np.bool_),
        )
        following = self.next[who] + self.hood.start_ms
        labelled = self.labelled[who]
        return self.sent(rows, following, 0), self.sent(rows.take(labelled), following[labelled], 1)

    def measured(self, who: Ints, cycle: Ints, watts: Floats) -> Floats:
        """The total as the meter sees it; the sum of three uniform draws stands in for a normal one."""
        if not self.hood.noise_w:
            return watts
        bits = self.draws.bits(who, cycle, _NOISE)
        thirds = [((bits >> np.uint64(21 * i)) & np.uint64(2**21 - 1)).astype(np.float64) * 2.0**-21 for i in range(3)]
        return np.maximum(0.0, np.round(watts + (sum(thirds) - 1.5) * 2.0 * self.hood.noise_w, 1))

    def sent(self, rows: Rows, following: Ints, stream: int) -> Rows:
        """The same rows as they arrive: some swapped with the next, late, twice, or cut short. `stream`: 0 or 1."""
        hood, draws, who, cycle = self.hood, self.draws, rows.household, rows.cycle

        def hit(share: float, purpose: int, at: Ints) -> Bools:
            if not share:
                return np.zeros(len(at), dtype=np.bool_)
            return draws.share(who, at, purpose + stream) < share

        # Two swaps in a row would only rotate three messages, so the second one is left out.
        swapped = hit(hood.swap, _SWAP, cycle) & ~hit(hood.swap, _SWAP, cycle - 1)
        arrival = np.where(swapped, following + 2 + stream, rows.arrival + stream)
        delayed = hit(hood.late, _LATE, cycle)
        arrival = arrival + delayed * draws.whole(who, cycle, _LATE_BY + stream, LATE_MS)
        ahead = hit(hood.clock_fault, _WRONG, cycle) & rows.clocked
        copies = hit(hood.duplicate, _COPY, cycle)
        again = arrival[copies] + draws.whole(who[copies], cycle[copies], _COPY_BY + stream, (1, 2000))
        once = Rows(
            arrival,
            who,
            cycle,
            rows.timestamp + ahead * AHEAD_S,
            rows.consumption,
            rows.states,
            rows.clocked,
            hit(hood.malformed, _CUT, cycle),
            ahead,
        )
        return _joined([once, _at(once.take(copies), again)]) if len(again) else once


def _at(rows: Rows, arrival: Ints) -> Rows:
    return Rows(arrival, *(getattr(rows, f.name) for f in fields(rows)[1:]))


def _joined(parts: list[Rows]) -> Rows:
    return Rows(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Rows)))


def _cut(rows: Rows, end_ms: int) -> tuple[Rows, Rows]:
    """What has arrived before `end_ms`, in order, and the rest."""
    rows = rows.take(np.lexsort((rows.household, rows.arrival)))
    at = int(np.searchsorted(rows.arrival, end_ms))
    return rows.take(np.arange(at)), rows.take(np.arange(at, len(rows)))


def slices(hood: Neighbourhood, slice_ms: int = 1000) -> Iterator[Slice]:
    """All that the fleet sends, in stretches of `slice_ms`; what is held back may come after the last second."""
    state = _State(hood)
    last = round(hood.seconds * 1000)
    everyone = np.arange(hood.households, dtype=np.int64)
    power, device_state = state.step(everyone[:0])  # what is on its way; nothing yet
    end = 0
    while end < last or len(power) or len(device_state):
        end += slice_ms
        stepped = [(power, device_state)]
        while len(who := everyone[state.next < min(end, last)]):
            stepped.append(state.step(who))
        arrived, power = _cut(_joined([p for p, _ in stepped]), hood.start_ms + end)
        states_arrived, device_state = _cut(_joined([d for _, d in stepped]), hood.start_ms + end)
        yield Slice(hood.start_ms + end, arrived, states_arrived)


# --- the two forms ----------------------------------------------------------------------------------------------------


def messages(hood: Neighbourhood) -> Iterator[Message]:
    """The MQTT publications in the order in which they are sent: topics `power/CLIENT` and `device_state/CLIENT`."""
    for part in slices(hood):
        both = list(_encoded(POWER, part.power)) + list(_encoded(DEVICE_STATE, part.device_state))
        yield from sorted(both, key=lambda m: m.at_ms)  # stable: power before device_state of the same instant


def _encoded(stream: str, rows: Rows) -> Iterator[Message]:
    values = [f'"consumption":{w}' for w in rows.consumption.tolist()]
    if stream == DEVICE_STATE:
        values = [
            '"state_bitmap":[' + ",".join("true" if on else "false" for on in states) + "]"
            for states in bitmap(rows.states).tolist()
        ]
    columns = (rows.arrival, rows.household, rows.timestamp, rows.clocked, rows.malformed)
    for at, who, second, clocked, cut, value in zip(*(c.tolist() for c in columns), values, strict=True):
        clock = f'"timestamp":{second},' if clocked else ""
        text = f'{{"client_id":"{client_id(who)}","username":"{username(who)}",{clock}{value}}}'
        payload = (text[: len(text) // 2] if cut else text).encode()
        yield Message(at, client_id(who), f"{stream}/{client_id(who)}", payload)


def batches(hood: Neighbourhood, slice_ms: int = 10_000) -> Iterator[tuple[str, pa.RecordBatch, int]]:
    """(stream, rows, arrival of the last one in ms): rows in order of arrival, as the log would store them.

    What the gateway would do is done: a missing timestamp is the second of arrival; malformed messages, and those with
    a time in the future, are left out.
    """
    names = pa.array([client_id(i) for i in range(hood.households)])
    users = pa.array([username(i) for i in range(hood.households)])
    for part in slices(hood, slice_ms):
        for stream, rows in ((POWER, part.power), (DEVICE_STATE, part.device_state)):
            rows = rows.take(~(rows.malformed | rows.ahead))
            if not len(rows):
                continue
            who = pa.array(rows.household)
            second = pa.array(np.where(rows.clocked, rows.timestamp, rows.arrival // 1000))
            if stream == POWER:
                value, schema = pa.array(rows.consumption), POWER_SCHEMA
            else:
                value, schema = _lists(bitmap(rows.states)), DEVICE_STATE_SCHEMA
            columns = [names.take(who), users.take(who), second, value]
            yield stream, pa.RecordBatch.from_arrays(columns, schema=schema), int(rows.arrival[-1])


def _lists(matrix: Bools) -> pa.Array:
    offsets = np.arange(len(matrix) + 1, dtype=np.int32) * matrix.shape[1]
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(matrix.ravel()))


def fleet_batches(
    households: int = 4000, seconds: float = 3600.0, seed: int = 1, slice_ms: int = 10_000
) -> Iterator[tuple[str, pa.RecordBatch, int]]:
    """`batches` with nothing wrong but the swaps: 1,750 readings an hour and household, half of them with states."""
    return batches(Neighbourhood(households=households, seconds=seconds, seed=seed), slice_ms)


def write_lines(hood: Neighbourhood, folder: Path) -> tuple[Path, Path]:
    """`power.jsonl` and `device_state.jsonl` in `folder`, in order of arrival; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = (folder / f"{POWER}.jsonl", folder / f"{DEVICE_STATE}.jsonl")
    with paths[0].open("wb") as power, paths[1].open("wb") as states:
        files = {POWER: power, DEVICE_STATE: states}
        for stream, rows, _ in batches(hood):
            pl.DataFrame(rows).write_ndjson(files[stream])
    return paths
