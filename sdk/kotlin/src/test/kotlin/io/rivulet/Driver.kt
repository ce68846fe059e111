package io.rivulet

import com.google.gson.GsonBuilder
import com.google.gson.JsonObject
import com.google.gson.JsonParser
import java.io.File
import java.util.UUID

/**
 * The driver of the conformance suite: JSON lines in, one line of answer each. Nothing happens by itself:
 * time is what the suite says.
 */
private class Driver : io.rivulet.ffi.Clock {
    private var wall = 0L
    private var monotonic = 0L
    private lateinit var client: NativeRivulet

    override fun wallMs() = wall

    override fun monotonicMs() = monotonic

    private fun setClock(command: JsonObject) {
        wall = command["wall_ms"].asLong
        monotonic = command["monotonic_ms"].asLong
    }

    private fun open(command: JsonObject): Map<String, Any?> {
        setClock(command)
        val tokens = ArrayDeque(command["tokens"].asJsonArray.map { it.asString })
        try {
            client = Rivulet.open {
                url = command["url"].asString
                directory = File(command["dir"].asString)
                command["max_events"]?.let { maxEvents = it.asInt }
                command["max_bytes"]?.let { maxBytes = it.asLong }
                timeoutMs = 2_000
                isAutomatic = false
                clock = this@Driver
                credential { if (tokens.size > 1) tokens.removeFirst() else tokens.first() }
            } as NativeRivulet
        } catch (error: InUseException) {
            return mapOf("ok" to false, "error" to "in_use")
        }
        return OK
    }

    private fun track(command: JsonObject): Map<String, Any?> {
        val data = command["data"].asJsonObject.entrySet().associate { (name, value) ->
            val plain = value.asJsonPrimitive
            name to when {
                plain.isBoolean -> plain.asBoolean
                plain.isNumber -> plain.asNumber
                else -> plain.asString
            }
        }
        val session = command["session_id"]?.let { UUID.fromString(it.asString) }
        val event = Event(command["type"].asString, data, session)
        val id = client.track(UUID.fromString(command["child_id"].asString), event)
        if (id != null) return mapOf("id" to id.toString())
        val dropped = client.notices.replayCache.last { it is Notice.Dropped } as Notice.Dropped
        return mapOf("dropped" to dropped.reason)
    }

    private fun send(): Map<String, Any?> {
        val left = client.sendNow()
        val stopped = left.stopped.takeIf { it != "refused" }
        return mapOf("queued" to left.queued, "wait_ms" to left.waitMs, "stopped" to stopped)
    }

    private fun report(): Map<String, Any?> {
        val stats = client.stats()
        return mapOf(
            "queued" to stats.queued,
            "accepted" to stats.accepted,
            "rejected" to stats.rejected,
            "dropped" to stats.dropped,
        )
    }

    fun obey(command: JsonObject): Map<String, Any?> {
        when (command["op"].asString) {
            "open" -> return open(command)
            "clock" -> setClock(command)
            "track" -> return track(command)
            "send" -> return send()
            "report" -> return report()
            "credential" -> client.setCredential(command["token"].asString)
            "consent" -> client.setConsent(command["coppa"]?.asBoolean, command["audio"]?.asBoolean)
            "close" -> return mapOf("ok" to client.close(1_000))
        }
        return OK
    }
}

private val OK = mapOf<String, Any?>("ok" to true)

fun main() {
    val gson = GsonBuilder().serializeNulls().create()
    val driver = Driver()
    while (true) {
        val line = readlnOrNull() ?: return
        println(gson.toJson(driver.obey(JsonParser.parseString(line).asJsonObject)))
    }
}
