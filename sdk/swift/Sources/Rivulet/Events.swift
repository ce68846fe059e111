// Written from the declarations in events/: RIVULET_UPDATE_DOCS=1 cargo test -p rivulet-builders
import Foundation

/// Who spoke.
public enum Role: String, Sendable {
    case user, assistant, system
}

/// What the session was for.
public enum SessionKind: String, Sendable {
    case learning, play, story, quiz, review, other
}

/// The platform.
public enum Platform: String, Sendable {
    case ios, android, web, other
}

/// A method for each kind of event, which makes one and gives it to `track`. Each also takes the session
/// that it belongs to, and attributes for analysts: at most 16, which are strings of at most 256
/// characters, numbers or booleans.
public protocol Builders {
    associatedtype Tracked
    /// Takes an event that was made.
    @discardableResult
    func track(_ event: Event) -> Tracked
}

extension Builders {
    /// What a child did with an activity. This is `action` `start`.
    /// - Parameters:
    ///   - activityId: The activity. A UUID.
    ///   - subject: School subject. At most 100 characters.
    ///   - topic: Topic. At most 100 characters.
    ///   - responseTimeMs: Time to respond, in milliseconds. 0 to 3 600 000.
    ///   - durationMs: Time on task, in milliseconds. 0 to 14 400 000.
    ///   - confidence: How sure the child was. 0 to 1.
    ///   - difficulty: How difficult the activity was, 1 being the easiest. 1 to 5.
    ///   - rating: How the child liked it, 5 being the best. 1 to 5.
    ///   - xp: Points won. 0 to 10 000.
    ///   - stars: Stars won. 0 to 10 000.
    ///   - badge: Badge won. At most 100 characters.
    @discardableResult
    public func start(
        activityId: UUID? = nil,
        subject: String? = nil,
        topic: String? = nil,
        responseTimeMs: Int? = nil,
        durationMs: Int? = nil,
        confidence: Double? = nil,
        difficulty: Int? = nil,
        rating: Int? = nil,
        xp: Int? = nil,
        stars: Int? = nil,
        badge: String? = nil,
        sessionId: UUID? = nil,
        attributes: [String: any Sendable] = [:]
    ) -> Tracked {
        track(Event(type: "interaction", data: [
            "action": "start",
            "activity_id": activityId?.uuidString,
            "subject": subject,
            "topic": topic,
            "response_time_ms": responseTimeMs,
            "duration_ms": durationMs,
            "confidence": confidence,
            "difficulty": difficulty,
            "rating": rating,
            "xp": xp,
            "stars": stars,
            "badge": badge,
        ], sessionId: sessionId, attributes: attributes))
    }

    /// What a child did with an activity. This is `action` `answer`.
    /// - Parameters:
    ///   - correct: Whether an answer was right.
    ///   - activityId: The activity. A UUID.
    ///   - subject: School subject. At most 100 characters.
    ///   - topic: Topic. At most 100 characters.
    ///   - responseTimeMs: Time to respond, in milliseconds. 0 to 3 600 000.
    ///   - durationMs: Time on task, in milliseconds. 0 to 14 400 000.
    ///   - confidence: How sure the child was. 0 to 1.
    ///   - difficulty: How difficult the activity was, 1 being the easiest. 1 to 5.
    ///   - rating: How the child liked it, 5 being the best. 1 to 5.
    ///   - xp: Points won. 0 to 10 000.
    ///   - stars: Stars won. 0 to 10 000.
    ///   - badge: Badge won. At most 100 characters.
    @discardableResult
    public func answer(
        correct: Bool,
        activityId: UUID? = nil,
        subject: String? = nil,
        topic: String? = nil,
        responseTimeMs: Int? = nil,
        durationMs: Int? = nil,
        confidence: Double? = nil,
        difficulty: Int? = nil,
        rating: Int? = nil,
        xp: Int? = nil,
        stars: Int? = nil,
        badge: String? = nil,
        sessionId: UUID? = nil,
        attributes: [String: any Sendable] = [:]
    ) -> Tracked {
        track(Event(type: "interaction", data: [
            "action": "answer",
            "is_correct": correct,
            "activity_id": activityId?.uuidString,
            "subject": subject,
            "topic": topic,
            "response_time_ms": responseTimeMs,
            "duration_ms": durationMs,
            "confidence": confidence,
            "difficulty": difficulty,
            "rating": rating,
            "xp": xp,
            "stars": stars,
            "badge": badge,
        ], sessionId: sessionId, attributes: attributes))
    }

