"""A Flink session cluster on this machine: one job manager, one task manager, one SQL Gateway, on free loopback ports.

    with FlinkCluster(empty_folder("cluster")) as flink:
        times = flink.run_sql(script, {"INPUT": ..., "OUTPUT": ...})

For the bench, and as an oracle for tests: with `auto_watermark="0 ms"` and `parallelism=1` Flink judges late rows one
by one. Jobs are bounded: `run_sql` returns when all jobs of the script are FINISHED, and raises FlinkError when one is
not. Not for unbounded jobs, not for reading rows of a SELECT: write them to a filesystem sink.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from bench.install import flink_home
from bench.process import stop, tail

#: What Flink's own configuration opens for Java 17.
_JAVA_OPTIONS = [
    *(
        f"--add-exports={name}=ALL-UNNAMED"
        for name in (
            "java.rmi/sun.rmi.registry",
            "java.security.jgss/sun.security.krb5",
            *(f"jdk.compiler/com.sun.tools.javac.{part}" for part in ("api", "file", "parser", "tree", "util")),
        )
    ),
    *(
        f"--add-opens=java.base/{name}=ALL-UNNAMED"
        for name in (
            *(
                f"java.{part}"
                for part in ("io", "lang", "lang.invoke", "lang.reflect", "net", "nio", "text", "time", "util")
            ),
            *(f"java.util.concurrent{part}" for part in ("", ".atomic", ".locks")),
            "sun.net.util",
            "sun.nio.ch",
        )
    ),
]

_LOGGING = """\
rootLogger.level = WARN
rootLogger.appenderRef.out.ref = out
appender.out.name = out
appender.out.type = CONSOLE
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{HH:mm:ss,SSS} %-5p %c - %m%n
"""

_PATIENCE_S = 90


class FlinkError(Exception):
    """The cluster did not start, or refused or failed a statement."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a cluster is started with. Memory is that of the whole process, as Flink counts it.

    `auto_watermark` None leaves Flink's default (200 ms). `options` override anything.
    """

    slots: int = 2
    parallelism: int = 2
    task_manager_memory: str = "2048m"
    job_manager_memory: str = "1024m"
    checkpoint_interval: str = "10 s"
    auto_watermark: str | None = None
    options: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class JobTimes:
    """When the jobs of one script ran, in epoch seconds.

    `sources_running_at`: when the last source task of the first job had started up and could read its first row.
    `finished_at`: when the last job was FINISHED, its output committed by its last checkpoint.
    """

    jobs: tuple[str, ...]
    submitted_at: float
    sources_running_at: float
    finished_at: float


class FlinkCluster:
    """Starts on entry, stops on exit: three Java processes, each the leader of its own session."""

    def __init__(self, folder: Path, settings: Settings | None = None) -> None:
        self._folder = folder.absolute()
        self._settings = settings or Settings()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._rest = self._gateway = ""

    def __enter__(self) -> FlinkCluster:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def engine_pids(self) -> tuple[int, int]:
        """Job manager and task manager: what runs the work. The gateway only submits it."""
        return self._processes["jobmanager"].pid, self._processes["taskmanager"].pid

    @property
    def rest(self) -> str:
        """URL of the job manager."""
        return self._rest

    @property
    def gateway(self) -> str:
        """URL of the SQL Gateway."""
        return self._gateway

    def start(self) -> None:
        """Start everything and wait until the slots are there and the gateway answers."""
        home = flink_home()
        rest, rpc, gateway = _free_ports(3)
        self._rest, self._gateway = f"http://127.0.0.1:{rest}", f"http://127.0.0.1:{gateway}"
        self._write_configuration(rest, rpc, gateway)
        try:
            self._start_processes(home)
            self._await("task manager's slots", lambda: self._overview()["slots-total"] >= self._settings.slots)
            self._await("SQL Gateway", lambda: bool(_call("GET", f"{self._gateway}/v1/info")))
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End all three processes; safe to call again."""
        for process in reversed(self._processes.values()):
            stop(process)
        self._processes.clear()

    def run_sql(
        self, script: str, params: Mapping[str, str] | None = None, options: Mapping[str, str] | None = None
    ) -> JobTimes:
        """Run the statements of a script one after the other, each job to its end. `${NAME}` is replaced from `params`,
        `options` hold for this script only."""
        for name, value in (params or {}).items():
            script = script.replace("${" + name + "}", value)
        submitted_at = time.time()
        session = _call("POST", f"{self._gateway}/v1/sessions", {"properties": dict(options or {})})["sessionHandle"]
        jobs = []
        try:
            for statement in split_statements(script):
                job = self._execute(session, statement)
                if job is not None:
                    self._await_finished(job)
                    jobs.append(job)
        finally:
            _call("DELETE", f"{self._gateway}/v1/sessions/{session}")
        if not jobs:
            raise FlinkError("the script has no INSERT: nothing ran")
        details = [_call("GET", f"{self._rest}/jobs/{job}") for job in jobs]
        finished = max(detail["timestamps"]["FINISHED"] for detail in details)
        return JobTimes(tuple(jobs), submitted_at, self._sources_running(details[0]), finished / 1_000)

    # --- processes ---------------------------------------------------------------------------------------------------

    def _write_configuration(self, rest: int, rpc: int, gateway: int) -> None:
        wanted = self._settings
        loopback = "127.0.0.1"
        values = {
            "jobmanager.rpc.address": loopback,
            "jobmanager.bind-host": loopback,
            "jobmanager.rpc.port": str(rpc),
            "jobmanager.memory.process.size": wanted.job_manager_memory,
            "taskmanager.host": loopback,
            "taskmanager.bind-host": loopback,
            "taskmanager.memory.process.size": wanted.task_manager_memory,
            "taskmanager.numberOfTaskSlots": str(wanted.slots),
            "rest.address": loopback,
            "rest.bind-address": loopback,
            "rest.port": str(rest),
            "sql-gateway.endpoint.rest.address": loopback,
            "sql-gateway.endpoint.rest.bind-address": loopback,
            "sql-gateway.endpoint.rest.port": str(gateway),
            "execution.target": "remote",
            "execution.checkpointing.interval": wanted.checkpoint_interval,
            "execution.checkpointing.dir": (self._folder / "checkpoints").as_uri(),
            "parallelism.default": str(wanted.parallelism),
            "pipeline.object-reuse": "true",
            "table.local-time-zone": "UTC",
            "io.tmp.dirs": str(self._folder / "tmp"),
        }
        if wanted.auto_watermark is not None:
            values["pipeline.auto-watermark-interval"] = wanted.auto_watermark
        conf = self._folder / "conf"
        conf.mkdir(parents=True, exist_ok=True)
        (self._folder / "tmp").mkdir(exist_ok=True)
        lines = [f"{key}: {json.dumps(value)}\n" for key, value in (values | dict(wanted.options or {})).items()]
        (conf / "config.yaml").write_text("".join(lines))
        (conf / "log4j.properties").write_text(_LOGGING)

    def _start_processes(self, home: Path) -> None:
        conf = ["--configDir", str(self._folder / "conf")]
        heap, extra = self._memory(home, "GET_JM_RESOURCE_PARAMS")
        entry = "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint"
        self._spawn("jobmanager", _class_path(home), [*heap], entry, [*conf, *extra])
        heap, extra = self._memory(home, "GET_TM_RESOURCE_PARAMS")
        entry = "org.apache.flink.runtime.taskexecutor.TaskManagerRunner"
        self._spawn("taskmanager", _class_path(home), ["-XX:+UseG1GC", *heap], entry, [*conf, *extra])
        entry = "org.apache.flink.table.gateway.SqlGateway"
        self._spawn("gateway", _class_path(home, "gateway/*.jar", "opt/flink-python-*.jar"), ["-Xmx512m"], entry, [])

    def _memory(self, home: Path, which: str) -> tuple[list[str], list[str]]:
        """Java options and settings for the process sizes, computed by the helper that Flink's start scripts call."""
        helper = "org.apache.flink.runtime.util.bash.BashJavaUtils"
        command = [
            "java",
            "-cp",
            _class_path(home, "bin/*.jar"),
            helper,
            which,
            "--configDir",
            str(self._folder / "conf"),
        ]
        said = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        found = re.findall(r"^BASH_JAVA_UTILS_EXEC_RESULT:(.*)$", said.stdout, re.MULTILINE)
        if len(found) != 2:
            raise FlinkError(f"Flink could not work out its memory\n{said.stdout}{said.stderr}")
        return found[0].split(), found[1].split()

    def _spawn(self, name: str, class_path: str, options: list[str], entry: str, arguments: list[str]) -> None:
        logging = (self._folder / "conf" / "log4j.properties").as_uri()
        system = {
            "log4j.configurationFile": logging,
            "java.io.tmpdir": str(self._folder / "tmp"),
            "user.timezone": "UTC",
        }
        properties = [f"-D{key}={value}" for key, value in system.items()]
        with (self._folder / f"{name}.log").open("wb") as log:
            self._processes[name] = subprocess.Popen(
                ["java", *_JAVA_OPTIONS, *properties, *options, "-cp", class_path, entry, *arguments],
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env={**os.environ, "FLINK_CONF_DIR": str(self._folder / "conf")},
                start_new_session=True,
            )

    def _await(self, what: str, ready: Callable[[], bool]) -> None:
        end = time.monotonic() + _PATIENCE_S
        while time.monotonic() < end:
            for name, process in self._processes.items():
                if process.poll() is not None:
                    raise FlinkError(
                        f"Flink's {name} ended with {process.returncode}\n{tail(self._folder / f'{name}.log')}"
                    )
            try:
                if ready():
                    return
            except (OSError, FlinkError):
                pass  # not listening yet
            time.sleep(0.1)
        raise FlinkError(f"no {what} after {_PATIENCE_S} s\n{tail(self._folder / 'jobmanager.log')}")

    def _overview(self) -> dict[str, Any]:
        return _call("GET", f"{self._rest}/overview")

    # --- statements and jobs -----------------------------------------------------------------------------------------

    def _execute(self, session: str, statement: str) -> str | None:
        """Run one statement; the id of its job where it has one."""
        base = f"{self._gateway}/v1/sessions/{session}"
        operation = _call("POST", f"{base}/statements", {"statement": statement})["operationHandle"]
        while True:
            result = _call("GET", f"{base}/operations/{operation}/result/0")
            if result["resultType"] != "NOT_READY":
                return result.get("jobID")
            time.sleep(0.02)

    def _await_finished(self, job: str) -> None:
        while (state := _call("GET", f"{self._rest}/jobs/{job}")["state"]) != "FINISHED":
            if state in ("FAILED", "CANCELED", "SUSPENDED") or self._processes["taskmanager"].poll() is not None:
                raise FlinkError(f"job {state}: {self._root_cause(job)}")
            time.sleep(0.1)

    def _root_cause(self, job: str) -> str:
        history = _call("GET", f"{self._rest}/jobs/{job}/exceptions").get("exceptionHistory", {}).get("entries", [])
        return root_message(history[0]["stacktrace"]) if history else "no cause given"

    def _sources_running(self, details: dict[str, Any]) -> float:
        running = [
            subtask["timestamps"]["RUNNING"]
            for vertex in details["vertices"]
            if vertex["name"].startswith("Source")
            for subtask in _call("GET", f"{self._rest}/jobs/{details['jid']}/vertices/{vertex['id']}/subtasktimes")[
                "subtasks"
            ]
        ]
        return float(max(running, default=details["timestamps"]["RUNNING"])) / 1_000


