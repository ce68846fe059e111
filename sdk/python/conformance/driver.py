"""The driver of the conformance suite: JSON lines in, one line of answer each. Nothing happens by itself:
time is what the suite says."""

from __future__ import annotations

import json
import sys
from typing import Any

from rivulet import Event, InUse, Rivulet, _client, _native


class Clock(_native.Clock):
    wall = monotonic = 0

    def wall_ms(self) -> int:
        return self.wall

    def monotonic_ms(self) -> int:
        return self.monotonic

    def set(self, command: dict[str, Any]) -> None:
        self.wall, self.monotonic = command["wall_ms"], command["monotonic_ms"]


clock = Clock()
client: Rivulet
#: Why the last event was dropped.
dropped = ""


def on_dropped(reason: str, _count: int) -> None:
    global dropped
    dropped = reason


def open_client(command: dict[str, Any]) -> dict[str, Any]:
    global client
    clock.set(command)
    tokens = command["tokens"]
    bounds = {name: command[name] for name in ("max_events", "max_bytes") if name in command}
    settings = _native.Settings(
        url=command["url"], dir=command["dir"], timeout_ms=2000, background=False, **bounds
    )
    observer = _client._Observer(None, on_dropped, None)
    try:
        client = _client._open(
            settings, lambda: tokens.pop(0) if len(tokens) > 1 else tokens[0], observer, clock
        )
    except InUse:
        return {"ok": False, "error": "in_use"}
    return {"ok": True}


def track(command: dict[str, Any]) -> dict[str, Any]:
    event = Event(command["type"], command["data"], command.get("session_id"))
    event_id = client.track(command["child_id"], event)
    return {"id": event_id} if event_id else {"dropped": dropped}


def send() -> dict[str, Any]:
    # Not by `flush`, which waits no more.
    left = client._native.send()
    return {
        "queued": left.queued,
        "wait_ms": left.wait_ms,
        "stopped": None if left.stopped == "refused" else left.stopped,
    }


def report() -> dict[str, Any]:
    stats = client.stats()
    return {
        "queued": stats.queued,
        "accepted": stats.accepted,
        "rejected": stats.rejected,
        "dropped": stats.dropped,
    }


def obey(command: dict[str, Any]) -> dict[str, Any]:
    match command["op"]:
        case "open":
            return open_client(command)
        case "clock":
            clock.set(command)
        case "track":
            return track(command)
        case "send":
            return send()
        case "report":
            return report()
        case "credential":
            client.set_credential(command["token"])
        case "consent":
            client.set_consent(coppa=command.get("coppa"), audio=command.get("audio"))
        case "close":
            return {"ok": client.close(1)}
    return {"ok": True}


_client.log.disabled = True
for line in sys.stdin:
    print(json.dumps(obey(json.loads(line))), flush=True)
