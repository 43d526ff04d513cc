"""The event file: JSON lines of new people, new auctions and bids, made from a seed.

Of 50 events one is a person, three are auctions, 46 are bids. Half of the bids go to a hot auction, three quarters come
from a hot bidder, three quarters of the auctions are a hot seller's; who is hot changes every hundred auctions or
people. Prices are log-uniform from 1 to 1,000,000 dollars, in cents. An auction lasts as long as it takes for a hundred
others to begin, on average. `extra` pads a person to 200 bytes, an auction to 500, a bid to 100, as the definition
counts them, give or take a fifth.

A line holds one event of the table that queries.py declares: event_type 0, 1, 2 and the event in `person`, `auction`
or `bid`, the other two null, as Flink's json format writes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl

from bench.nexmark.texts import Ints, chosen, letters, timestamps, words
from bench.work import folder

PERSONS, AUCTIONS, BIDS = 1, 3, 46
TOTAL = PERSONS + AUCTIONS + BIDS
FIRST_ID = 1_000
FIRST_CATEGORY, CATEGORIES = 10, 5
#: One auction in a hundred is hot, one person in a hundred sells or bids hot.
HOT_EVERY = 100
IN_FLIGHT_AUCTIONS = 100
ACTIVE_PEOPLE = 1_000
#: Ids may be so far ahead of those that exist.
LEAD = 10
CHANNELS = 10_000
HOT_CHANNELS = ("Google", "Facebook", "Baidu", "Apple")

_STATES = ("AZ", "CA", "ID", "OR", "WA", "WY")
_CITIES = (
    "Phoenix", "Los Angeles", "San Francisco", "Boise", "Portland", "Bend", "Redmond", "Seattle", "Kent", "Cheyenne",
)  # fmt: skip
_FIRST_NAMES = ("Peter", "Paul", "Luke", "John", "Saul", "Vicky", "Kate", "Julie", "Sarah", "Deiter", "Walter")
_LAST_NAMES = ("Shultz", "Abrams", "Spencer", "White", "Bartels", "Walton", "Smith", "Jones", "Noris")
#: Events made and written at a time, so that memory does not grow with the file.
_AT_ONCE = 250_000


@dataclass(frozen=True, slots=True)
class Shape:
    """What decides every byte of the file. `rate`: events per second of event time. `group`: so many neighbours
    are dealt out anew, so that event times go back by almost as many events; 1: they never go back."""

    events: int = 2_000_000
    rate: float = 10_000.0
    group: int = 1
    #: 2015-07-15T00:00:00Z, the benchmark's own
    first_ms: int = 1_436_918_400_000
    seed: int = 2026

    @property
    def name(self) -> str:
        """Names the cached file."""
        return f"nexmark-{self.events}-{self.rate:g}-{self.group}-{self.first_ms}-{self.seed}"


def events_file(shape: Shape) -> Path:
    """The file of this shape, written at the first call."""
    path = folder("data") / f"{shape.name}.jsonl"
    if not path.exists():
        part = path.with_suffix(".part")
        with part.open("wb") as out:
            for first in range(0, shape.events, _AT_ONCE):
                out.write(lines(shape, first, min(first + _AT_ONCE, shape.events)))
        part.rename(path)
    return path


def lines(shape: Shape, first: int, last: int) -> bytes:
    """Events from number `first` up to before `last` as JSON lines. How a file is cut into calls decides its bytes."""
    rng = np.random.default_rng([shape.seed, first])
    number = _dealt(np.arange(first, last, dtype=np.int64), shape.group)
    place = number % TOTAL
    kinds = (place < PERSONS, (place >= PERSONS) & (place < PERSONS + AUCTIONS), place >= PERSONS + AUCTIONS)
    makers = (_persons, _auctions, _bids)
    made = [maker(shape, rng, number[kind]) for maker, kind in zip(makers, kinds, strict=True)]
    where = np.concatenate([np.flatnonzero(kind) for kind in kinds])
    back = np.empty(len(where), dtype=np.int64)
    back[where] = np.arange(len(where))
    return "".join(pl.concat(made).gather(back).to_list()).encode()


def _dealt(number: Ints, group: int) -> Ints:
    # 953 is prime: every number of the group comes once
    return number // group * group + number * 953 % group


def _times(shape: Shape, number: Ints) -> Ints:
    times: Ints = shape.first_ms + np.floor(number * (1_000 / shape.rate)).astype(np.int64)
    return times


def _last_person(number: Ints) -> Ints:
    """The person who came last before an event or by it; ids count from 0 here."""
    return number // TOTAL * PERSONS + np.minimum(number % TOTAL, PERSONS - 1)


def _last_auction(number: Ints) -> Ints:
    place = number % TOTAL - PERSONS
    return number // TOTAL * AUCTIONS + np.clip(place, -1, AUCTIONS - 1)


def _some_person(rng: np.random.Generator, number: Ints) -> Ints:
    people = _last_person(number) + 1
    active = np.minimum(people, ACTIVE_PEOPLE)
    return people - active + rng.integers(0, active + LEAD)


def _some_auction(rng: np.random.Generator, number: Ints) -> Ints:
    newest = _last_auction(number)
    oldest = np.maximum(newest - IN_FLIGHT_AUCTIONS, 0)
    return oldest + rng.integers(0, newest - oldest + 1 + LEAD)


def _prices(rng: np.random.Generator, count: int) -> Ints:
    return np.round(10.0 ** (rng.random(count) * 6) * 100).astype(np.int64)


def _padding(rng: np.random.Generator, used: Ints, wanted: int) -> pl.Series:
    """Letters that bring what is used to the wanted size on average, give or take a fifth of what was missing."""
    missing = np.maximum(wanted - used, 0)
    fifth = np.round(missing * 0.2).astype(np.int64)
    return letters(rng, missing - fifth + rng.integers(0, np.maximum(2 * fifth, 1)))


def _sizes(*texts: pl.Series) -> Ints:
    sizes: Ints = np.sum([text.str.len_bytes().to_numpy() for text in texts], axis=0, dtype=np.int64)
    return sizes


def _persons(shape: Shape, rng: np.random.Generator, number: Ints) -> pl.Series:
    count = len(number)
    name = chosen(rng, _FIRST_NAMES, count) + " " + chosen(rng, _LAST_NAMES, count)
    user, host = (letters(rng, rng.integers(3, most, count)) for most in (7, 5))
    email = user + "@" + host + ".com"
    card = pl.Series(rng.integers(10**15, 10**16, count)).cast(pl.String)
    card = card.str.replace(r"(\d{4})(\d{4})(\d{4})(\d{4})", "$1 $2 $3 $4")
    city, state = chosen(rng, _CITIES, count), chosen(rng, _STATES, count)
    extra = _padding(rng, 8 + _sizes(name, email, card, city, state), 200)
    values = [
        ("id", pl.Series(_last_person(number) + FIRST_ID)), ("name", name), ("emailAddress", email),
        ("creditCard", card), ("city", city), ("state", state), ("dateTime", timestamps(_times(shape, number))),
        ("extra", extra),
    ]  # fmt: skip
    return _json('{"event_type":0,"person":', values, ',"auction":null,"bid":null}\n')


def _auctions(shape: Shape, rng: np.random.Generator, number: Ints) -> pl.Series:
    count = len(number)
    name, description = (words(rng, rng.integers(3, most, count)) for most in (20, 100))
    initial = _prices(rng, count)
    times = _times(shape, number)
    horizon = _times(shape, number + IN_FLIGHT_AUCTIONS * TOTAL // AUCTIONS) - times
    hot = rng.integers(0, 4, count) > 0
    seller = np.where(hot, _last_person(number) // HOT_EVERY * HOT_EVERY, _some_person(rng, number))
    extra = _padding(rng, 48 + _sizes(name, description), 500)
    values = [
        ("id", pl.Series(_last_auction(number) + FIRST_ID)), ("itemName", name), ("description", description),
        ("initialBid", pl.Series(initial)), ("reserve", pl.Series(initial + _prices(rng, count))),
        ("dateTime", timestamps(times)),
        ("expires", timestamps(times + 1 + rng.integers(0, np.maximum(2 * horizon, 1)))),
        ("seller", pl.Series(seller + FIRST_ID)),
        ("category", pl.Series(FIRST_CATEGORY + rng.integers(0, CATEGORIES, count))), ("extra", extra),
    ]  # fmt: skip
    return _json('{"event_type":1,"person":null,"auction":', values, ',"bid":null}\n')


def _bids(shape: Shape, rng: np.random.Generator, number: Ints) -> pl.Series:
    count = len(number)
    hot_auction, hot_bidder = rng.integers(0, 2, count) > 0, rng.integers(0, 4, count) > 0
    auction = np.where(hot_auction, _last_auction(number) // HOT_EVERY * HOT_EVERY, _some_auction(rng, number))
    # one behind the hot seller, so that the two do not meet
    bidder = np.where(hot_bidder, _last_person(number) // HOT_EVERY * HOT_EVERY + 1, _some_person(rng, number))
    hot_channel = rng.integers(0, 2, count) > 0
    hot = len(HOT_CHANNELS)
    channel = np.where(hot_channel, rng.integers(0, hot, count), hot + rng.integers(0, CHANNELS, count))
    names, urls = _channels(shape.seed)
    values = [
        ("auction", pl.Series(auction + FIRST_ID)), ("bidder", pl.Series(bidder + FIRST_ID)),
        ("price", pl.Series(_prices(rng, count))), ("channel", names.gather(channel)), ("url", urls.gather(channel)),
        ("dateTime", timestamps(_times(shape, number))), ("extra", _padding(rng, np.full(count, 32), 100)),
    ]  # fmt: skip
    return _json('{"event_type":2,"person":null,"auction":null,"bid":', values, "}\n")


@cache
def _channels(seed: int) -> tuple[pl.Series, pl.Series]:
    """Names and addresses of the hot channels, then of the others. Nine in ten of the others have an id."""
    rng = np.random.default_rng([seed, CHANNELS, 1])
    count = len(HOT_CHANNELS) + CHANNELS
    names = pl.Series([*HOT_CHANNELS, *(f"channel-{number}" for number in range(CHANNELS))])
    path = [letters(rng, np.full(count, 5, dtype=np.int64)) for _ in range(3)]
    urls = "https://www.nexmark.com/" + path[0] + "/" + path[1] + "/" + path[2] + "/item.htm?query=1"
    with_id = rng.integers(0, 10, count) > 0
    with_id[: len(HOT_CHANNELS)] = False
    ids = "&channel_id=" + pl.Series(rng.integers(0, 1 << 31, count)).cast(pl.String)
    return names, urls + ids.zip_with(pl.Series(with_id), pl.Series([""] * count))


def _json(before: str, values: list[tuple[str, pl.Series]], after: str) -> pl.Series:
    """One object a row; no text here needs an escape."""
    parts: list[pl.Expr] = []
    for place, (name, value) in enumerate(values):
        head = (before + "{" if place == 0 else ",") + f'"{name}":'
        quote = '"' if value.dtype == pl.String else ""
        parts += [pl.lit(head + quote), pl.col(name), pl.lit(quote)]
    frame = pl.DataFrame([value.alias(name) for name, value in values])
    return frame.select(pl.concat_str([*parts, pl.lit("}" + after)]).alias("line"))["line"]