    /// What a child did with an activity. This is `action` `hint`.
    /// - Parameters:
    ///   - activityId: The activity. A UUID.
    ///   - subject: School subject. At most 100 characters.
    ///   - topic: Topic. At most 100 characters.
    ///   - responseTimeMs: Time to respond, in milliseconds. 0 to 3 600 000.
    ///   - durationMs: Time on task, in milliseconds. 0 to 14 400 000.
    ///   - confidence: How sure the child was. 0 to 1.
    ///   - difficulty: How difficult the activity was, 1 being the easiest. 1 to 5.
    ///   - rating: How the child liked it, 5 being the best. 1 to 5.
    ///   - xp: Points won. 0 to 10 000.
    ///   - stars: Stars won. 0 to 10 000.
    ///   - badge: Badge won. At most 100 characters.
    @discardableResult
    public func hint(
        activityId: UUID? = nil,
        subject: String? = nil,
        topic: String? = nil,
        responseTimeMs: Int? = nil,
        durationMs: Int? = nil,
        confidence: Double? = nil,
        difficulty: Int? = nil,
        rating: Int? = nil,
        xp: Int? = nil,
        stars: Int? = nil,
        badge: String? = nil,
        sessionId: UUID? = nil,
        attributes: [String: any Sendable] = [:]
    ) -> Tracked {
        track(Event(type: "interaction", data: [
            "action": "hint",
            "activity_id": activityId?.uuidString,
            "subject": subject,
            "topic": topic,
            "response_time_ms": responseTimeMs,
            "duration_ms": durationMs,
            "confidence": confidence,
            "difficulty": difficulty,
            "rating": rating,
            "xp": xp,
            "stars": stars,
            "badge": badge,
        ], sessionId: sessionId, attributes: attributes))
    }

    /// What a child did with an activity. This is `action` `skip`.
    /// - Parameters:
    ///   - activityId: The activity. A UUID.
    ///   - subject: School subject. At most 100 characters.
    ///   - topic: Topic. At most 100 characters.
    ///   - responseTimeMs: Time to respond, in milliseconds. 0 to 3 600 000.
    ///   - durationMs: Time on task, in milliseconds. 0 to 14 400 000.
    ///   - confidence: How sure the child was. 0 to 1.
    ///   - difficulty: How difficult the activity was, 1 being the easiest. 1 to 5.
    ///   - rating: How the child liked it, 5 being the best. 1 to 5.
    ///   - xp: Points won. 0 to 10 000.
    ///   - stars: Stars won. 0 to 10 000.
    ///   - badge: Badge won. At most 100 characters.
    @discardableResult
    public func skip(
        activityId: UUID? = nil,
        subject: String? = nil,
        topic: String? = nil,
        responseTimeMs: Int? = nil,
        durationMs: Int? = nil,
        confidence: Double? = nil,
        difficulty: Int? = nil,
        rating: Int? = nil,
        xp: Int? = nil,
        stars: Int? = nil,
        badge: String? = nil,
        sessionId: UUID? = nil,
        attributes: [String: any Sendable] = [:]
    ) -> Tracked {
        track(Event(type: "interaction", data: [
            "action": "skip",
            "activity_id": activityId?.uuidString,
            "subject": subject,
            "topic": topic,
            "response_time_ms": responseTimeMs,
            "duration_ms": durationMs,
            "confidence": confidence,
            "difficulty": difficulty,
            "rating": rating,
            "xp": xp,
            "stars": stars,
            "badge": badge,
        ], sessionId: sessionId, attributes: attributes))
    }

