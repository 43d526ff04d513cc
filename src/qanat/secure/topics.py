"""MQTT topic filters (`+`, `#`): which topics they match, and whether one lets through all that another asks for.

Pure. Rules of MQTT 5, chapter 4.7: a level is what stands between two `/`; `+` is one whole level, `#` stands last and
is the level before it as well; a wildcard in the first level matches no topic that begins with `$`.
"""

from __future__ import annotations


def matches(granted: str, topic: str) -> bool:
    """Whether the topic, which has no wildcards, is one of those that the filter names."""
    if "+" not in granted and "#" not in granted:
        return granted == topic
    return covers(granted, topic)


def covers(granted: str, wanted: str) -> bool:
    """Whether every topic that the filter (or topic) `wanted` names is named by the filter `granted`, too."""
    if wanted[:1] == "$" and granted[:1] in ("+", "#"):
        return False
    allowed, asked = granted.split("/"), wanted.split("/")
    for number, level in enumerate(allowed):
        if level == "#":
            return True
        if number == len(asked):
            return False
        if asked[number] == "#" or (level != "+" and level != asked[number]):
            return False
    return len(asked) == len(allowed)
