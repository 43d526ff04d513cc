"""Apache Cassandra on this machine: one node, started from its jars, on free loopback ports, all of it in one folder.

    with CassandraNode(empty_folder("cassandra-node")) as node:
        store = open_store(f"cassandra://127.0.0.1:{node.port}/hot")

For the bench and for tests: a small heap, no authentication, nothing that a cluster needs.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType

from bench.install import cassandra_home
from bench.process import stop, tail

_PATIENCE_S = 120

#: What Cassandra's own start script opens for Java 17.
_EXPORTS = (
    *(
        f"java.base/{name}"
        for name in ("java.lang.ref", "java.lang.reflect", "jdk.internal.misc", "jdk.internal.perf", "jdk.internal.ref")
    ),
    *(f"java.base/{name}" for name in ("jdk.internal.util", "sun.nio.ch", "sun.security.util")),
    *(f"java.rmi/sun.rmi.{name}" for name in ("registry", "server", "transport", "transport.tcp")),
    "java.logging/java.util.logging",
    "java.management/com.sun.jmx.remote.security",
    "java.management.rmi/com.sun.jmx.remote.internal.rmi",
    "java.sql/java.sql",
    "jdk.attach/sun.tools.attach",
    *(f"jdk.compiler/com.sun.tools.javac.{name}" for name in ("api", "file")),
)
_OPENS = (
    *(f"java.{name}" for name in ("io", "lang", "lang.module", "lang.reflect", "math", "net", "nio", "util")),
    *(f"java.util.concurrent{name}" for name in ("", ".atomic")),
    *(f"jdk.internal.{name}" for name in ("loader", "math", "module", "ref", "reflect", "util.jar")),
    "sun.nio.ch",
)
_LOGGING = """\
<configuration>
  <appender name="out" class="ch.qos.logback.core.ConsoleAppender">
    <encoder><pattern>%d{HH:mm:ss,SSS} %-5level %logger{30} %msg%n</pattern></encoder>
  </appender>
  <root level="WARN"><appender-ref ref="out"/></root>
</configuration>
"""


class CassandraError(Exception):
    """The node did not start."""


class CassandraNode:
    """Starts on entry, stops on exit; `kill` ends it as a crash would, `start` brings it back with the same data.

    `sync` "batch": what was acknowledged survives that; "periodic", Cassandra's default, may lose the last second.
    """

    def __init__(self, folder: Path, heap: str = "512m", *, sync: str = "periodic") -> None:
        self._folder = folder.absolute()
        self._heap, self._sync = heap, sync
        self._process: subprocess.Popen[bytes] | None = None
        self._storage = 0
        self.port = 0

    def __enter__(self) -> CassandraNode:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The Java process."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start and wait until clients are served. The ports stay the same when it starts again."""
        home = cassandra_home()
        if not self.port:
            self.port, self._storage = _free_ports(2)
        self._write_settings()
        log = self._folder / "cassandra.log"
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                self._command(home),
                stdout=out,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                cwd=self._folder,
            )
        end = time.monotonic() + _PATIENCE_S
        while not _answers(self.port):
            if self._process.poll() is not None or time.monotonic() > end:
                self.stop()
                raise CassandraError(f"Cassandra did not start\n{tail(log)}")
            time.sleep(0.1)

    def stop(self) -> None:
        """End it; safe to call again."""
        if self._process is not None:
            stop(self._process, patience=30)
            self._process = None

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _command(self, home: Path) -> list[str]:
        settings = (self._folder / "cassandra.yaml").as_uri()
        properties = {
            "cassandra.config": settings,
            "cassandra.storagedir": str(self._folder / "data"),
            "cassandra-foreground": "yes",
            "cassandra.skip_wait_for_gossip_to_settle": "0",
            "cassandra.ring_delay_ms": "100",
            "jdk.attach.allowAttachSelf": "true",
            "logback.configurationFile": str(self._folder / "logback.xml"),
            "java.io.tmpdir": str(self._folder),
        }
        return [
            "java",
            f"-Xmx{self._heap}",
            "-Xss512k",
            "-XX:+UseSerialGC",
            *(f"--add-exports={name}=ALL-UNNAMED" for name in _EXPORTS),
            *(f"--add-opens=java.base/{name}=ALL-UNNAMED" for name in _OPENS),
            "--add-opens=jdk.management/com.sun.management.internal=ALL-UNNAMED",
            *(f"-D{key}={value}" for key, value in properties.items()),
            "-cp",
            f"{home / 'lib'}/*",
            "org.apache.cassandra.service.CassandraDaemon",
        ]

    def _write_settings(self) -> None:
        data = self._folder / "data"
        data.mkdir(parents=True, exist_ok=True)
        seeds = [{"seeds": f"127.0.0.1:{self._storage}"}]
        settings = {
            "cluster_name": "qanat",
            "num_tokens": 1,
            "partitioner": "org.apache.cassandra.dht.Murmur3Partitioner",
            "endpoint_snitch": "SimpleSnitch",
            "seed_provider": [{"class_name": "org.apache.cassandra.locator.SimpleSeedProvider", "parameters": seeds}],
            "listen_address": "127.0.0.1",
            "storage_port": self._storage,
            "rpc_address": "127.0.0.1",
            "native_transport_port": self.port,
            "commitlog_sync": self._sync,
            **({"commitlog_sync_period": "1000ms"} if self._sync == "periodic" else {}),
            "memtable_heap_space": "64MiB",
            "memtable_offheap_space": "64MiB",
            "key_cache_size": "8MiB",
            "file_cache_size": "32MiB",
            "data_file_directories": [str(data / "data")],
            **{f"{what}_directory": str(data / what) for what in ("commitlog", "saved_caches", "hints", "cdc_raw")},
        }
        (self._folder / "cassandra.yaml").write_text(json.dumps(settings, indent=1))  # JSON is YAML
        (self._folder / "logback.xml").write_text(_LOGGING)


def _answers(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for sock in sockets:
        sock.bind(("127.0.0.1", 0))
    ports = [sock.getsockname()[1] for sock in sockets]
    for sock in sockets:
        sock.close()
    return ports
