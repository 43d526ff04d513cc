"""A fleet that never gives up against a `qanat up` that is killed, frozen, cut off and left without a disk.

    python -m tests.crash.gateway --minutes 20 [--seed 1] [--faults kill,cut,hold,freeze,restart,disk]

In the end everything that was acknowledged is stored; nothing is stored twice by QoS 2 or under an idempotency key; QoS
1 and plain HTTP only as often as they were sent. Exits with 1 where that is not so. What the server cannot do (QoS 2,
sessions, keys) is found out by asking it, left out and named.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from qanat.gateway.mqtt.packets import V3, V5
from qanat.log import open_log
from qanat.log.base import Log
from tests.crash.probes import PROBE, Abilities, probe
from tests.crash.proxy import Proxy
from tests.crash.senders import Account, Http, Mqtt, Sender

SQL = "CREATE TABLE readings (k STRING NOT NULL, n BIGINT NOT NULL, v DOUBLE NOT NULL);"
FAULTS = {"kill": 4, "cut": 6, "hold": 2, "freeze": 2, "restart": 1, "disk": 2}
_START_S = 30
_DRAIN_S = 90
_DISK = "size=768m"


@dataclass(frozen=True)
class Plan:
    """`quiet_s`: between two faults, at least and at most. `disk`: the folder is a small file system of its own."""

    seconds: float
    seed: int = 1
    faults: tuple[str, ...] = tuple(FAULTS)
    quiet_s: tuple[float, float] = (0.2, 2.0)


@dataclass
class Report:
    """What was done, and what was found wrong."""

    done: dict[str, int] = field(default_factory=dict)
    rows: int = 0
    figures: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


class Server:
    """`qanat up` on ports that stay the same; what it says goes to `said`."""

    def __init__(self, folder: Path, data: Path) -> None:
        self._data, self._folder = data, folder
        self.mqtt, self.http = _free_port(), _free_port()
        self._said = (folder / "said").open("ab")
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Until it listens. Tries again where it ends instead, as on a full disk."""
        deadline = time.monotonic() + _START_S
        command = [sys.executable, "-m", "qanat", "up", str(self._folder), "--data", str(self._data), "--json"]
        command += ["--mqtt-port", str(self.mqtt), "--http-port", str(self.http)]
        self._process = subprocess.Popen(command, stdout=self._said, stderr=self._said)
        while not await self._listens():
            if self._process.poll() is not None:
                await asyncio.sleep(0.2)
                self._process = subprocess.Popen(command, stdout=self._said, stderr=self._said)
            if time.monotonic() > deadline:
                raise TimeoutError(f"qanat up does not start; see {self._said.name}")
            await asyncio.sleep(0.05)

    async def _listens(self) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.http)
        except OSError:
            return False
        writer.close()
        return True

    def kill(self) -> None:
        """As the power would."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def send(self, number: signal.Signals) -> None:
        """A signal."""
        assert self._process is not None
        self._process.send_signal(number)

    async def end(self) -> int:
        """In order; its exit code."""
        assert self._process is not None
        self._process.terminate()
        return await asyncio.to_thread(self._process.wait, 60)

    def died(self) -> int | None:
        """Its exit code, where it has ended without being asked to."""
        return None if self._process is None else self._process.poll()

    def close(self) -> None:
        """Nothing of it stays."""
        if self._process is not None and self._process.poll() is None:
            self.kill()
        self._said.close()


class Trial:
    """One run."""

    def __init__(self, plan: Plan, folder: Path, data: Path) -> None:
        self.plan, self.folder, self.data = plan, folder, data
        self.chance = random.Random(plan.seed)
        self.report = Report(dict.fromkeys(plan.faults, 0))
        self.server = Server(folder, data)
        self.senders: list[Sender] = []
        self.accounts: list[Account] = []

    async def run(self) -> Report:
        """Load and faults, then quiet until everything is answered, then the judgement."""
        (self.folder / "all.sql").write_text(SQL)
        await self.server.start()
        abilities = await probe(self.server.mqtt, self.server.http)
        self.report.figures += [f"left out, the server does not have it: {name}" for name in abilities.missing()]
        proxies = (Proxy(self.server.mqtt, self.chance), Proxy(self.server.http, self.chance))
        for proxy in proxies:
            await proxy.start()
        self._hire(abilities, proxies[0].port, proxies[1].port)
        tasks = [asyncio.create_task(sender.run()) for sender in self.senders]
        try:
            await self._harass(proxies)
            await self._drain(tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for proxy in proxies:
                await proxy.stop()
        code = await self.server.end()
        if code:
            self.report.wrong.append(f"qanat up ended with exit code {code}")
        self._count(proxies)
        return self.report

    def _hire(self, abilities: Abilities, mqtt: int, http: int) -> None:
        for version, level in (("3", V3), ("5", V5)):
            for qos in (0, 1, 2) if abilities.qos2 else (0, 1):
                for session in (False, True) if qos == 1 and abilities.sessions else (qos == 2,):
                    name = f"mqtt{version}-qos{qos}{'-session' if session else ''}"
                    account = self._account(name, once=qos == 2, promised=qos > 0)
                    self.senders.append(Mqtt(account, mqtt, self.chance, level, qos, session))
        for keyed in (False, True) if abilities.keys else (False,):
            for number in range(2):
                account = self._account(f"http-{'keyed' if keyed else 'plain'}-{number}", once=keyed)
                self.senders.append(Http(account, http, self.chance, keyed))

    def _account(self, name: str, *, once: bool, promised: bool = True) -> Account:
        self.accounts.append(Account(name, once, promised))
        return self.accounts[-1]

    # --- faults

    async def _harass(self, proxies: Sequence[Proxy]) -> None:
        end = time.monotonic() + self.plan.seconds
        names = list(self.plan.faults)
        weights = [FAULTS[name] for name in names]
        while (left := end - time.monotonic()) > 0:
            await asyncio.sleep(min(left, self.chance.uniform(*self.plan.quiet_s)))
            code = self.server.died()
            if code is not None:
                self.report.wrong.append(f"qanat up ended by itself, exit code {code}")
                await self.server.start()
            if names:
                (name,) = self.chance.choices(names, weights)
                self.report.done[name] += 1
                await getattr(self, f"_{name}")(proxies)

    async def _kill(self, proxies: Sequence[Proxy]) -> None:
        if self.chance.random() < 0.5:  # so that much is stored whose acknowledgement never arrives
            for proxy in proxies:
                proxy.mute()
            await asyncio.sleep(self.chance.uniform(0.05, 0.5))
        self.server.kill()
        for proxy in proxies:
            proxy.unmute()
        if self.chance.random() < 0.3:  # and once more, while it starts
            starting = asyncio.create_task(self.server.start())
            await asyncio.sleep(self.chance.uniform(0.1, 1.5))
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            self.server.kill()
        await self.server.start()

    async def _restart(self, _: Sequence[Proxy]) -> None:
        code = await self.server.end()
        if code:
            self.report.wrong.append(f"qanat up ended with exit code {code} after SIGTERM")
        await self.server.start()

    async def _cut(self, proxies: Sequence[Proxy]) -> None:
        for proxy in proxies:
            proxy.cut(self.chance.choice((0.2, 0.5, 1.0)))

    async def _hold(self, proxies: Sequence[Proxy]) -> None:
        await self.chance.choice(proxies).hold(self.chance.uniform(0.2, 2.0))

    async def _freeze(self, _: Sequence[Proxy]) -> None:
        self.server.send(signal.SIGSTOP)
        await asyncio.sleep(self.chance.uniform(0.2, 3.0))
        self.server.send(signal.SIGCONT)

    async def _disk(self, proxies: Sequence[Proxy]) -> None:
        ballast = self.data / "ballast"
        await asyncio.to_thread(_fill, ballast)
        try:
            await asyncio.sleep(self.chance.uniform(0.5, 3.0))
            if self.chance.random() < 0.3:
                self.server.kill()
                starting = asyncio.create_task(self.server.start())
                await asyncio.sleep(2.0)
                ballast.unlink()
                await starting
        finally:
            ballast.unlink(missing_ok=True)

    # --- the end

    async def _drain(self, tasks: Sequence[asyncio.Task[None]]) -> None:
        for sender in self.senders:
            sender.draining = True
        deadline = time.monotonic() + _DRAIN_S
        while any(account.open for account in self.accounts):
            for task in tasks:
                if task.done():
                    task.result()
            if time.monotonic() > deadline:
                still = ", ".join(f"{one.name} {one.open}" for one in self.accounts if one.open)
                self.report.wrong.append(f"without an answer {_DRAIN_S} s after the last fault: {still}")
                break
            await asyncio.sleep(0.05)
        for sender in self.senders:
            sender.done = True
        await asyncio.sleep(0.3)

    def _count(self, proxies: Sequence[Proxy]) -> None:
        log = open_log(f"sqlite:///{self.data.absolute()}/log.db", read_only=True)
        try:
            judge(log, self.accounts, self.report)
        finally:
            log.close()
        done = ", ".join(f"{count} {name}" for name, count in self.report.done.items())
        cuts, reconnects = sum(proxy.cuts for proxy in proxies), sum(one.reconnects for one in self.accounts)
        self.report.figures.insert(0, f"faults: {done}; {cuts} connections cut, {reconnects} connections lost")


def judge(log: Log, accounts: Sequence[Account], report: Report) -> None:
    """What is stored beside what the clients know."""
    stored = _stored(log)
    report.rows = sum(len(numbers) for numbers, _ in stored.values())
    for name in set(stored) - {one.name for one in accounts}:
        report.wrong.append(f"rows of {name}, whom nobody knows")
    for account in accounts:
        report.wrong += sorted({f"{account.name}: {what}" for what in account.wrong})
        _judge_one(account, *stored.get(account.name, (np.empty(0, np.int64), np.empty(0))), report)
    dead = [row for chunk in log.read(("dead_letters", 0), 0, 10_000) for row in chunk.rows.to_pylist()]
    for reason in sorted({row["reason"] for row in dead if row["data"] != PROBE}):
        report.wrong.append(f"dead letters, though every message was sound: {reason}")


def _judge_one(account: Account, numbers: np.ndarray, values: np.ndarray, report: Report) -> None:
    size = len(account.sends)
    sends = np.asarray(account.sends, dtype=np.int64)
    acked = np.frombuffer(bytes(account.acked), dtype=np.uint8)
    foreign = int(((numbers < 0) | (numbers >= size)).sum())
    numbers, values = numbers[numbers < size], values[numbers < size]
    counts = np.bincount(numbers, minlength=size)
    allowed = np.minimum(sends, 1) if account.once else sends
    found = {
        "acknowledged and not stored": int(((acked == 1) & (counts == 0)).sum()),
        "stored more often than allowed": int((counts > allowed).sum()),
        "stored and never sent": foreign,
        "stored with another value": int((values != numbers % 97 + 0.5).sum()),
    }
    report.wrong += [f"{account.name}: {count} {what}" for what, count in found.items() if count]
    again = int((counts - np.minimum(counts, 1)).sum())
    line = (
        f"{account.name:<22} {size:>8,} sent {int(acked.sum()):>8,} acknowledged {int((counts > 0).sum()):>8,} stored"
    )
    report.figures.append(f"{line} {again:>5,} twice {account.refused:>5,} refused {account.reconnects:>4,} reconnects")


def _stored(log: Log) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Numbers and values by client, in the order of the log."""
    parts: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    offset = 0
    while chunks := log.read(("readings", 0), offset, 200_000):
        for chunk in chunks:
            names = np.asarray(chunk.rows.column("k").to_pylist())
            n, v = (chunk.rows.column(name).to_numpy(zero_copy_only=False) for name in ("n", "v"))
            for name in np.unique(names):
                parts.setdefault(str(name), []).append((n[names == name], v[names == name]))
        offset = chunks[-1].end
    return {
        name: (np.concatenate([n for n, _ in all_]), np.concatenate([v for _, v in all_]))
        for name, all_ in parts.items()
    }


