// Written from the declarations in events/: RIVULET_UPDATE_DOCS=1 cargo test -p rivulet-builders
package io.rivulet

import java.util.UUID

/** Who spoke. */
public enum class Role(internal val word: String) {
    USER("user"),
    ASSISTANT("assistant"),
    SYSTEM("system"),
}

/** What the session was for. */
public enum class SessionKind(internal val word: String) {
    LEARNING("learning"),
    PLAY("play"),
    STORY("story"),
    QUIZ("quiz"),
    REVIEW("review"),
    OTHER("other"),
}

/** The platform. */
public enum class Platform(internal val word: String) {
    IOS("ios"),
    ANDROID("android"),
    WEB("web"),
    OTHER("other"),
}

/**
 * A method for each kind of event, which makes one and gives it to [track]. Each also takes the session
 * that it belongs to, and attributes for analysts: at most 16, which are strings of at most 256
 * characters, numbers or booleans.
 */
public abstract class Builders<out Tracked> internal constructor() {
    /** Takes an event that was made. */
    public abstract fun track(event: Event): Tracked

    /**
     * What a child did with an activity. This is `action` `start`.
     *
     * @param activityId The activity. A UUID.
     * @param subject School subject. At most 100 characters.
     * @param topic Topic. At most 100 characters.
     * @param responseTimeMs Time to respond, in milliseconds. 0 to 3 600 000.
     * @param durationMs Time on task, in milliseconds. 0 to 14 400 000.
     * @param confidence How sure the child was. 0 to 1.
     * @param difficulty How difficult the activity was, 1 being the easiest. 1 to 5.
     * @param rating How the child liked it, 5 being the best. 1 to 5.
     * @param xp Points won. 0 to 10 000.
     * @param stars Stars won. 0 to 10 000.
     * @param badge Badge won. At most 100 characters.
     */
    public fun start(
        activityId: UUID? = null,
        subject: String? = null,
        topic: String? = null,
        responseTimeMs: Long? = null,
        durationMs: Long? = null,
        confidence: Double? = null,
        difficulty: Int? = null,
        rating: Int? = null,
        xp: Int? = null,
        stars: Int? = null,
        badge: String? = null,
        sessionId: UUID? = null,
        attributes: Map<String, Any> = emptyMap(),
    ): Tracked = track(
        Event(
            "interaction",
            mapOf(
                "action" to "start",
                "activity_id" to activityId,
                "subject" to subject,
                "topic" to topic,
                "response_time_ms" to responseTimeMs,
                "duration_ms" to durationMs,
                "confidence" to confidence,
                "difficulty" to difficulty,
                "rating" to rating,
                "xp" to xp,
                "stars" to stars,
                "badge" to badge,
            ),
            sessionId,
            attributes,
        ),
    )

    /**
     * What a child did with an activity. This is `action` `answer`.
     *
     * @param correct Whether an answer was right.
     * @param activityId The activity. A UUID.
     * @param subject School subject. At most 100 characters.
     * @param topic Topic. At most 100 characters.
     * @param responseTimeMs Time to respond, in milliseconds. 0 to 3 600 000.
     * @param durationMs Time on task, in milliseconds. 0 to 14 400 000.
     * @param confidence How sure the child was. 0 to 1.
     * @param difficulty How difficult the activity was, 1 being the easiest. 1 to 5.
     * @param rating How the child liked it, 5 being the best. 1 to 5.
     * @param xp Points won. 0 to 10 000.
     * @param stars Stars won. 0 to 10 000.
     * @param badge Badge won. At most 100 characters.
     */
    public fun answer(
        correct: Boolean,
        activityId: UUID? = null,
        subject: String? = null,
        topic: String? = null,
        responseTimeMs: Long? = null,
        durationMs: Long? = null,
        confidence: Double? = null,
        difficulty: Int? = null,
        rating: Int? = null,
        xp: Int? = null,
        stars: Int? = null,
        badge: String? = null,
        sessionId: UUID? = null,
        attributes: Map<String, Any> = emptyMap(),
    ): Tracked = track(
        Event(
            "interaction",
            mapOf(
                "action" to "answer",
                "is_correct" to correct,
                "activity_id" to activityId,
                "subject" to subject,
                "topic" to topic,
                "response_time_ms" to responseTimeMs,
                "duration_ms" to durationMs,
                "confidence" to confidence,
                "difficulty" to difficulty,
                "rating" to rating,
                "xp" to xp,
                "stars" to stars,
                "badge" to badge,
            ),
            sessionId,
            attributes,
        ),
    )

