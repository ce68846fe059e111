# Written from the declarations in events/: RIVULET_UPDATE_DOCS=1 cargo test -p rivulet-builders
"""What an app can tell: a method for each kind of event."""

from __future__ import annotations

import abc
from typing import Generic, Literal, TypeVar

from ._event import Attributes, Event, Id

Tracked = TypeVar("Tracked", covariant=True)

#: Who spoke.
Role = Literal["user", "assistant", "system"]

#: What the session was for.
SessionKind = Literal["learning", "play", "story", "quiz", "review", "other"]

#: The platform.
Platform = Literal["ios", "android", "web", "other"]


class Builders(abc.ABC, Generic[Tracked]):
    """A method for each kind of event, which makes one and gives it to `track`.

    Each also takes `session_id`, the session that it belongs to, and `attributes`, for analysts: at most
    16, which are strings of at most 256 characters, numbers or booleans.
    """

    @abc.abstractmethod
    def track(self, event: Event) -> Tracked:
        """Takes an event that was made."""

    def start(
        self,
        *,
        activity_id: Id | None = None,
        subject: str | None = None,
        topic: str | None = None,
        response_time_ms: int | None = None,
        duration_ms: int | None = None,
        confidence: float | None = None,
        difficulty: int | None = None,
        rating: int | None = None,
        xp: int | None = None,
        stars: int | None = None,
        badge: str | None = None,
        session_id: Id | None = None,
        attributes: Attributes | None = None,
    ) -> Tracked:
        """What a child did with an activity. This is `action` `start`.

        activity_id: The activity. A UUID.
        subject: School subject. At most 100 characters.
        topic: Topic. At most 100 characters.
        response_time_ms: Time to respond, in milliseconds. 0 to 3 600 000.
        duration_ms: Time on task, in milliseconds. 0 to 14 400 000.
        confidence: How sure the child was. 0 to 1.
        difficulty: How difficult the activity was, 1 being the easiest. 1 to 5.
        rating: How the child liked it, 5 being the best. 1 to 5.
        xp: Points won. 0 to 10 000.
        stars: Stars won. 0 to 10 000.
        badge: Badge won. At most 100 characters.
        """
        data = {
            "action": "start",
            "activity_id": activity_id,
            "subject": subject,
            "topic": topic,
            "response_time_ms": response_time_ms,
            "duration_ms": duration_ms,
            "confidence": confidence,
            "difficulty": difficulty,
            "rating": rating,
            "xp": xp,
            "stars": stars,
            "badge": badge,
        }
        return self.track(Event("interaction", data, session_id, attributes))

    def answer(
        self,
        *,
        correct: bool,
        activity_id: Id | None = None,
        subject: str | None = None,
        topic: str | None = None,
        response_time_ms: int | None = None,
        duration_ms: int | None = None,
        confidence: float | None = None,
        difficulty: int | None = None,
        rating: int | None = None,
        xp: int | None = None,
        stars: int | None = None,
        badge: str | None = None,
        session_id: Id | None = None,
        attributes: Attributes | None = None,
    ) -> Tracked:
        """What a child did with an activity. This is `action` `answer`.

        correct: Whether an answer was right.
        activity_id: The activity. A UUID.
        subject: School subject. At most 100 characters.
        topic: Topic. At most 100 characters.
        response_time_ms: Time to respond, in milliseconds. 0 to 3 600 000.
        duration_ms: Time on task, in milliseconds. 0 to 14 400 000.
        confidence: How sure the child was. 0 to 1.
        difficulty: How difficult the activity was, 1 being the easiest. 1 to 5.
        rating: How the child liked it, 5 being the best. 1 to 5.
        xp: Points won. 0 to 10 000.
        stars: Stars won. 0 to 10 000.
        badge: Badge won. At most 100 characters.
        """
        data = {
            "action": "answer",
            "is_correct": correct,
            "activity_id": activity_id,
            "subject": subject,
            "topic": topic,
            "response_time_ms": response_time_ms,
            "duration_ms": duration_ms,
            "confidence": confidence,
            "difficulty": difficulty,
            "rating": rating,
            "xp": xp,
            "stars": stars,
            "badge": badge,
        }
        return self.track(Event("interaction", data, session_id, attributes))

    def hint(
        self,
        *,
        activity_id: Id | None = None,
        subject: str | None = None,
        topic: str | None = None,
        response_time_ms: int | None = None,
        duration_ms: int | None = None,
        confidence: float | None = None,
        difficulty: int | None = None,
        rating: int | None = None,
        xp: int | None = None,
        stars: int | None = None,
        badge: str | None = None,
        session_id: Id | None = None,
        attributes: Attributes | None = None,
    ) -> Tracked:
        """What a child did with an activity. This is `action` `hint`.

        activity_id: The activity. A UUID.
        subject: School subject. At most 100 characters.
        topic: Topic. At most 100 characters.
        response_time_ms: Time to respond, in milliseconds. 0 to 3 600 000.
        duration_ms: Time on task, in milliseconds. 0 to 14 400 000.
        confidence: How sure the child was. 0 to 1.
        difficulty: How difficult the activity was, 1 being the easiest. 1 to 5.
        rating: How the child liked it, 5 being the best. 1 to 5.
        xp: Points won. 0 to 10 000.
        stars: Stars won. 0 to 10 000.
        badge: Badge won. At most 100 characters.
        """
        data = {
            "action": "hint",
            "activity_id": activity_id,
            "subject": subject,
            "topic": topic,
            "response_time_ms": response_time_ms,
            "duration_ms": duration_ms,
            "confidence": confidence,
            "difficulty": difficulty,
            "rating": rating,
            "xp": xp,
            "stars": stars,
            "badge": badge,
        }
        return self.track(Event("interaction", data, session_id, attributes))

    def skip(
        self,
        *,
        activity_id: Id | None = None,
        subject: str | None = None,
        topic: str | None = None,
        response_time_ms: int | None = None,
        duration_ms: int | None = None,
        confidence: float | None = None,
        difficulty: int | None = None,
        rating: int | None = None,
        xp: int | None = None,
        stars: int | None = None,
        badge: str | None = None,
        session_id: Id | None = None,
        attributes: Attributes | None = None,
    ) -> Tracked:
        """What a child did with an activity. This is `action` `skip`.

        activity_id: The activity. A UUID.
        subject: School subject. At most 100 characters.
        topic: Topic. At most 100 characters.
        response_time_ms: Time to respond, in milliseconds. 0 to 3 600 000.
        duration_ms: Time on task, in milliseconds. 0 to 14 400 000.
        confidence: How sure the child was. 0 to 1.
        difficulty: How difficult the activity was, 1 being the easiest. 1 to 5.
        rating: How the child liked it, 5 being the best. 1 to 5.
        xp: Points won. 0 to 10 000.
        stars: Stars won. 0 to 10 000.
        badge: Badge won. At most 100 characters.
        """
        data = {
            "action": "skip",
            "activity_id": activity_id,
            "subject": subject,
            "topic": topic,
            "response_time_ms": response_time_ms,
            "duration_ms": duration_ms,
            "confidence": confidence,
            "difficulty": difficulty,
            "rating": rating,
            "xp": xp,
            "stars": stars,
            "badge": badge,
        }
        return self.track(Event("interaction", data, session_id, attributes))

    def view(
        self,
        *,
        activity_id: Id | None = None,
        subject: str | None = None,
        topic: str | None = None,
        response_time_ms: int | None = None,
        duration_ms: int | None = None,
        confidence: float | None = None,
        difficulty: int | None = None,
        rating: int | None = None,
        xp: int | None = None,
        stars: int | None = None,
        badge: str | None = None,
        session_id: Id | None = None,
        attributes: Attributes | None = None,
    ) -> Tracked:
        """What a child did with an activity. This is `action` `view`.

        activity_id: The activity. A UUID.
        subject: School subject. At most 100 characters.
        topic: Topic. At most 100 characters.
        response_time_ms: Time to respond, in milliseconds. 0 to 3 600 000.
        duration_ms: Time on task, in milliseconds. 0 to 14 400 000.
        confidence: How sure the child was. 0 to 1.
        difficulty: How difficult the activity was, 1 being the easiest. 1 to 5.
        rating: How the child liked it, 5 being the best. 1 to 5.
        xp: Points won. 0 to 10 000.
        stars: Stars won. 0 to 10 000.
        badge: Badge won. At most 100 characters.
        """
        data = {
            "action": "view",
            "activity_id": activity_id,
            "subject": subject,
            "topic": topic,
            "response_time_ms": response_time_ms,
            "duration_ms": duration_ms,
            "confidence": confidence,
            "difficulty": difficulty,
            "rating": rating,
            "xp": xp,
            "stars": stars,
            "badge": badge,
        }
        return self.track(Event("interaction", data, session_id, attributes))

    def complete(
        self,
        *,
        activity_id: Id | None = None,
        subject: str | None = None,
        topic: str | None = None,
        response_time_ms: int | None = None,
        duration_ms: int | None = None,
        confidence: float | None = None,
        difficulty: int | None = None,
        rating: int | None = None,
        xp: int | None = None,
        stars: int | None = None,
        badge: str | None = None,
        session_id: Id | None = None,
        attributes: Attributes | None = None,
    ) -> Tracked:
        """What a child did with an activity. This is `action` `complete`.

        activity_id: The activity. A UUID.
        subject: School subject. At most 100 characters.
        topic: Topic. At most 100 characters.
        response_time_ms: Time to respond, in milliseconds. 0 to 3 600 000.
        duration_ms: Time on task, in milliseconds. 0 to 14 400 000.
        confidence: How sure the child was. 0 to 1.
        difficulty: How difficult the activity was, 1 being the easiest. 1 to 5.
        rating: How the child liked it, 5 being the best. 1 to 5.
        xp: Points won. 0 to 10 000.
        stars: Stars won. 0 to 10 000.
        badge: Badge won. At most 100 characters.
        """
        data = {
            "action": "complete",
            "activity_id": activity_id,
            "subject": subject,
            "topic": topic,
            "response_time_ms": response_time_ms,
            "duration_ms": duration_ms,
            "confidence": confidence,
            "difficulty": difficulty,
            "rating": rating,
            "xp": xp,
            "stars": stars,
            "badge": badge,
        }
        return self.track(Event("interaction", data, session_id, attributes))

    def rate(
        self,
        *,
        rating: int,
        activity_id: Id | None = None,
        subject: str | None = None,
        topic: str | None = None,
        response_time_ms: int | None = None,
        duration_ms: int | None = None,
        confidence: float | None = None,
        difficulty: int | None = None,
        xp: int | None = None,
        stars: int | None = None,
        badge: str | None = None,
        session_id: Id | None = None,
        attributes: Attributes | None = None,
    ) -> Tracked:
        """What a child did with an activity. This is `action` `rate`.

        rating: How the child liked it, 5 being the best. 1 to 5.
        activity_id: The activity. A UUID.
        subject: School subject. At most 100 characters.
        topic: Topic. At most 100 characters.
        response_time_ms: Time to respond, in milliseconds. 0 to 3 600 000.
        duration_ms: Time on task, in milliseconds. 0 to 14 400 000.
        confidence: How sure the child was. 0 to 1.
        difficulty: How difficult the activity was, 1 being the easiest. 1 to 5.
        xp: Points won. 0 to 10 000.
        stars: Stars won. 0 to 10 000.
        badge: Badge won. At most 100 characters.
        """
        data = {
            "action": "rate",
            "rating": rating,
            "activity_id": activity_id,
            "subject": subject,
            "topic": topic,
            "response_time_ms": response_time_ms,
            "duration_ms": duration_ms,
            "confidence": confidence,
            "difficulty": difficulty,
            "xp": xp,
            "stars": stars,
            "badge": badge,
        }
        return self.track(Event("interaction", data, session_id, attributes))

    def reward(
        self,
        *,
        activity_id: Id | None = None,
        subject: str | None = None,
        topic: str | None = None,
        response_time_ms: int | None = None,
        duration_ms: int | None = None,
        confidence: float | None = None,
        difficulty: int | None = None,
        rating: int | None = None,
        xp: int | None = None,
        stars: int | None = None,
        badge: str | None = None,
        session_id: Id | None = None,
        attributes: Attributes | None = None,
    ) -> Tracked:
        """What a child did with an activity. This is `action` `reward`.

        activity_id: The activity. A UUID.
        subject: School subject. At most 100 characters.
        topic: Topic. At most 100 characters.
        response_time_ms: Time to respond, in milliseconds. 0 to 3 600 000.
        duration_ms: Time on task, in milliseconds. 0 to 14 400 000.
        confidence: How sure the child was. 0 to 1.
        difficulty: How difficult the activity was, 1 being the easiest. 1 to 5.
        rating: How the child liked it, 5 being the best. 1 to 5.
        xp: Points won. 0 to 10 000.
        stars: Stars won. 0 to 10 000.
        badge: Badge won. At most 100 characters.
        """
        data = {
            "action": "reward",
            "activity_id": activity_id,
            "subject": subject,
            "topic": topic,
            "response_time_ms": response_time_ms,
            "duration_ms": duration_ms,
            "confidence": confidence,
            "difficulty": difficulty,
            "rating": rating,
            "xp": xp,
            "stars": stars,
            "badge": badge,
        }
        return self.track(Event("interaction", data, session_id, attributes))

    def message(
        self,
        *,
        conversation_id: Id,
        sequence: int,
        role: Role,
        topic: str | None = None,
        content: str | None = None,
        question: bool | None = None,
        free_form: bool | None = None,
        aha_moment: bool | None = None,
        was_filtered: bool | None = None,
        selected_choice: int | None = None,
        depth_level: int | None = None,
        tokens_used: int | None = None,
        processing_time_ms: int | None = None,
        filter_reason: str | None = None,
        session_id: Id | None = None,
        attributes: Attributes | None = None,
    ) -> Tracked:
        """A turn of a conversation between a child and an assistant.

        conversation_id: The conversation. A UUID.
        sequence: Place in the conversation. At least 1.
        role: Who spoke.
        topic: Topic. At most 100 characters.
        content: The text of the turn. It is measured (characters and words) and dropped. At most 8 192 bytes of UTF-8.
        question: The turn asks something. Default false.
        free_form: Typed or spoken freely, not chosen from a list. Default false.
        aha_moment: The app saw a moment of insight. Default false.
        was_filtered: A safety filter acted. Default false.
        selected_choice: Which answer of a list was chosen. 0 to 255.
        depth_level: How deep the conversation has gone. 0 to 100.
        tokens_used: Tokens that the model used. 0 to 10 000 000.
        processing_time_ms: Time that the assistant took, in milliseconds. 0 to 10 000 000.
        filter_reason: Why the filter acted. At most 100 characters.
        """
        data = {
            "conversation_id": conversation_id,
            "sequence": sequence,
            "role": role,
            "topic": topic,
            "content": content,
            "is_question": question,
            "is_free_form": free_form,
            "aha_moment": aha_moment,
            "was_filtered": was_filtered,
            "selected_choice": selected_choice,
            "depth_level": depth_level,
            "tokens_used": tokens_used,
            "processing_time_ms": processing_time_ms,
            "filter_reason": filter_reason,
        }
        return self.track(Event("message", data, session_id, attributes))

    def speech(
        self,
        *,
        audio_session_id: Id,
        window_ms: int,
        child_words: int | None = None,
        adult_words: int | None = None,
        child_vocalizations: int | None = None,
        conversational_turns: int | None = None,
        utterances: int | None = None,
        unique_words: int | None = None,
        new_words: int | None = None,
        snr_db: float | None = None,
        language: str | None = None,
        model_version: str | None = None,
        session_id: Id | None = None,
        attributes: Attributes | None = None,
    ) -> Tracked:
        """Metrics of a window of speech, computed on the device. Sound itself is never accepted.

        audio_session_id: The recording session on the device. A UUID.
        window_ms: Length of the analysed window, in milliseconds. 1 to 3 600 000.
        child_words: Words of the child. 0 to 100 000. Default 0.
        adult_words: Words of adults near the child. 0 to 100 000. Default 0.
        child_vocalizations: Vocalisations that are no words. 0 to 100 000. Default 0.
        conversational_turns: Turns between child and adult. 0 to 100 000. Default 0.
        utterances: Utterances of the child. 0 to 100 000. Default 0.
        unique_words: Distinct words in the window. 0 to 100 000. Default 0.
        new_words: Words not heard from the child before. 0 to 100 000. Default 0.
        snr_db: Signal to noise ratio, in decibels. -100 to 200.
        language: Language, as a BCP 47 tag such as `pt-BR`. At most 35 characters.
        model_version: Version of the model on the device. At most 64 characters.
        """
        data = {
            "audio_session_id": audio_session_id,
            "window_ms": window_ms,
            "child_words": child_words,
            "adult_words": adult_words,
            "child_vocalizations": child_vocalizations,
            "conversational_turns": conversational_turns,
            "utterances": utterances,
            "unique_words": unique_words,
            "new_words": new_words,
            "snr_db": snr_db,
            "language": language,
            "model_version": model_version,
        }
        return self.track(Event("speech", data, session_id, attributes))
