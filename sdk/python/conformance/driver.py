"""The driver of the conformance suite: JSON lines in, one line of answer each. Nothing happens by itself: time is what the suite says."""

from __future__ import annotations

import json
import sys
from typing import Any

from rivulet import _native


class Clock(_native.Clock):
    wall = monotonic = 0

    def wall_ms(self) -> int:
        return self.wall

    def monotonic_ms(self) -> int:
        return self.monotonic


class Tokens(_native.TokenSource):
    def __init__(self, tokens: list[str]) -> None:
        self._tokens = tokens

    def token(self) -> str | None:
        return self._tokens.pop(0) if len(self._tokens) > 1 else self._tokens[0]


clock = Clock()
client: Any = None

DROPPED = {
    _native.NotStored.Consent: "consent",
    _native.NotStored.TooLarge: "too_large",
    _native.NotStored.Disk: "disk",
    _native.NotStored.Closed: "closed",
    _native.NotStored.Invalid: "invalid",
}


def set_clock(command: dict[str, Any]) -> None:
    clock.wall, clock.monotonic = command["wall_ms"], command["monotonic_ms"]


def obey(command: dict[str, Any]) -> dict[str, Any]:
    global client
    match command["op"]:
        case "open":
            set_clock(command)
            bounds = {name: command[name] for name in ("max_events", "max_bytes") if name in command}
            settings = _native.Settings(
                url=command["url"], dir=command["dir"], timeout_ms=2000, background=False, **bounds
            )
            tokens = _native.Credential.TOKEN(Tokens(command["tokens"]))
            try:
                client = _native.Client.open(settings, tokens, None, None, clock)
            except _native.RivuletError.InUse:
                return {"ok": False, "error": "in_use"}
        case "clock":
            set_clock(command)
        case "track":
            data = json.dumps(command["data"])
            try:
                return {
                    "id": client.track(command["child_id"], command["type"], data, command.get("session_id"), None)
                }
            except _native.NotStored as why:
                return {"dropped": DROPPED[type(why)]}
        case "send":
            left = client.send()
            stopped = None if left.stopped == "refused" else left.stopped
            return {"queued": left.queued, "wait_ms": left.wait_ms, "stopped": stopped}
        case "report":
            stats = client.stats()
            return {
                "queued": stats.queued,
                "accepted": stats.accepted,
                "rejected": stats.rejected,
                "dropped": stats.dropped,
            }
        case "credential":
            client.set_credential(_native.Credential.KEY(command["token"]))
        case "consent":
            client.set_consent(command.get("coppa"), command.get("audio"))
        case "close":
            return {"ok": client.close(1000)}
    return {"ok": True}


for line in sys.stdin:
    print(json.dumps(obey(json.loads(line))), flush=True)
