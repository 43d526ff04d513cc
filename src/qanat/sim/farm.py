"""Simulated farms: sites with fields and sensors of six kinds, from three vendors that write each in their own way.

Pure, seeded, in virtual time: `readings` says what the sensors measure and when; what goes wrong with it is `faults`'
business. The project that takes them in is examples/farm.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from qanat.errors import ConfigError
from qanat.sim.faults import PURPOSES, Reading, draw

STREAM = "farm"
#: Seconds between two readings of a sensor, and how many sensors have which.
INTERVALS_S = (5, 30, 120)
_SHARES = (0.2, 0.5, 0.3)
VENDORS = ("acme", "borealis", "cirrus")
_FIELDS = 4
_DAY_MS = 86_400_000

_VENDOR, _INTERVAL, _FIRST, _JITTER, _NOISE, _LEVEL = range(PURPOSES, PURPOSES + 6)


class Kind(NamedTuple):
    """What is measured: the middle, how far it swings in a day, how far a reading strays; all in hundredths."""

    name: str
    unit: str
    middle: int
    swing: int
    noise: int


KINDS = (
    Kind("temperature", "C", 1800, 700, 30),
    Kind("humidity", "%", 6000, 1500, 120),
    Kind("ph", "pH", 650, 10, 6),
    Kind("soil_moisture", "%", 3200, 300, 50),
    Kind("conductivity", "mS/cm", 180, 15, 8),
    Kind("light", "klx", 3000, 3000, 200),
)


@dataclass(frozen=True, slots=True)
class Farm:
    """`sites` farms with `sensors` sensors in all, for `seconds`. `start_ms`: event time of the beginning."""

    sites: int = 10
    sensors: int = 500
    seconds: float = 300.0
    seed: int = 1
    start_ms: int = 1_767_225_600_000

    def __post_init__(self) -> None:
        if self.sites < 1 or self.sensors < 1 or self.seconds <= 0:
            raise ConfigError(f"{self.sites} sites with {self.sensors} sensors for {self.seconds} s send nothing")


@dataclass(frozen=True, slots=True)
class Sensor:
    """One sensor. `site` and `name` stand in its topic, its client id is both."""

    number: int
    site: str
    name: str
    kind: Kind
    vendor: str
    interval_s: int

    @property
    def client(self) -> str:
        """Its MQTT client id."""
        return f"{self.site}-{self.name}"

    @property
    def topic(self) -> str:
        """`farm/{site}/{sensor}/{kind}`."""
        return f"{STREAM}/{self.site}/{self.name}/{self.kind.name}"


def sensors(farm: Farm) -> list[Sensor]:
    """All sensors of the farms."""
    return [_sensor(farm, number) for number in range(farm.sensors)]


def _sensor(farm: Farm, number: int) -> Sensor:
    field = number // farm.sites % _FIELDS + 1
    share, interval = draw(farm.seed, number, 0, _INTERVAL), INTERVALS_S[-1]
    for seconds, part in zip(INTERVALS_S, _SHARES, strict=True):
        if share < part:
            interval = seconds
            break
        share -= part
    return Sensor(
        number,
        site=f"site-{number % farm.sites + 1:02d}",
        name=f"f{field}-{number + 1:05d}",
        kind=KINDS[number % len(KINDS)],
        vendor=VENDORS[int(draw(farm.seed, number, 0, _VENDOR) * len(VENDORS))],
        interval_s=interval,
    )


def readings(farm: Farm) -> Iterator[Reading]:
    """All readings in the order of time. Intervals vary by up to 1%."""
    everyone = sensors(farm)
    end = farm.start_ms + round(farm.seconds * 1000)
    first = [
        (farm.start_ms + int(draw(farm.seed, one.number, 0, _FIRST) * one.interval_s * 1000), one.number, 0)
        for one in everyone
    ]
    waiting = [entry for entry in first if entry[0] < end]
    heapq.heapify(waiting)
    while waiting:
        at, number, n = waiting[0]
        sensor = everyone[number]
        pause = round(sensor.interval_s * (990 + draw(farm.seed, number, n, _JITTER) * 20))
        value = _value(farm, sensor, n, at)
        write = _WRITERS[sensor.vendor](sensor, n, value)
        clocked = sensor.vendor != "cirrus"
        yield Reading(at, number, n, sensor.client, sensor.topic, pause, write, _key(sensor, n), value, clocked)
        if at + pause < end:
            heapq.heapreplace(waiting, (at + pause, number, n + 1))
        else:
            heapq.heappop(waiting)


def _key(sensor: Sensor, n: int) -> Callable[[int], str]:
    return lambda _: f"{sensor.client}/{n}"


def _value(farm: Farm, sensor: Sensor, n: int, at: int) -> int:
    """In hundredths of the unit: the sensor's own level, the time of day, and a little noise."""
    kind = sensor.kind
    level = (draw(farm.seed, sensor.number, 0, _LEVEL) - 0.5) * kind.swing / 2
    day = math.sin((at % _DAY_MS) / _DAY_MS * 2 * math.pi - math.pi / 2) * kind.swing
    noise = (draw(farm.seed, sensor.number, n, _NOISE) - 0.5) * 2 * kind.noise
    return max(0, round(kind.middle + level + day + noise))


# --- how the vendors write it


def _acme(sensor: Sensor, n: int, value: int) -> Callable[[int], bytes]:
    """Flat, with a clock in milliseconds."""

    def write(clock: int) -> bytes:
        return f'{{"seq":{n},"ts":{clock},"value":{value / 100},"unit":"{sensor.kind.unit}"}}'.encode()

    return write


def _borealis(sensor: Sensor, n: int, value: int) -> Callable[[int], bytes]:
    """The measurement in an object of its own, and what nobody asked for beside it."""

    def write(clock: int) -> bytes:
        data = f'{{"v":{value / 100},"u":"{sensor.kind.unit}"}}'
        return (
            f'{{"fw":"2.1.{sensor.number % 7}","seq":{n},"ts":{clock},"data":{data},"battery":{90 - n % 50}}}'.encode()
        )

    return write


def _cirrus(sensor: Sensor, n: int, value: int) -> Callable[[int], bytes]:
    """Whole numbers with a scale, and no clock."""
    del sensor

    def write(_: int) -> bytes:
        return f'{{"seq":{n},"raw":{value},"scale":100}}'.encode()

    return write


_WRITERS = {"acme": _acme, "borealis": _borealis, "cirrus": _cirrus}
