package io.rivulet

import java.util.UUID

/** What a method of [Events] makes, for [Child.track] and a fake's assertions. */
public class Event internal constructor(
    /** `interaction`, `message`, `speech` or `session`. */
    public val type: String,
    data: Map<String, Any?>,
    /** The session that it belongs to. */
    public val sessionId: UUID? = null,
    /** For analysts: at most 16; strings of at most 256 characters, numbers and booleans. */
    public val attributes: Map<String, Any> = emptyMap(),
) {
    /** Its fields by their names on the wire, without what is null, or no number though it is a double. */
    public val data: Map<String, Any> = plain(data)

    internal fun inSession(id: UUID) = Event(type, data, id, attributes)
}

/** Makes events and tracks none: `Events.answer(correct = true)`. */
public object Events : Builders<Event>() {
    override fun track(event: Event): Event = event
}

private fun plain(data: Map<String, Any?>): Map<String, Any> {
    val plain = LinkedHashMap<String, Any>()
    for ((name, value) in data) {
        val isNumber = (value as? Number)?.toDouble()?.let { !it.isNaN() && !it.isInfinite() } ?: true
        if (value != null && isNumber) plain[name] = if (value is UUID) value.toString() else value
    }
    return plain
}

/** Of strings, numbers and booleans; anything else is its text. */
internal fun json(fields: Map<String, Any>): String =
    plain(fields).entries.joinToString(",", "{", "}") { (name, value) ->
        quoted(name) + ":" + if (value is Number || value is Boolean) value else quoted(value.toString())
    }

private fun quoted(text: String): String = buildString {
    append('"')
    for ((at, char) in text.withIndex()) {
        val isWhole = when {
            char.isHighSurrogate() -> text.getOrNull(at + 1)?.isLowSurrogate() == true
            char.isLowSurrogate() -> text.getOrNull(at - 1)?.isHighSurrogate() == true
            else -> true
        }
        when {
            // Half of a surrogate pair is no text, and no reason to lose an event.
            !isWhole -> append('\uFFFD')
            char == '"' || char == '\\' -> append('\\').append(char)
            char < ' ' -> append("\\u").append(char.code.toString(16).padStart(4, '0'))
            else -> append(char)
        }
    }
    append('"')
}