    /// What a child did with an activity. This is `action` `view`.
    /// - Parameters:
    ///   - activityId: The activity. A UUID.
    ///   - subject: School subject. At most 100 characters.
    ///   - topic: Topic. At most 100 characters.
    ///   - responseTimeMs: Time to respond, in milliseconds. 0 to 3 600 000.
    ///   - durationMs: Time on task, in milliseconds. 0 to 14 400 000.
    ///   - confidence: How sure the child was. 0 to 1.
    ///   - difficulty: How difficult the activity was, 1 being the easiest. 1 to 5.
    ///   - rating: How the child liked it, 5 being the best. 1 to 5.
    ///   - xp: Points won. 0 to 10 000.
    ///   - stars: Stars won. 0 to 10 000.
    ///   - badge: Badge won. At most 100 characters.
    @discardableResult
    public func view(
        activityId: UUID? = nil,
        subject: String? = nil,
        topic: String? = nil,
        responseTimeMs: Int? = nil,
        durationMs: Int? = nil,
        confidence: Double? = nil,
        difficulty: Int? = nil,
        rating: Int? = nil,
        xp: Int? = nil,
        stars: Int? = nil,
        badge: String? = nil,
        sessionId: UUID? = nil,
        attributes: [String: any Sendable] = [:]
    ) -> Tracked {
        track(Event(type: "interaction", data: [
            "action": "view",
            "activity_id": activityId?.uuidString,
            "subject": subject,
            "topic": topic,
            "response_time_ms": responseTimeMs,
            "duration_ms": durationMs,
            "confidence": confidence,
            "difficulty": difficulty,
            "rating": rating,
            "xp": xp,
            "stars": stars,
            "badge": badge,
        ], sessionId: sessionId, attributes: attributes))
    }

    /// What a child did with an activity. This is `action` `complete`.
    /// - Parameters:
    ///   - activityId: The activity. A UUID.
    ///   - subject: School subject. At most 100 characters.
    ///   - topic: Topic. At most 100 characters.
    ///   - responseTimeMs: Time to respond, in milliseconds. 0 to 3 600 000.
    ///   - durationMs: Time on task, in milliseconds. 0 to 14 400 000.
    ///   - confidence: How sure the child was. 0 to 1.
    ///   - difficulty: How difficult the activity was, 1 being the easiest. 1 to 5.
    ///   - rating: How the child liked it, 5 being the best. 1 to 5.
    ///   - xp: Points won. 0 to 10 000.
    ///   - stars: Stars won. 0 to 10 000.
    ///   - badge: Badge won. At most 100 characters.
    @discardableResult
    public func complete(
        activityId: UUID? = nil,
        subject: String? = nil,
        topic: String? = nil,
        responseTimeMs: Int? = nil,
        durationMs: Int? = nil,
        confidence: Double? = nil,
        difficulty: Int? = nil,
        rating: Int? = nil,
        xp: Int? = nil,
        stars: Int? = nil,
        badge: String? = nil,
        sessionId: UUID? = nil,
        attributes: [String: any Sendable] = [:]
    ) -> Tracked {
        track(Event(type: "interaction", data: [
            "action": "complete",
            "activity_id": activityId?.uuidString,
            "subject": subject,
            "topic": topic,
            "response_time_ms": responseTimeMs,
            "duration_ms": durationMs,
            "confidence": confidence,
            "difficulty": difficulty,
            "rating": rating,
            "xp": xp,
            "stars": stars,
            "badge": badge,
        ], sessionId: sessionId, attributes: attributes))
    }

