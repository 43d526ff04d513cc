"""Other people's clients: mosquitto_pub, where it is installed (`make services`)."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from qanat.secure.passwords import Cost, hash_password
from qanat.secure.users import User

pytestmark = pytest.mark.skipif(shutil.which("mosquitto_pub") is None, reason="mosquitto_pub is not installed")
USERS = (User("h1", hash_password("secret", Cost.DEVICE)),)


def publish(port: int, *options: str, lines: str = "") -> subprocess.CompletedProcess[str]:
    command = ["mosquitto_pub", "-h", "127.0.0.1", "-p", str(port), "-t", "plain/x", *options]
    return subprocess.run(command, input=lines, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("version", ["mqttv311", "mqttv5"])
def test_mosquitto_pub_sends_lines_with_qos_1(start: Callable[..., Any], version: str) -> None:
    running = start()
    lines = "".join(f'{{"id": "{i}"}}\n' for i in range(500))
    assert publish(running.mqtt, "-V", version, "-q", "1", "-l", lines=lines).returncode == 0
    assert [row["id"] for row in running.log.rows("plain")] == [str(i) for i in range(500)]


@pytest.mark.parametrize("version", ["mqttv311", "mqttv5"])
def test_mosquitto_pub_hears_that_its_password_is_wrong(start: Callable[..., Any], version: str) -> None:
    running = start(users=USERS)
    wrong = publish(running.mqtt, "-V", version, "-q", "1", "-u", "h1", "-P", "wrong", "-m", "{}")
    assert wrong.returncode != 0
    right = publish(running.mqtt, "-V", version, "-q", "1", "-u", "h1", "-P", "secret", "-m", "{}")
    assert (right.returncode, right.stderr) == (0, "")
    assert len(running.log.rows("plain")) == 1


@pytest.mark.parametrize("version", ["mqttv311", "mqttv5"])
def test_mosquitto_pub_with_qos_2(start: Callable[..., Any], version: str) -> None:
    running = start()
    lines = "".join(f'{{"id": "{i}"}}\n' for i in range(500))
    result = publish(running.mqtt, "-V", version, "-q", "2", "-l", lines=lines)
    assert (result.returncode, result.stderr) == (0, "")
    assert [row["id"] for row in running.log.rows("plain")] == [str(i) for i in range(500)]