    /**
     * What a child did with an activity. This is `action` `hint`.
     *
     * @param activityId The activity. A UUID.
     * @param subject School subject. At most 100 characters.
     * @param topic Topic. At most 100 characters.
     * @param responseTimeMs Time to respond, in milliseconds. 0 to 3 600 000.
     * @param durationMs Time on task, in milliseconds. 0 to 14 400 000.
     * @param confidence How sure the child was. 0 to 1.
     * @param difficulty How difficult the activity was, 1 being the easiest. 1 to 5.
     * @param rating How the child liked it, 5 being the best. 1 to 5.
     * @param xp Points won. 0 to 10 000.
     * @param stars Stars won. 0 to 10 000.
     * @param badge Badge won. At most 100 characters.
     */
    public fun hint(
        activityId: UUID? = null,
        subject: String? = null,
        topic: String? = null,
        responseTimeMs: Long? = null,
        durationMs: Long? = null,
        confidence: Double? = null,
        difficulty: Int? = null,
        rating: Int? = null,
        xp: Int? = null,
        stars: Int? = null,
        badge: String? = null,
        sessionId: UUID? = null,
        attributes: Map<String, Any> = emptyMap(),
    ): Tracked = track(
        Event(
            "interaction",
            mapOf(
                "action" to "hint",
                "activity_id" to activityId,
                "subject" to subject,
                "topic" to topic,
                "response_time_ms" to responseTimeMs,
                "duration_ms" to durationMs,
                "confidence" to confidence,
                "difficulty" to difficulty,
                "rating" to rating,
                "xp" to xp,
                "stars" to stars,
                "badge" to badge,
            ),
            sessionId,
            attributes,
        ),
    )

    /**
     * What a child did with an activity. This is `action` `skip`.
     *
     * @param activityId The activity. A UUID.
     * @param subject School subject. At most 100 characters.
     * @param topic Topic. At most 100 characters.
     * @param responseTimeMs Time to respond, in milliseconds. 0 to 3 600 000.
     * @param durationMs Time on task, in milliseconds. 0 to 14 400 000.
     * @param confidence How sure the child was. 0 to 1.
     * @param difficulty How difficult the activity was, 1 being the easiest. 1 to 5.
     * @param rating How the child liked it, 5 being the best. 1 to 5.
     * @param xp Points won. 0 to 10 000.
     * @param stars Stars won. 0 to 10 000.
     * @param badge Badge won. At most 100 characters.
     */
    public fun skip(
        activityId: UUID? = null,
        subject: String? = null,
        topic: String? = null,
        responseTimeMs: Long? = null,
        durationMs: Long? = null,
        confidence: Double? = null,
        difficulty: Int? = null,
        rating: Int? = null,
        xp: Int? = null,
        stars: Int? = null,
        badge: String? = null,
        sessionId: UUID? = null,
        attributes: Map<String, Any> = emptyMap(),
    ): Tracked = track(
        Event(
            "interaction",
            mapOf(
                "action" to "skip",
                "activity_id" to activityId,
                "subject" to subject,
                "topic" to topic,
                "response_time_ms" to responseTimeMs,
                "duration_ms" to durationMs,
                "confidence" to confidence,
                "difficulty" to difficulty,
                "rating" to rating,
                "xp" to xp,
                "stars" to stars,
                "badge" to badge,
            ),
            sessionId,
            attributes,
        ),
    )

    /**
     * What a child did with an activity. This is `action` `view`.
     *
     * @param activityId The activity. A UUID.
     * @param subject School subject. At most 100 characters.
     * @param topic Topic. At most 100 characters.
     * @param responseTimeMs Time to respond, in milliseconds. 0 to 3 600 000.
     * @param durationMs Time on task, in milliseconds. 0 to 14 400 000.
     * @param confidence How sure the child was. 0 to 1.
     * @param difficulty How difficult the activity was, 1 being the easiest. 1 to 5.
     * @param rating How the child liked it, 5 being the best. 1 to 5.
     * @param xp Points won. 0 to 10 000.
     * @param stars Stars won. 0 to 10 000.
     * @param badge Badge won. At most 100 characters.
     */
    public fun view(
        activityId: UUID? = null,
        subject: String? = null,
        topic: String? = null,
        responseTimeMs: Long? = null,
        durationMs: Long? = null,
        confidence: Double? = null,
        difficulty: Int? = null,
        rating: Int? = null,
        xp: Int? = null,
        stars: Int? = null,
        badge: String? = null,
        sessionId: UUID? = null,
        attributes: Map<String, Any> = emptyMap(),
    ): Tracked = track(
        Event(
            "interaction",
            mapOf(
                "action" to "view",
                "activity_id" to activityId,
                "subject" to subject,
                "topic" to topic,
                "response_time_ms" to responseTimeMs,
                "duration_ms" to durationMs,
                "confidence" to confidence,
                "difficulty" to difficulty,
                "rating" to rating,
                "xp" to xp,
                "stars" to stars,
                "badge" to badge,
            ),
            sessionId,
            attributes,
        ),
    )