    /// What a child did with an activity. This is `action` `rate`.
    /// - Parameters:
    ///   - rating: How the child liked it, 5 being the best. 1 to 5.
    ///   - activityId: The activity. A UUID.
    ///   - subject: School subject. At most 100 characters.
    ///   - topic: Topic. At most 100 characters.
    ///   - responseTimeMs: Time to respond, in milliseconds. 0 to 3 600 000.
    ///   - durationMs: Time on task, in milliseconds. 0 to 14 400 000.
    ///   - confidence: How sure the child was. 0 to 1.
    ///   - difficulty: How difficult the activity was, 1 being the easiest. 1 to 5.
    ///   - xp: Points won. 0 to 10 000.
    ///   - stars: Stars won. 0 to 10 000.
    ///   - badge: Badge won. At most 100 characters.
    @discardableResult
    public func rate(
        rating: Int,
        activityId: UUID? = nil,
        subject: String? = nil,
        topic: String? = nil,
        responseTimeMs: Int? = nil,
        durationMs: Int? = nil,
        confidence: Double? = nil,
        difficulty: Int? = nil,
        xp: Int? = nil,
        stars: Int? = nil,
        badge: String? = nil,
        sessionId: UUID? = nil,
        attributes: [String: any Sendable] = [:]
    ) -> Tracked {
        track(Event(type: "interaction", data: [
            "action": "rate",
            "rating": rating,
            "activity_id": activityId?.uuidString,
            "subject": subject,
            "topic": topic,
            "response_time_ms": responseTimeMs,
            "duration_ms": durationMs,
            "confidence": confidence,
            "difficulty": difficulty,
            "xp": xp,
            "stars": stars,
            "badge": badge,
        ], sessionId: sessionId, attributes: attributes))
    }

    /// What a child did with an activity. This is `action` `reward`.
    /// - Parameters:
    ///   - activityId: The activity. A UUID.
    ///   - subject: School subject. At most 100 characters.
    ///   - topic: Topic. At most 100 characters.
    ///   - responseTimeMs: Time to respond, in milliseconds. 0 to 3 600 000.
    ///   - durationMs: Time on task, in milliseconds. 0 to 14 400 000.
    ///   - confidence: How sure the child was. 0 to 1.
    ///   - difficulty: How difficult the activity was, 1 being the easiest. 1 to 5.
    ///   - rating: How the child liked it, 5 being the best. 1 to 5.
    ///   - xp: Points won. 0 to 10 000.
    ///   - stars: Stars won. 0 to 10 000.
    ///   - badge: Badge won. At most 100 characters.
    @discardableResult
    public func reward(
        activityId: UUID? = nil,
        subject: String? = nil,
        topic: String? = nil,
        responseTimeMs: Int? = nil,
        durationMs: Int? = nil,
        confidence: Double? = nil,
        difficulty: Int? = nil,
        rating: Int? = nil,
        xp: Int? = nil,
        stars: Int? = nil,
        badge: String? = nil,
        sessionId: UUID? = nil,
        attributes: [String: any Sendable] = [:]
    ) -> Tracked {
        track(Event(type: "interaction", data: [
            "action": "reward",
            "activity_id": activityId?.uuidString,
            "subject": subject,
            "topic": topic,
            "response_time_ms": responseTimeMs,
            "duration_ms": durationMs,
            "confidence": confidence,
            "difficulty": difficulty,
            "rating": rating,
            "xp": xp,
            "stars": stars,
            "badge": badge,
        ], sessionId: sessionId, attributes: attributes))
    }

