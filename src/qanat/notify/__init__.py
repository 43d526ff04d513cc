"""Carries the rows of streams to the people and programs who act on them: webhook, e-mail, MQTT.

    sinks = open_sinks(project.sinks, streams, log, metrics, base)
    for sink in sinks:
        sink.start()

It decides what is news and when to try; what makes a row is SQL's affair. See docs/design/alerts.md.
"""

from __future__ import annotations

from qanat.notify.thread import SinkThread as SinkThread
from qanat.notify.thread import open_sinks as open_sinks