def split_statements(script: str) -> Iterator[str]:
    """The statements of a SQL script without comments. EXECUTE STATEMENT SET BEGIN ... END is one statement."""
    token = re.compile(r"--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'|`(?:[^`]|``)*`|\w+|;|\s+|.", re.DOTALL)
    text = ""
    words: list[str] = []  # since the last semicolon
    in_set = False
    for part in token.findall(script):
        if part.startswith(("--", "/*")):
            text += " "
        elif part == ";":
            in_set = (in_set or words[:4] == ["EXECUTE", "STATEMENT", "SET", "BEGIN"]) and words != ["END"]
            words = []
            if in_set:
                text += part
                continue
            if text.strip():
                yield text.strip()
            text = ""
        else:
            text += part
            if part[0].isalnum():
                words.append(part.upper())
    if text.strip():
        yield text.strip()


def _class_path(home: Path, *more: str) -> str:
    jars = [path for pattern in ("lib/*.jar", *more) for path in sorted(home.glob(pattern))]
    return os.pathsep.join(map(str, jars))


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [bound.getsockname()[1] for bound in sockets]
    for bound in sockets:
        bound.close()
    return ports


def _call(method: str, url: str, body: object = None) -> dict[str, Any]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return dict(json.load(answer))
    except urllib.error.HTTPError as error:
        raise FlinkError(root_message(error.read().decode(errors="replace"))) from error


def root_message(text: str) -> str:
    """The innermost message of a Java stack trace, which Flink hands out as one long string."""
    text = text.replace("\\n", "\n").replace("\\t", "\t")
    causes = re.findall(r"^Caused by: (.*)$", text, re.MULTILINE)
    return causes[-1] if causes else text[:2_000]
