package io.rivulet

import java.io.File
import java.io.IOException
import java.util.UUID
import kotlinx.coroutines.flow.SharedFlow

/**
 * Sends an app's events. Any thread may use it. Nothing of it throws into the app but [open], and [stats]
 * and [flush] of a client that was closed.
 */
public abstract class Rivulet internal constructor() : AutoCloseable {
    /** What there is to tell an app's developers. The newest 64 are told to whoever collects later. */
    public abstract val notices: SharedFlow<Notice>

    /** A child, by the UUID that it is registered by. */
    public fun child(id: UUID): Child = Child(this, id)

    /** A child, by the text of its UUID. Throws IllegalArgumentException for what is none. */
    public fun child(id: String): Child = child(UUID.fromString(id))

    /**
     * Stores an event of a child, which happened now, and returns its id. It does not wait for the
     * network. What could not be stored is null, and counted in [stats].
     */
    public abstract fun track(childId: UUID, event: Event): UUID?

    /** Sends all that may be sent now, and says what is left. The client sends by itself too. */
    public abstract suspend fun flush(): Progress

    /** What waits, and what became of the rest since the store was made. */
    public abstract fun stats(): Stats

    /**
     * What the family consents to; null leaves it as it is. Without [coppa] what waits is purged and
     * nothing more is taken, without [audio] no speech.
     */
    public abstract fun setConsent(coppa: Boolean? = null, audio: Boolean? = null)

    /** A new API key, which is tried at once. */
    public abstract fun setCredential(key: String)

    /** Who gives client tokens from now on; it is asked at once. */
    public abstract fun setCredential(source: () -> String?)

    /** The app goes to the background: sessions pause, and what waits is sent. */
    public abstract fun background()

    /** The app is back: sessions go on. */
    public abstract fun foreground()

    /**
     * Ends sessions, sends what waits for at most [withinMs], and stops. What is left is sent after the
     * next start. Returns whether the store is free for another client. A second time it does nothing.
     */
    public abstract fun close(withinMs: Long): Boolean

    /** Closes within five seconds. */
    override fun close() {
        close(5_000)
    }

    internal abstract fun begin(childId: UUID, kind: SessionKind?): Running

    public companion object {
        /**
         * Opens the store, or makes it, and begins to send what is in it. Throws [InUseException] where
         * another client has it, another IOException where it cannot be opened, and
         * IllegalArgumentException where a setting is out of its range.
         */
        @JvmStatic
        public fun open(configure: Options.() -> Unit): Rivulet =
            NativeRivulet.open(Options().apply(configure))
    }
}

/** How a client is opened. */
public class Options internal constructor() {
    /** Where the server is, without a path: `https://events.example`. */
    public var url: String = ""

    /** A directory that belongs to this client alone. It is made where it is missing. */
    public var directory: File? = null

    /** The app's own id of the device, at most 64 characters: of no advertiser, and of no hardware. */
    public var deviceId: String? = null

    /** What the device runs. */
    public var platform: Platform? =
        Platform.ANDROID.takeIf { System.getProperty("java.vm.name") == "Dalvik" }

    /** At most 32 characters. */
    public var appVersion: String? = null

    /** Events that wait at most, 1 to 1 000 000: beyond it the oldest are dropped. */
    public var maxEvents: Int = 10_000

    /** Bytes of JSON that wait at most, 100 000 to 1 000 000 000. */
    public var maxBytes: Long = 10_000_000

    /** For how many seconds events are gathered until the server has said otherwise, 1 to 3 600. */
    public var flushIntervalS: Int = 30

    /** How many milliseconds a request may take, at least 1. */
    public var timeoutMs: Int = 30_000

    /** Takes lines for the developer's log, from the client's own thread. None has an event's content. */
    public var log: (String) -> Unit = {}

    internal var credential: Any? = null
    internal var clock: io.rivulet.ffi.Clock? = null
    internal var isAutomatic = true

    /** An API key of scope `ingest`: for programs on a server. In an app it is public. */
    public fun credential(key: String) {
        credential = key
    }

    /**
     * Has the app's backend make a client token, or gives null where there is none now. It is called on
     * the client's own thread, which may be blocked: when there is no token, when one is about to end,
     * and once when one is refused.
     */
    public fun credential(source: () -> String?) {
        credential = source
    }
}

/** Another client has the directory, in this process or another: two would send everything twice. */
public class InUseException internal constructor(message: String) : IOException(message)

/** What there is to tell. */
public sealed class Notice {
    /** The server refused an event for good. It is counted and forgotten. */
    public data class Rejected(
        /** What `track` returned. */
        val id: UUID,
        /** Of docs/sending-events.md#codes-of-a-rejected-event. */
        val code: String,
        /** JSON pointer to the field, where one is the cause. */
        val pointer: String?,
        /** For people. It quotes nothing of the event. */
        val message: String,
    ) : Notice()

    /** [count] events are gone that the server never had. */
    public data class Dropped(
        /** `overflow`, `expired`, `consent`, `too_large`, `disk`, `damaged` or `invalid`. */
        val reason: String,
        val count: Long,
    ) : Notice()

    /** Nothing is sent from now on. Everything stays stored. */
    public data class Stopped(
        /** `unauthorized`, `forbidden`, `disabled` or `refused`. */
        val reason: String,
        /** The same in words. */
        val message: String,
    ) : Notice()
}

/** What a flush left. */
public data class Progress(
    /** Events that still wait. */
    val queued: Long,
    /** Milliseconds until the next attempt makes sense; null where nothing has to be waited for. */
    val waitMs: Long?,
    /** Why nothing is sent: `unauthorized`, `forbidden`, `disabled` or `refused`. */
    val stopped: String?,
)

/** What became of everything that ever was in the store. */
public data class Stats(
    /** Events that wait now. */
    val queued: Long,
    /** Their JSON, in bytes. */
    val queuedBytes: Long,
    /** Events that the server has accepted. */
    val accepted: Long,
    /** Events that the server has refused for good, by its code. */
    val rejected: Map<String, Long>,
    /** Events that were not sent, by reason; `invalid` ones since the client was opened. */
    val dropped: Map<String, Long>,
)

/** A child: a method for each kind of event, which stores it and returns its id; null where it could not be. */
public class Child internal constructor(
    private val rivulet: Rivulet,
    /** The UUID that it is registered by. */
    public val id: UUID,
) : Builders<UUID?>() {
    override fun track(event: Event): UUID? = rivulet.track(id, event)

    /** Begins a session. */
    @JvmOverloads
    public fun session(kind: SessionKind? = null): Session = Session(this, rivulet.begin(id, kind))
}

/** A session: a child's methods, for its events. Heartbeats and active time are sent by themselves. */
public class Session internal constructor(private val child: Child, private val running: Running) :
    Builders<UUID?>(), AutoCloseable {
    /** Its id. */
    public val id: UUID = running.id

    override fun track(event: Event): UUID? = child.track(event.inSession(id))

    /** The child has stopped for now. */
    public fun pause(): Unit = running.pause()

    /** The child goes on. */
    public fun resume(): Unit = running.resume()

    /** It is over. A second time it does nothing. */
    public fun end(): Unit = running.end()

    override fun close(): Unit = end()
}

/** What a client does for a session. */
internal interface Running {
    val id: UUID

    fun pause()

    fun resume()

    fun end()
}
