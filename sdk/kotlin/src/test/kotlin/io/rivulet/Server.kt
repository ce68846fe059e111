package io.rivulet

import com.google.gson.JsonArray
import com.google.gson.JsonObject
import com.google.gson.JsonParser
import com.sun.net.httpserver.HttpExchange
import com.sun.net.httpserver.HttpServer
import java.io.InputStreamReader
import java.net.InetSocketAddress
import java.time.Instant
import java.util.ArrayDeque
import java.util.concurrent.Executors
import java.util.concurrent.LinkedBlockingQueue
import java.util.zip.GZIPInputStream

private const val CONFIG =
    """{"enabled":true,"max_events":1000,"max_event_bytes":65536,"flush_interval_s":30,"consents":null}"""

/** An answer to come: its status, its headers, and the result of each event but index and id. */
class Answer(
    val status: Int,
    val headers: Map<String, String> = emptyMap(),
    val result: Map<String, String> = mapOf("outcome" to "accepted"),
)

/** A server on loopback that answers what a test has written down, and else accepts everything. */
class Server : AutoCloseable {
    val script = ArrayDeque<Answer>()

    /** What came in batches that were answered 200. */
    val events = LinkedBlockingQueue<JsonObject>()
    val tokens = LinkedBlockingQueue<String>()

    private val threads = Executors.newCachedThreadPool { Thread(it).apply { isDaemon = true } }
    private val http = HttpServer.create(InetSocketAddress("127.0.0.1", 0), 0).apply {
        executor = threads
        createContext("/v1/config") { answer(it, 200, CONFIG) }
        createContext("/v1/events") { take(it) }
        start()
    }

    val url = "http://127.0.0.1:${http.address.port}"

    @Synchronized
    private fun take(exchange: HttpExchange) {
        val text = InputStreamReader(GZIPInputStream(exchange.requestBody))
        val body = JsonParser.parseReader(text).asJsonObject
        tokens += exchange.requestHeaders.getFirst("Authorization")
        val answer = script.poll() ?: Answer(200)
        val results = JsonArray()
        for ((index, event) in body.getAsJsonArray("events").withIndex()) {
            val result = JsonObject()
            result.addProperty("index", index)
            result.add("id", event.asJsonObject["id"])
            for ((name, value) in answer.result) result.addProperty(name, value)
            results.add(result)
            if (answer.status == 200) events += event.asJsonObject
        }
        for ((name, value) in answer.headers) exchange.responseHeaders.add(name, value)
        answer(exchange, answer.status, """{"received_at":"${Instant.now()}","results":$results}""")
    }

    private fun answer(exchange: HttpExchange, status: Int, text: String) {
        exchange.sendResponseHeaders(status, text.length.toLong())
        exchange.responseBody.use { it.write(text.toByteArray()) }
    }

    override fun close() {
        http.stop(0)
        threads.shutdownNow()
    }
}