    /// A turn of a conversation between a child and an assistant.
    /// - Parameters:
    ///   - conversationId: The conversation. A UUID.
    ///   - sequence: Place in the conversation. At least 1.
    ///   - role: Who spoke.
    ///   - topic: Topic. At most 100 characters.
    ///   - content: The text of the turn. It is measured (characters and words) and dropped. At most 8 192 bytes of UTF-8.
    ///   - question: The turn asks something. Default false.
    ///   - freeForm: Typed or spoken freely, not chosen from a list. Default false.
    ///   - ahaMoment: The app saw a moment of insight. Default false.
    ///   - wasFiltered: A safety filter acted. Default false.
    ///   - selectedChoice: Which answer of a list was chosen. 0 to 255.
    ///   - depthLevel: How deep the conversation has gone. 0 to 100.
    ///   - tokensUsed: Tokens that the model used. 0 to 10 000 000.
    ///   - processingTimeMs: Time that the assistant took, in milliseconds. 0 to 10 000 000.
    ///   - filterReason: Why the filter acted. At most 100 characters.
    @discardableResult
    public func message(
        conversationId: UUID,
        sequence: Int,
        role: Role,
        topic: String? = nil,
        content: String? = nil,
        question: Bool? = nil,
        freeForm: Bool? = nil,
        ahaMoment: Bool? = nil,
        wasFiltered: Bool? = nil,
        selectedChoice: Int? = nil,
        depthLevel: Int? = nil,
        tokensUsed: Int? = nil,
        processingTimeMs: Int? = nil,
        filterReason: String? = nil,
        sessionId: UUID? = nil,
        attributes: [String: any Sendable] = [:]
    ) -> Tracked {
        track(Event(type: "message", data: [
            "conversation_id": conversationId.uuidString,
            "sequence": sequence,
            "role": role.rawValue,
            "topic": topic,
            "content": content,
            "is_question": question,
            "is_free_form": freeForm,
            "aha_moment": ahaMoment,
            "was_filtered": wasFiltered,
            "selected_choice": selectedChoice,
            "depth_level": depthLevel,
            "tokens_used": tokensUsed,
            "processing_time_ms": processingTimeMs,
            "filter_reason": filterReason,
        ], sessionId: sessionId, attributes: attributes))
    }

    /// Metrics of a window of speech, computed on the device. Sound itself is never accepted.
    /// - Parameters:
    ///   - audioSessionId: The recording session on the device. A UUID.
    ///   - windowMs: Length of the analysed window, in milliseconds. 1 to 3 600 000.
    ///   - childWords: Words of the child. 0 to 100 000. Default 0.
    ///   - adultWords: Words of adults near the child. 0 to 100 000. Default 0.
    ///   - childVocalizations: Vocalisations that are no words. 0 to 100 000. Default 0.
    ///   - conversationalTurns: Turns between child and adult. 0 to 100 000. Default 0.
    ///   - utterances: Utterances of the child. 0 to 100 000. Default 0.
    ///   - uniqueWords: Distinct words in the window. 0 to 100 000. Default 0.
    ///   - newWords: Words not heard from the child before. 0 to 100 000. Default 0.
    ///   - snrDb: Signal to noise ratio, in decibels. -100 to 200.
    ///   - language: Language, as a BCP 47 tag such as `pt-BR`. At most 35 characters.
    ///   - modelVersion: Version of the model on the device. At most 64 characters.
    @discardableResult
    public func speech(
        audioSessionId: UUID,
        windowMs: Int,
        childWords: Int? = nil,
        adultWords: Int? = nil,
        childVocalizations: Int? = nil,
        conversationalTurns: Int? = nil,
        utterances: Int? = nil,
        uniqueWords: Int? = nil,
        newWords: Int? = nil,
        snrDb: Double? = nil,
        language: String? = nil,
        modelVersion: String? = nil,
        sessionId: UUID? = nil,
        attributes: [String: any Sendable] = [:]
    ) -> Tracked {
        track(Event(type: "speech", data: [
            "audio_session_id": audioSessionId.uuidString,
            "window_ms": windowMs,
            "child_words": childWords,
            "adult_words": adultWords,
            "child_vocalizations": childVocalizations,
            "conversational_turns": conversationalTurns,
            "utterances": utterances,
            "unique_words": uniqueWords,
            "new_words": newWords,
            "snr_db": snrDb,
            "language": language,
            "model_version": modelVersion,
        ], sessionId: sessionId, attributes: attributes))
    }
}
