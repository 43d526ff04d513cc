"""The peer's consumer: `python -m bench.gateway.consumer PORT DATABASE`. Stands for itself: it uses nothing of qanat.

One thread receives (paho), another writes: all rows that have come meanwhile in one transaction, then their PUBACKs.
"""

from __future__ import annotations

import sqlite3
import sys
import threading

import orjson
import paho.mqtt.client as mqtt

_MOST = 20_000
_TABLE = "CREATE TABLE readings (client_id TEXT, ts INTEGER, consumption REAL)"
_INSERT = "INSERT INTO readings VALUES (?, ?, ?)"


class Consumer:
    """Receives, gathers, stores, acknowledges."""

    def __init__(self, port: int, database: str) -> None:
        self._database = database
        self._waiting: list[mqtt.MQTTMessage] = []
        self._changed = threading.Condition()
        self._client = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2, client_id="consumer", clean_session=True, manual_ack=True
        )
        self._client.max_inflight_messages_set(65_535)
        self._client.on_message = self._on_message
        self._client.on_connect = lambda client, *_: client.subscribe("readings/#", qos=1)
        self._client.on_subscribe = lambda *_: print("subscribed", flush=True)
        threading.Thread(target=self._write, daemon=True).start()
        self._client.connect("127.0.0.1", port)

    def run(self) -> None:
        """For ever."""
        self._client.loop_forever()

    def _on_message(self, _client: mqtt.Client, _data: object, message: mqtt.MQTTMessage) -> None:
        with self._changed:
            self._waiting.append(message)
            if len(self._waiting) == 1:
                self._changed.notify()

    def _write(self) -> None:
        connection = sqlite3.connect(self._database, isolation_level=None)
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "cache_size = -65536"):
            connection.execute(f"PRAGMA {pragma}")
        connection.execute(_TABLE)
        while True:
            with self._changed:
                while not self._waiting:
                    self._changed.wait()
                taken, self._waiting = self._waiting[:_MOST], self._waiting[_MOST:]
            rows = [orjson.loads(message.payload) for message in taken]
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(_INSERT, ((row["client_id"], row["ts"], row["consumption"]) for row in rows))
            connection.execute("COMMIT")
            for message in taken:
                self._client.ack(message.mid, message.qos)


if __name__ == "__main__":
    Consumer(int(sys.argv[1]), sys.argv[2]).run()
