"""A server on loopback that answers what a test has written down, and else accepts everything."""

from __future__ import annotations

import gzip
import json
import threading
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

CONFIG = {
    "enabled": True,
    "max_events": 1000,
    "max_event_bytes": 65536,
    "flush_interval_s": 30,
    "consents": None,
}


class Server:
    """`script` has a status, headers and a function of the events for each answer to come."""

    def __init__(self) -> None:
        self.script: list[tuple[int, dict[str, str], Any]] = []
        self.config: dict[str, Any] = dict(CONFIG)
        self.events: list[dict[str, Any]] = []
        self.bodies: list[dict[str, Any]] = []
        self.tokens: list[str] = []
        self.posted = threading.Condition()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._answer(200, {}, server.config)

            def do_POST(self) -> None:
                body = json.loads(gzip.decompress(self.rfile.read(int(self.headers["Content-Length"]))))
                events = body["events"]
                with server.posted:
                    server.tokens.append(self.headers["Authorization"])
                    server.bodies.append(body)
                    status, headers, results = (
                        server.script.pop(0) if server.script else (200, {}, accepted)
                    )
                    if status == 200:
                        server.events += events
                    server.posted.notify_all()
                now = datetime.now(timezone.utc).isoformat()
                self._answer(status, headers, {"received_at": now, "results": results(events)})

            def _answer(self, status: int, headers: dict[str, str], body: object) -> None:
                text = json.dumps(body).encode()
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(text))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def wait_for(self, events: int) -> None:
        """Until so many came; a test that waits in vain is ended from outside."""
        with self.posted:
            self.posted.wait_for(lambda: len(self.events) >= events)


def accepted(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"index": at, "id": event["id"], "outcome": "accepted"} for at, event in enumerate(events)]


def rejected(code: str, pointer: str) -> Any:
    def results(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
        fields = {"outcome": "rejected", "code": code, "pointer": pointer, "message": "wrong"}
        return [{"index": at, "id": event["id"], **fields} for at, event in enumerate(events)]

    return results


def nothing(_: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return []