    /**
     * What a child did with an activity. This is `action` `complete`.
     *
     * @param activityId The activity. A UUID.
     * @param subject School subject. At most 100 characters.
     * @param topic Topic. At most 100 characters.
     * @param responseTimeMs Time to respond, in milliseconds. 0 to 3 600 000.
     * @param durationMs Time on task, in milliseconds. 0 to 14 400 000.
     * @param confidence How sure the child was. 0 to 1.
     * @param difficulty How difficult the activity was, 1 being the easiest. 1 to 5.
     * @param rating How the child liked it, 5 being the best. 1 to 5.
     * @param xp Points won. 0 to 10 000.
     * @param stars Stars won. 0 to 10 000.
     * @param badge Badge won. At most 100 characters.
     */
    public fun complete(
        activityId: UUID? = null,
        subject: String? = null,
        topic: String? = null,
        responseTimeMs: Long? = null,
        durationMs: Long? = null,
        confidence: Double? = null,
        difficulty: Int? = null,
        rating: Int? = null,
        xp: Int? = null,
        stars: Int? = null,
        badge: String? = null,
        sessionId: UUID? = null,
        attributes: Map<String, Any> = emptyMap(),
    ): Tracked = track(
        Event(
            "interaction",
            mapOf(
                "action" to "complete",
                "activity_id" to activityId,
                "subject" to subject,
                "topic" to topic,
                "response_time_ms" to responseTimeMs,
                "duration_ms" to durationMs,
                "confidence" to confidence,
                "difficulty" to difficulty,
                "rating" to rating,
                "xp" to xp,
                "stars" to stars,
                "badge" to badge,
            ),
            sessionId,
            attributes,
        ),
    )

    /**
     * What a child did with an activity. This is `action` `rate`.
     *
     * @param rating How the child liked it, 5 being the best. 1 to 5.
     * @param activityId The activity. A UUID.
     * @param subject School subject. At most 100 characters.
     * @param topic Topic. At most 100 characters.
     * @param responseTimeMs Time to respond, in milliseconds. 0 to 3 600 000.
     * @param durationMs Time on task, in milliseconds. 0 to 14 400 000.
     * @param confidence How sure the child was. 0 to 1.
     * @param difficulty How difficult the activity was, 1 being the easiest. 1 to 5.
     * @param xp Points won. 0 to 10 000.
     * @param stars Stars won. 0 to 10 000.
     * @param badge Badge won. At most 100 characters.
     */
    public fun rate(
        rating: Int,
        activityId: UUID? = null,
        subject: String? = null,
        topic: String? = null,
        responseTimeMs: Long? = null,
        durationMs: Long? = null,
        confidence: Double? = null,
        difficulty: Int? = null,
        xp: Int? = null,
        stars: Int? = null,
        badge: String? = null,
        sessionId: UUID? = null,
        attributes: Map<String, Any> = emptyMap(),
    ): Tracked = track(
        Event(
            "interaction",
            mapOf(
                "action" to "rate",
                "rating" to rating,
                "activity_id" to activityId,
                "subject" to subject,
                "topic" to topic,
                "response_time_ms" to responseTimeMs,
                "duration_ms" to durationMs,
                "confidence" to confidence,
                "difficulty" to difficulty,
                "xp" to xp,
                "stars" to stars,
                "badge" to badge,
            ),
            sessionId,
            attributes,
        ),
    )

    /**
     * What a child did with an activity. This is `action` `reward`.
     *
     * @param activityId The activity. A UUID.
     * @param subject School subject. At most 100 characters.
     * @param topic Topic. At most 100 characters.
     * @param responseTimeMs Time to respond, in milliseconds. 0 to 3 600 000.
     * @param durationMs Time on task, in milliseconds. 0 to 14 400 000.
     * @param confidence How sure the child was. 0 to 1.
     * @param difficulty How difficult the activity was, 1 being the easiest. 1 to 5.
     * @param rating How the child liked it, 5 being the best. 1 to 5.
     * @param xp Points won. 0 to 10 000.
     * @param stars Stars won. 0 to 10 000.
     * @param badge Badge won. At most 100 characters.
     */
    public fun reward(
        activityId: UUID? = null,
        subject: String? = null,
        topic: String? = null,
        responseTimeMs: Long? = null,
        durationMs: Long? = null,
        confidence: Double? = null,
        difficulty: Int? = null,
        rating: Int? = null,
        xp: Int? = null,
        stars: Int? = null,
        badge: String? = null,
        sessionId: UUID? = null,
        attributes: Map<String, Any> = emptyMap(),
    ): Tracked = track(
        Event(
            "interaction",
            mapOf(
                "action" to "reward",
                "activity_id" to activityId,
                "subject" to subject,
                "topic" to topic,
                "response_time_ms" to responseTimeMs,
                "duration_ms" to durationMs,
                "confidence" to confidence,
                "difficulty" to difficulty,
                "rating" to rating,
                "xp" to xp,
                "stars" to stars,
                "badge" to badge,
            ),
            sessionId,
            attributes,
        ),
    )

