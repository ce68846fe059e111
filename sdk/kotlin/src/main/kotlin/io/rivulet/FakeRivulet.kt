package io.rivulet

import java.util.UUID
import java.util.concurrent.CopyOnWriteArrayList
import kotlinx.coroutines.flow.MutableSharedFlow

/** An event as it would be sent. */
public data class TrackedEvent(
    val id: UUID,
    val childId: UUID,
    val type: String,
    val data: Map<String, Any>,
    val sessionId: UUID?,
    val attributes: Map<String, Any>,
)

/**
 * For an app's tests: a client without a server, a store or a thread, and without the native library. It
 * keeps what the app tracks; [flush] takes all of it as accepted.
 */
public class FakeRivulet : Rivulet() {
    private val tracked = CopyOnWriteArrayList<TrackedEvent>()
    private val told = MutableSharedFlow<Notice>(replay = 64)
    private var accepted = 0
    private var dropped = 0L
    private var coppa = true
    private var audio = true
    private var closed = false

    /** What was tracked, in order. */
    public val events: List<TrackedEvent> get() = tracked

    override val notices: MutableSharedFlow<Notice> get() = told

    override fun track(childId: UUID, event: Event): UUID? {
        if (closed) return null
        if (!coppa || (event.type == "speech" && !audio)) {
            dropped += 1
            told.tryEmit(Notice.Dropped("consent", 1))
            return null
        }
        val id = UUID.randomUUID()
        tracked += TrackedEvent(id, childId, event.type, event.data, event.sessionId, event.attributes)
        return id
    }

    override suspend fun flush(): Progress {
        accepted = tracked.size
        return Progress(0, null, null)
    }

    override fun stats(): Stats {
        val consent = if (dropped > 0) mapOf("consent" to dropped) else emptyMap()
        return Stats((tracked.size - accepted).toLong(), 0, accepted.toLong(), emptyMap(), consent)
    }

    override fun setConsent(coppa: Boolean?, audio: Boolean?) {
        this.coppa = coppa ?: this.coppa
        this.audio = audio ?: this.audio
    }

    override fun setCredential(key: String): Unit = Unit

    override fun setCredential(source: () -> String?): Unit = Unit

    override fun background(): Unit = Unit

    override fun foreground(): Unit = Unit

    override fun close(withinMs: Long): Boolean {
        closed = true
        return true
    }

    /**
     * The first event with all the fields of [expected], and of this child where one is given. Throws
     * AssertionError with the events of that type and what each lacks, if there is none.
     */
    @JvmOverloads
    public fun assertTracked(expected: Event, childId: UUID? = null): TrackedEvent =
        tracked.firstOrNull { lacks(it, expected, childId).isEmpty() } ?: throw AssertionError(
            "no ${expected.type} with ${expected.data}:\n" +
                tracked.filter { it.type == expected.type }
                    .joinToString("\n") { "  " + lacks(it, expected, childId).joinToString() }
                    .ifEmpty { "  none among ${tracked.size} events" },
        )

    /** Throws AssertionError if there is such an event. */
    @JvmOverloads
    public fun assertNotTracked(expected: Event, childId: UUID? = null) {
        val found = tracked.firstOrNull { lacks(it, expected, childId).isEmpty() }
        if (found != null) throw AssertionError("there is such an event: $found")
    }

    override fun begin(childId: UUID, kind: SessionKind?): Running = FakeSession(this, childId, kind)
}

private class FakeSession(
    private val rivulet: FakeRivulet,
    private val childId: UUID,
    private val kind: SessionKind?,
) : Running {
    override val id: UUID = UUID.randomUUID()
    private var ended = false

    init {
        tell("start")
    }

    override fun pause() = tell("pause")

    override fun resume() = tell("resume")

    override fun end() {
        tell("end")
        ended = true
    }

    private fun tell(action: String) {
        val data = mapOf("action" to action, "kind" to kind?.word)
        if (!ended) rivulet.track(childId, Event("session", data, id))
    }
}

/** The fields that an event lacks. */
private fun lacks(event: TrackedEvent, expected: Event, childId: UUID?): List<String> {
    val lacks = ArrayList<String>()
    fun compare(name: String, there: Any?, wanted: Any?) {
        if (wanted != null && there != wanted) lacks += "$name is $there, not $wanted"
    }
    compare("type", event.type, expected.type)
    compare("childId", event.childId, childId)
    compare("sessionId", event.sessionId, expected.sessionId)
    for ((name, wanted) in expected.data) compare("data.$name", event.data[name], wanted)
    for ((name, wanted) in expected.attributes) compare("attributes.$name", event.attributes[name], wanted)
    return lacks
}
