"""The client: the core, in Python's way of speaking."""

from __future__ import annotations

import json
import logging
import os
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol
from uuid import UUID, uuid4

from . import _native
from ._event import Event, Id
from .events import Builders, Platform, SessionKind

log = logging.getLogger("rivulet")

#: An API key; or a function that has the app's backend make a client token, or gives None where there is
#: none now. It is called from the client's own thread: when there is no token, when one is about to end,
#: and once when one is refused.
Credential = str | Callable[[], "str | None"]

#: How long the end of the interpreter waits for a client that was not closed, in ms.
_AT_EXIT_MS = 2_000


class Error(Exception):
    """A client cannot be opened or asked: its store does not work, or it was closed."""


class InUse(Error):
    """Another client has the directory, in this process or another: two would send everything twice."""


@dataclass(frozen=True)
class Rejected:
    """An event that the server refused for good: tell your developers."""

    #: What `track` returned.
    id: str
    #: Of docs/sending-events.md#codes-of-a-rejected-event.
    code: str
    #: JSON pointer to the field, where one is the cause.
    pointer: str | None
    #: For people. It quotes nothing of the event.
    message: str


@dataclass(frozen=True)
class Progress:
    """What a flush left."""

    #: Events that still wait.
    queued: int
    #: How long to wait before the next attempt makes sense, in ms; None where nothing has to be waited for.
    wait_ms: int | None
    #: Why nothing is sent: `unauthorized`, `forbidden`, `disabled` or `refused`.
    stopped: str | None


@dataclass(frozen=True)
class Stats:
    """What became of everything that ever was in the store."""

    #: Events that wait now.
    queued: int
    #: Their JSON, in bytes.
    queued_bytes: int
    #: Events that the server has accepted.
    accepted: int
    #: Events that the server has refused for good, by its code.
    rejected: Mapping[str, int]
    #: Events that were not sent, by reason; `invalid` ones since the client was opened.
    dropped: Mapping[str, int]


class _Running(Protocol):
    def id(self) -> str: ...

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def end(self) -> None: ...


class Rivulet:
    """Sends an app's events. `with` closes it. Any thread may use it; open it after a fork, not before."""

    def __init__(self, native: Any) -> None:
        self._native = native
        self._at_exit = weakref.finalize(self, _native.Client.close, native, _AT_EXIT_MS)

    def child(self, child_id: Id) -> Child:
        """A child, by the UUID that it is registered by. Raises ValueError for what is no UUID."""
        return Child(self, child_id if isinstance(child_id, UUID) else UUID(child_id))

    def track(self, child_id: Id, event: Event) -> str | None:
        """Stores an event of a child, which happened now, and returns its id. It does not wait for the
        network, and never raises: what could not be stored is None, logged, and counted in
        :meth:`stats`."""
        try:
            attributes = None if event.attributes is None else _json(event.attributes)
            session = None if event.session_id is None else str(event.session_id)
            stored: str = self._native.track(
                str(child_id), event.type, _json(event.data), session, attributes
            )
            return stored
        except _native.NotStored as why:
            log.warning("an event was not stored: %s", why)
        except Exception:
            log.exception("an event was not stored")
        return None

    def flush(self) -> Progress:
        """Sends all that may be sent now, and says what is left. Blocks for as long as the network does;
        the client sends by itself too."""
        self._native.flush()
        with _Errors():
            left = self._native.send()
        return Progress(left.queued, left.wait_ms, left.stopped)

    def stats(self) -> Stats:
        """What waits, and what became of the rest since the store was made."""
        with _Errors():
            stats = self._native.stats()
        return Stats(stats.queued, stats.queued_bytes, stats.accepted, stats.rejected, stats.dropped)

    def set_consent(self, *, coppa: bool | None = None, audio: bool | None = None) -> None:
        """What the family consents to; None leaves it as it is. Without `coppa` what waits is purged and
        nothing more is taken, without `audio` no speech."""
        self._native.set_consent(coppa, audio)

    def set_credential(self, credential: Credential) -> None:
        """A new credential, which is tried at once."""
        self._native.set_credential(_credential(credential))

    def background(self) -> None:
        """Nobody looks at the app any more: sessions pause, and what waits is sent."""
        self._native.background()

    def foreground(self) -> None:
        """Somebody looks at the app again: sessions go on."""
        self._native.foreground()

    def close(self, within: float = 5.0) -> bool:
        """Ends sessions, sends what waits for at most `within` seconds, and stops. What is left is sent
        after the next start. Returns whether the store is free for another client. A second time it does
        nothing."""
        self._at_exit.detach()
        closed: bool = self._native.close(int(within * 1000))
        return closed

    def __enter__(self) -> Rivulet:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _begin(self, child_id: UUID, kind: SessionKind | None) -> _Running:
        try:
            native = None if kind is None else _native.SessionKind[kind.upper()]
            running: _Running = self._native.session(str(child_id), native)
            return running
        except Exception:
            log.exception("a session was not begun")
            return _NoSession()


class Child(Builders["str | None"]):
    """A child: a method for each kind of event, which stores it and returns its id, or None where it
    could not be stored."""

    def __init__(self, rivulet: Rivulet, child_id: UUID) -> None:
        self._rivulet = rivulet
        #: The UUID that it is registered by.
        self.id = child_id

    def track(self, event: Event) -> str | None:
        """Stores an event that :data:`rivulet.event` made."""
        return self._rivulet.track(self.id, event)

    def session(self, kind: SessionKind | None = None) -> Session:
        """Begins a session; `with` ends it."""
        return Session(self, self._rivulet._begin(self.id, kind))