    /**
     * A turn of a conversation between a child and an assistant.
     *
     * @param conversationId The conversation. A UUID.
     * @param sequence Place in the conversation. At least 1.
     * @param role Who spoke.
     * @param topic Topic. At most 100 characters.
     * @param content The text of the turn. It is measured (characters and words) and dropped. At most 8 192 bytes of UTF-8.
     * @param question The turn asks something. Default false.
     * @param freeForm Typed or spoken freely, not chosen from a list. Default false.
     * @param ahaMoment The app saw a moment of insight. Default false.
     * @param wasFiltered A safety filter acted. Default false.
     * @param selectedChoice Which answer of a list was chosen. 0 to 255.
     * @param depthLevel How deep the conversation has gone. 0 to 100.
     * @param tokensUsed Tokens that the model used. 0 to 10 000 000.
     * @param processingTimeMs Time that the assistant took, in milliseconds. 0 to 10 000 000.
     * @param filterReason Why the filter acted. At most 100 characters.
     */
    public fun message(
        conversationId: UUID,
        sequence: Int,
        role: Role,
        topic: String? = null,
        content: String? = null,
        question: Boolean? = null,
        freeForm: Boolean? = null,
        ahaMoment: Boolean? = null,
        wasFiltered: Boolean? = null,
        selectedChoice: Int? = null,
        depthLevel: Int? = null,
        tokensUsed: Int? = null,
        processingTimeMs: Long? = null,
        filterReason: String? = null,
        sessionId: UUID? = null,
        attributes: Map<String, Any> = emptyMap(),
    ): Tracked = track(
        Event(
            "message",
            mapOf(
                "conversation_id" to conversationId,
                "sequence" to sequence,
                "role" to role.word,
                "topic" to topic,
                "content" to content,
                "is_question" to question,
                "is_free_form" to freeForm,
                "aha_moment" to ahaMoment,
                "was_filtered" to wasFiltered,
                "selected_choice" to selectedChoice,
                "depth_level" to depthLevel,
                "tokens_used" to tokensUsed,
                "processing_time_ms" to processingTimeMs,
                "filter_reason" to filterReason,
            ),
            sessionId,
            attributes,
        ),
    )

    /**
     * Metrics of a window of speech, computed on the device. Sound itself is never accepted.
     *
     * @param audioSessionId The recording session on the device. A UUID.
     * @param windowMs Length of the analysed window, in milliseconds. 1 to 3 600 000.
     * @param childWords Words of the child. 0 to 100 000. Default 0.
     * @param adultWords Words of adults near the child. 0 to 100 000. Default 0.
     * @param childVocalizations Vocalisations that are no words. 0 to 100 000. Default 0.
     * @param conversationalTurns Turns between child and adult. 0 to 100 000. Default 0.
     * @param utterances Utterances of the child. 0 to 100 000. Default 0.
     * @param uniqueWords Distinct words in the window. 0 to 100 000. Default 0.
     * @param newWords Words not heard from the child before. 0 to 100 000. Default 0.
     * @param snrDb Signal to noise ratio, in decibels. -100 to 200.
     * @param language Language, as a BCP 47 tag such as `pt-BR`. At most 35 characters.
     * @param modelVersion Version of the model on the device. At most 64 characters.
     */
    public fun speech(
        audioSessionId: UUID,
        windowMs: Long,
        childWords: Int? = null,
        adultWords: Int? = null,
        childVocalizations: Int? = null,
        conversationalTurns: Int? = null,
        utterances: Int? = null,
        uniqueWords: Int? = null,
        newWords: Int? = null,
        snrDb: Double? = null,
        language: String? = null,
        modelVersion: String? = null,
        sessionId: UUID? = null,
        attributes: Map<String, Any> = emptyMap(),
    ): Tracked = track(
        Event(
            "speech",
            mapOf(
                "audio_session_id" to audioSessionId,
                "window_ms" to windowMs,
                "child_words" to childWords,
                "adult_words" to adultWords,
                "child_vocalizations" to childVocalizations,
                "conversational_turns" to conversationalTurns,
                "utterances" to utterances,
                "unique_words" to uniqueWords,
                "new_words" to newWords,
                "snr_db" to snrDb,
                "language" to language,
                "model_version" to modelVersion,
            ),
            sessionId,
            attributes,
        ),
    )
}
