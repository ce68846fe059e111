package io.rivulet

import io.rivulet.ffi.Client
import io.rivulet.ffi.Credential
import io.rivulet.ffi.NotStored
import io.rivulet.ffi.Observer
import io.rivulet.ffi.RivuletException
import io.rivulet.ffi.Settings
import io.rivulet.ffi.TokenSource
import java.io.IOException
import java.util.UUID
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.channels.BufferOverflow
import kotlinx.coroutines.flow.MutableSharedFlow
import kotlinx.coroutines.withContext

/** The core, in Kotlin's way of speaking. */
internal class NativeRivulet(
    private val client: Client,
    override val notices: MutableSharedFlow<Notice>,
    private val log: (String) -> Unit,
) : Rivulet() {
    override fun track(childId: UUID, event: Event): UUID? =
        try {
            val attributes = event.attributes.takeIf { it.isNotEmpty() }?.let(::json)
            val session = event.sessionId?.toString()
            val data = json(event.data)
            UUID.fromString(client.track(childId.toString(), event.type, data, session, attributes))
        } catch (why: NotStored) {
            said(why)
        } catch (error: Exception) {
            said(error)
        }

    override suspend fun flush(): Progress = withContext(Dispatchers.IO) {
        client.flush()
        sendNow()
    }

    /** All that may be sent now. */
    fun sendNow(): Progress {
        val left = asJava { client.send() }
        return Progress(left.queued.toLong(), left.waitMs?.toLong(), left.stopped)
    }

    override fun stats(): Stats {
        val stats = asJava { client.stats() }
        val counts = { of: Map<String, ULong> -> of.mapValues { (_, count) -> count.toLong() } }
        return Stats(
            stats.queued.toLong(),
            stats.queuedBytes.toLong(),
            stats.accepted.toLong(),
            counts(stats.rejected),
            counts(stats.dropped),
        )
    }

    override fun setConsent(coppa: Boolean?, audio: Boolean?) = client.setConsent(coppa, audio)

    override fun setCredential(key: String) = client.setCredential(Credential.Key(key))

    override fun setCredential(source: () -> String?) =
        client.setCredential(Credential.Token(Source(source, log)))

    override fun background() = client.background()

    override fun foreground() = client.foreground()

    override fun close(withinMs: Long): Boolean = client.close(withinMs.coerceAtLeast(0).toULong())

    override fun begin(childId: UUID, kind: SessionKind?): Running =
        try {
            val native = kind?.let { io.rivulet.ffi.SessionKind.valueOf(it.name) }
            NativeSession(client.session(childId.toString(), native))
        } catch (error: Exception) {
            said(error)
            NoSession
        }

    private fun said(error: Exception): UUID? {
        log("an event was not stored: ${error.message}")
        return null
    }

    companion object {
        fun open(options: Options): Rivulet {
            val directory = requireNotNull(options.directory) { "directory must be set: events wait in it" }
            val credential = when (val given = options.credential) {
                is String -> Credential.Key(given)
                null -> throw IllegalArgumentException("credential must be set: a key, or who gives tokens")
                else -> {
                    @Suppress("UNCHECKED_CAST")
                    Credential.Token(Source(given as () -> String?, options.log))
                }
            }
            val settings = Settings(
                url = options.url,
                dir = directory.path,
                deviceId = options.deviceId,
                platform = options.platform?.let { io.rivulet.ffi.Platform.valueOf(it.name) },
                appVersion = options.appVersion,
                maxEvents = options.maxEvents.coerceAtLeast(0).toULong(),
                maxBytes = options.maxBytes.coerceAtLeast(0).toULong(),
                flushIntervalS = options.flushIntervalS.coerceAtLeast(0).toULong(),
                background = options.isAutomatic,
            )
            val transport = HttpTransport(options.timeoutMs)
            val notices = MutableSharedFlow<Notice>(64, onBufferOverflow = BufferOverflow.DROP_OLDEST)
            val observer = Teller(notices, options.log)
            val client = asJava { Client.open(settings, credential, transport, observer, options.clock) }
            return NativeRivulet(client, notices, options.log)
        }
    }
}

/** The core's errors as Java's. */
private fun <T> asJava(call: () -> T): T =
    try {
        call()
    } catch (error: RivuletException) {
        val message = error.message.orEmpty()
        throw when (error) {
            is RivuletException.InUse -> InUseException(message)
            is RivuletException.Config -> IllegalArgumentException(message)
            is RivuletException.Closed -> IllegalStateException(message)
            is RivuletException.Store -> IOException(message)
        }
    }

private class Teller(
    private val notices: MutableSharedFlow<Notice>,
    private val log: (String) -> Unit,
) : Observer {
    override fun rejected(rejected: io.rivulet.ffi.Rejected) {
        val id = UUID.fromString(rejected.id)
        notices.tryEmit(Notice.Rejected(id, rejected.code, rejected.pointer, rejected.message))
    }

    override fun dropped(reason: String, count: ULong) {
        notices.tryEmit(Notice.Dropped(reason, count.toLong()))
    }

    override fun stopped(reason: String, message: String) {
        notices.tryEmit(Notice.Stopped(reason, message))
    }

    override fun debug(line: String) = log(line)
}

private class Source(private val ask: () -> String?, private val log: (String) -> Unit) : TokenSource {
    override fun token(): String? =
        try {
            ask()
        } catch (error: Exception) {
            log("there is no token: $error")
            null
        }
}

private class NativeSession(private val session: io.rivulet.ffi.Session) : Running {
    override val id: UUID = UUID.fromString(session.id())

    override fun pause() = session.pause()

    override fun resume() = session.resume()

    override fun end() = session.end()
}

/** Of a client that was closed. */
private object NoSession : Running {
    override val id: UUID = UUID(0, 0)

    override fun pause() = Unit

    override fun resume() = Unit

    override fun end() = Unit
}
