"""Posts an event of each type with the client that openapi-python-client makes."""

import os
from datetime import datetime, timezone
from uuid import UUID, uuid4

from rivulet import AuthenticatedClient
from rivulet.api.events import post_events
from rivulet.models import (
    Attributes,
    Batch,
    Device,
    Fate,
    Interaction,
    InteractionAction,
    InteractionEvent,
    InteractionEventType,
    Message,
    MessageEvent,
    MessageEventType,
    MessageRole,
    Platform,
    Problem,
    Receipt,
    Session,
    SessionAction,
    SessionEvent,
    SessionEventType,
    SessionKind,
    Speech,
    SpeechEvent,
    SpeechEventType,
)

URL, KEY, CHILD = os.environ["INGEST_URL"], os.environ["INGEST_KEY"], UUID(os.environ["CHILD"])
NOW = datetime.now(timezone.utc)

attributes = Attributes()
attributes["experiment"], attributes["price"], attributes["trial"] = "b", 0.5, True
batch = Batch(
    sent_at=NOW,
    events=[
        InteractionEvent(
            id=uuid4(),
            type_=InteractionEventType.INTERACTION,
            child_id=CHILD,
            occurred_at=NOW,
            device=Device(platform=Platform.IOS, app_version="4.12.1"),
            attributes=attributes,
            data=Interaction(action=InteractionAction.ANSWER, is_correct=True, confidence=0.25),
        ),
        MessageEvent(
            id=uuid4(),
            type_=MessageEventType.MESSAGE,
            child_id=CHILD,
            occurred_at=NOW,
            data=Message(conversation_id=uuid4(), sequence=1, role=MessageRole.USER),
        ),
        SpeechEvent(
            id=uuid4(),
            type_=SpeechEventType.SPEECH,
            child_id=CHILD,
            occurred_at=NOW,
            data=Speech(audio_session_id=uuid4(), window_ms=30_000, snr_db=12.5),
        ),
        SessionEvent(
            id=uuid4(),
            type_=SessionEventType.SESSION,
            child_id=CHILD,
            occurred_at=NOW,
            session_id=uuid4(),
            data=Session(action=SessionAction.START, kind=SessionKind.LEARNING),
        ),
    ],
)


def wrong() -> None:
    """What is no event does not pass the type check."""
    data = Interaction(action=InteractionAction.ANSWER)
    event = MessageEvent(
        id=uuid4(),
        type_=InteractionEventType.INTERACTION,  # type: ignore[arg-type]
        child_id=CHILD,
        occurred_at=NOW,
        data=data,  # type: ignore[arg-type]
    )
    Batch(events=[event, data])  # type: ignore[list-item]


receipt = post_events.sync(client=AuthenticatedClient(URL, KEY), body=batch)
assert isinstance(receipt, Receipt), receipt
assert [result.outcome for result in receipt.results] == [Fate.ACCEPTED] * 4, receipt

refused = post_events.sync(client=AuthenticatedClient(URL, "wrong"), body=batch)
assert isinstance(refused, Problem), refused
assert refused.code == "unauthorized", refused