def _fill(ballast: Path) -> None:
    """Write until nothing fits any more."""
    with ballast.open("wb", buffering=0) as file:
        for size in (1 << 20, 4096, 512):
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(size))


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[str | None]:
    """A small file system on the folder; gives None, or why there is none."""
    folder.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", _DISK, "qanat-faults", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
        why = done.stderr.strip() if done.returncode else None
    except OSError as error:
        why = str(error)
    try:
        yield why
    finally:
        if why is None:
            subprocess.run(["umount", "-l", str(folder)], check=True)


def run(plan: Plan, folder: Path) -> Report:
    """One run in an empty folder. Where no file system may be mounted, `disk` is left out; the report says so."""
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / "data"
    with small_disk(data) if "disk" in plan.faults else contextlib.nullcontext("not asked for") as why:
        if why is not None and "disk" in plan.faults:
            plan = Plan(plan.seconds, plan.seed, tuple(f for f in plan.faults if f != "disk"), plan.quiet_s)
        trial = Trial(plan, folder, data)
        try:
            report = asyncio.run(trial.run())
        finally:
            trial.server.close()
        if why is not None and why != "not asked for":
            report.figures.append(f"left out, a small disk cannot be mounted: {why}")
        return report


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash.gateway", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--faults", default=",".join(FAULTS))
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="qanat-faults-") as folder:
        report = run(Plan(given.minutes * 60, given.seed, tuple(filter(None, given.faults.split(",")))), Path(folder))
        said = (Path(folder) / "said").read_text()
    if given.json:
        print(json.dumps(report.__dict__))
    else:
        print(f"{report.rows:,} rows stored", *report.figures, sep="\n")
        print(*(f"wrong: {one}" for one in report.wrong or ["nothing"]), sep="\n")
        if report.wrong:
            print("--- the last that qanat up said", *said.splitlines()[-15:], sep="\n")
    return 1 if report.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
