"""Law 8 by force: death at every step of a commit and at random instructions, a full disk, a damaged log."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from qanat.errors import LogCorruptError
from qanat.log import open_log
from qanat.sql.plan import Program
from tests.crash.children import Fault, attempt
from tests.crash.faults import POINTS, AtCall, AtPoint, FullAt
from tests.crash.scenario import SCENARIOS, compiled, outputs, prepare

#: How often each test kills; with three scenarios more than 300 deaths in all.
HITS = (1, 4, 11)
CALLS = int(os.environ.get("QANAT_CALLS", "110"))
_PAGE = 32 << 10


class Bench:
    """One scenario: a log that lies ready, copies of it to run over, and what an undisturbed run gives."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self._folder, self._numbers = name, folder, count()
        self._ready = folder / "ready"
        prepare(self._ready, compiled(name, self._ready))
        self.folder, self.program = self.fresh()
        assert attempt(self.folder, self.program, None) == "finished"
        self.expected = outputs(self.folder, self.program)
        assert sum(len(rows) for rows in self.expected.values()) > 400

    def fresh(self) -> tuple[Path, Program]:
        """A copy that nobody has run over."""
        folder = self._folder / f"run{next(self._numbers)}"
        shutil.copytree(self._ready, folder)
        return folder, compiled(self.name, folder)

    def check(self, folder: Path, program: Program, history: list[Fault]) -> None:
        """The outputs are those of the undisturbed run."""
        found = outputs(folder, program)
        wrong = [name for name in {*found, *self.expected} if found.get(name) != self.expected.get(name)]
        assert not wrong, f"{wrong} differ after {history}"
        shutil.rmtree(folder)

    def killed(self, faults: Iterator[Fault]) -> int:
        """Run and kill, over fresh copies as they are used up, until there are no more faults; how many deaths."""
        deaths = 0
        folder, program = self.fresh()
        history: list[Fault] = []
        for fault in faults:
            history.append(fault)
            end = attempt(folder, program, fault)
            assert end in ("killed", "finished"), f"{end} after {history}"
            if end == "finished":
                self.check(folder, program, history)
                folder, program = self.fresh()
                history = []
            else:
                deaths += 1
        assert attempt(folder, program, None) == "finished"
        self.check(folder, program, history)
        return deaths


@pytest.fixture(scope="module", params=sorted(SCENARIOS))
def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Each scenario, prepared once."""
    return Bench(request.param, tmp_path_factory.mktemp(request.param))


def test_law_8_death_at_every_commit_point(bench: Bench) -> None:
    """Every point that the scenario reaches, at its first, a later and a much later commit."""
    faults = [AtPoint(point, hit) for hit in HITS for point in POINTS]
    deaths = bench.killed(iter(faults))
    # not every scenario has files, and a run that starts afresh restores no snapshot
    assert deaths >= len(faults) // 2


def test_law_8_death_at_random_instructions(bench: Bench) -> None:
    drawn = random.Random(bench.name)
    # from the first calls, in recovery, to the last ones: spread over orders of magnitude
    faults = [AtCall(int(10 ** drawn.uniform(1.5, 4.5))) for _ in range(CALLS)]
    assert bench.killed(iter(faults)) >= CALLS * 4 // 5


def test_a_full_disk_loses_nothing(bench: Bench) -> None:
    """The log is full again and again, the engine waits, is killed, and goes on when there is room."""
    folder, program = bench.fresh()
    for more in range(1, 4):
        pages = (folder / "log.db").stat().st_size // _PAGE + more
        assert attempt(folder, program, FullAt(pages)).startswith("LogFullError")
    assert attempt(folder, program, None) == "finished"
    bench.check(folder, program, [])


@pytest.mark.parametrize("seed", range(12))
def test_a_damaged_log_is_refused_or_makes_no_difference(bench: Bench, seed: int) -> None:
    """The last pages of the log or of its write-ahead log are cut off or overwritten, after a death in the middle."""
    drawn = random.Random(f"{bench.name}{seed}")
    folder, program = bench.fresh()
    attempt(folder, program, AtPoint("after COMMIT", drawn.randrange(5, 40)))
    _damage(folder, drawn)
    end = attempt(folder, program, None)
    if end != "finished":
        assert end.startswith("LogCorruptError")
        assert "backup" in end
        return
    found = outputs(folder, program)
    wrong = [name for name in {*found, *bench.expected} if found.get(name) != bench.expected.get(name)]
    assert not wrong


def _damage(folder: Path, drawn: random.Random) -> None:
    files = [path for path in (folder / "log.db", folder / "log.db-wal") if path.exists() and path.stat().st_size]
    path = drawn.choice(files)
    data = bytearray(path.read_bytes())
    tail = min(len(data), drawn.randrange(1, 4) * _PAGE)
    if drawn.random() < 0.5:
        del data[len(data) - tail :]
    else:
        for _ in range(drawn.randrange(1, 200)):
            data[len(data) - 1 - drawn.randrange(tail)] = drawn.randrange(256)
    path.write_bytes(data)
    (folder / "log.db-shm").unlink(missing_ok=True)


def test_a_log_that_is_no_log_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    path.write_bytes(b"SQLite format 3\0" + bytes(range(256)) * 400)
    with pytest.raises(LogCorruptError) as caught:
        open_log(f"sqlite:///{path}")
    assert caught.value.hint is not None