class Session(Builders["str | None"]):
    """A session: a child's methods, for events that belong to it. Its heartbeats and its active time are
    sent by themselves."""

    def __init__(self, child: Child, running: _Running) -> None:
        self._child = child
        self._running = running
        #: A UUID.
        self.id = running.id()

    def track(self, event: Event) -> str | None:
        """Stores an event that :data:`rivulet.event` made, as one of this session."""
        return self._child.track(Event(event.type, event.data, self.id, event.attributes))

    def pause(self) -> None:
        """The child has stopped for now."""
        self._running.pause()

    def resume(self) -> None:
        """The child goes on."""
        self._running.resume()

    def end(self) -> None:
        """It is over. A second time it does nothing."""
        self._running.end()

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()


def open(
    *,
    url: str,
    credential: Credential,
    dir: str | os.PathLike[str],
    device_id: str | None = None,
    platform: Platform | None = None,
    app_version: str | None = None,
    max_events: int = 10_000,
    max_bytes: int = 10_000_000,
    flush_interval: int = 30,
    timeout: float = 30.0,
    on_rejected: Callable[[Rejected], None] | None = None,
    on_dropped: Callable[[str, int], None] | None = None,
    on_stopped: Callable[[str, str], None] | None = None,
) -> Rivulet:
    """Opens the store in `dir`, or makes it, and begins to send what is in it.

    Raises :class:`InUse` where another client has it, :class:`Error` where it cannot be opened, and
    ValueError where a setting is out of its range. The callbacks come from the client's own thread or
    from the one that calls it: they must not block, and must not call the client.

    url: Where the server is, without a path: `https://events.example`.
    credential: An API key, or a function that gives client tokens.
    dir: A directory that belongs to this client alone.
    device_id: The app's own id of the device, at most 64 characters.
    platform: What the device runs.
    app_version: At most 32 characters.
    max_events: Events that wait at most, 1 to 1 000 000: beyond it the oldest are dropped.
    max_bytes: Bytes of JSON that wait at most, 100 000 to 1 000 000 000.
    flush_interval: For how many seconds events are gathered until the server has said otherwise, 1 to
        3 600.
    timeout: How many seconds a request may take.
    on_rejected: The server refused an event for good.
    on_dropped: So many events are gone that the server never had: `overflow`, `expired`, `consent`,
        `too_large`, `disk`, `damaged` or `invalid`.
    on_stopped: Nothing is sent from now on: `unauthorized`, `forbidden`, `disabled` or `refused`, and the
        same in words.
    """
    settings = _native.Settings(
        url=url,
        dir=os.fspath(dir),
        device_id=device_id,
        platform=None if platform is None else _native.Platform[platform.upper()],
        app_version=app_version,
        max_events=max_events,
        max_bytes=max_bytes,
        flush_interval_s=flush_interval,
        timeout_ms=int(timeout * 1000),
    )
    return _open(settings, credential, _Observer(on_rejected, on_dropped, on_stopped))


def _open(
    settings: Any, credential: Credential, observer: _Observer, clock: _native.Clock | None = None
) -> Rivulet:
    with _Errors():
        return Rivulet(_native.Client.open(settings, _credential(credential), None, observer, clock))


class _Errors:
    """The core's errors as Python's."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        # UniFFI adds an error's kinds to it where no type checker sees them.
        kinds: Any = _native.RivuletError
        if isinstance(error, kinds.InUse):
            raise InUse(str(error)) from None
        if isinstance(error, kinds.Config):
            raise ValueError(str(error)) from None
        if isinstance(error, kinds):
            raise Error(str(error)) from None


class _Observer(_native.Observer):
    def __init__(
        self,
        on_rejected: Callable[[Rejected], None] | None,
        on_dropped: Callable[[str, int], None] | None,
        on_stopped: Callable[[str, str], None] | None,
    ) -> None:
        self._on_rejected = on_rejected
        self._on_dropped = on_dropped
        self._on_stopped = on_stopped

    def rejected(self, rejected: Any) -> None:
        event = Rejected(rejected.id, rejected.code, rejected.pointer, rejected.message)
        log.warning("the server refused %s: %s %s", event.id, event.code, event.pointer or "")
        _tell(self._on_rejected, event)

    def dropped(self, reason: str, count: int) -> None:
        log.warning("%d events were dropped: %s", count, reason)
        _tell(self._on_dropped, reason, count)

    def stopped(self, reason: str, message: str) -> None:
        log.warning("nothing is sent: %s", message)
        _tell(self._on_stopped, reason, message)

    def debug(self, line: str) -> None:
        log.debug("%s", line)


class _Source(_native.TokenSource):
    def __init__(self, ask: Callable[[], str | None]) -> None:
        self._ask = ask

    def token(self) -> str | None:
        try:
            return self._ask()
        except Exception:
            log.exception("there is no token")
            return None


class _NoSession:
    """Of a client that was closed."""

    def __init__(self) -> None:
        self._id = str(uuid4())

    def id(self) -> str:
        return self._id

    def pause(self) -> None:
        pass

    resume = end = pause


def _json(fields: Mapping[str, object]) -> str:
    # Half of a surrogate pair is no text, and no reason to lose an event.
    return json.dumps(dict(fields), ensure_ascii=False).encode("utf-8", "replace").decode()


def _tell(callback: Callable[..., None] | None, *what: object) -> None:
    try:
        if callback:
            callback(*what)
    except Exception:
        log.exception("a callback raised")


def _credential(credential: Credential) -> Any:
    if isinstance(credential, str):
        return _native.Credential.KEY(credential)
    return _native.Credential.TOKEN(_Source(credential))
