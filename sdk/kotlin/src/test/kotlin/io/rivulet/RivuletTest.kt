package io.rivulet

import com.google.gson.JsonObject
import com.google.gson.JsonParser
import java.io.File
import java.util.UUID
import kotlinx.coroutines.flow.first
import kotlinx.coroutines.flow.take
import kotlinx.coroutines.flow.toList
import kotlinx.coroutines.runBlocking
import org.junit.jupiter.api.AfterEach
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertNotNull
import org.junit.jupiter.api.Assertions.assertNull
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir

/** The client against a server on loopback. */
class RivuletTest {
    @TempDir
    lateinit var dir: File

    private val server = Server()
    private val opened = ArrayList<Rivulet>()

    private fun open(configure: Options.() -> Unit = {}): Rivulet =
        Rivulet.open {
            url = server.url
            credential("key")
            directory = File(dir, "store")
            configure()
        }.also { opened += it }

    private fun flush(rivulet: Rivulet) = runBlocking { rivulet.flush() }

    @AfterEach
    fun close() {
        opened.forEach { it.close() }
        server.close()
    }

    @Test
    fun `an event goes out as it was made`() {
        val rivulet = open {
            deviceId = "d-1"
            platform = Platform.OTHER
            appVersion = "4.12.1"
        }
        val id = rivulet.child(CHILD.toString()).answer(
            correct = true,
            subject = "math",
            responseTimeMs = 2300,
            attributes = mapOf("experiment" to "b"),
        )
        assertEquals(Progress(0, null, null), flush(rivulet))
        val event = server.events.single()
        val at = event.remove("occurred_at").asString
        assertTrue(Regex("""\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z""").matches(at), at)
        val expected = """{"id":"$id","type":"interaction","child_id":"$CHILD",""" +
            """"device":{"id":"d-1","platform":"other","app_version":"4.12.1"},""" +
            """"attributes":{"experiment":"b"},""" +
            """"data":{"action":"answer","is_correct":true,"subject":"math","response_time_ms":2300}}"""
        assertEquals(JsonParser.parseString(expected), event)
        assertEquals(Stats(0, 0, 1, emptyMap(), emptyMap()), rivulet.stats())
    }

    @Test
    fun `the client sends by itself`() {
        open { flushIntervalS = 1 }.child(CHILD).view()
        assertEquals("view", server.events.take()["data"].asJsonObject["action"].asString)
    }

    @Test
    fun `a session tells of itself, and its events belong to it`() {
        open().use { rivulet ->
            val lesson = rivulet.child(CHILD).session(SessionKind.LEARNING)
            lesson.use {
                it.view(subject = "math")
                rivulet.background()
                rivulet.foreground()
                it.pause()
                it.resume()
            }
            lesson.end()
            flush(rivulet)
            val action = { event: JsonObject -> event["data"].asJsonObject["action"].asString }
            val said = server.events.map { it["type"].asString + " " + action(it) }
            val steps = listOf("start", "pause", "resume", "pause", "resume", "end").map { "session $it" }
            assertEquals(steps.take(1) + "interaction view" + steps.drop(1), said)
            assertEquals(setOf(lesson.id.toString()), server.events.map { it["session_id"].asString }.toSet())
            assertEquals("""{"action":"start","kind":"learning"}""", server.events.first()["data"].toString())
        }
    }

    @Test
    fun `what the server refuses is told`() {
        val rivulet = open()
        val result = mapOf("outcome" to "rejected", "code" to "unknown_child", "pointer" to "/child_id") +
            mapOf("message" to "no")
        server.script += Answer(200, result = result)
        val id = rivulet.child(CHILD).hint()
        flush(rivulet)
        val told = runBlocking { rivulet.notices.first() }
        assertEquals(Notice.Rejected(id!!, "unknown_child", "/child_id", "no"), told)
        assertEquals(mapOf("unknown_child" to 1L), rivulet.stats().rejected)
    }

    @Test
    fun `what is dropped is told and counted`() {
        val rivulet = open()
        rivulet.setConsent(coppa = false)
        assertNull(rivulet.child(CHILD).skip())
        rivulet.setConsent(coppa = true, audio = false)
        assertNull(rivulet.child(CHILD).speech(audioSessionId = CHILD, windowMs = 1000))
        assertNotNull(rivulet.child(CHILD).skip())
        val told = runBlocking { rivulet.notices.take(2).toList() }
        assertEquals(List(2) { Notice.Dropped("consent", 1) }, told)
        assertEquals(mapOf("consent" to 2L), rivulet.stats().dropped)
    }

    @Test
    fun `what JSON has no word for loses no event`() {
        val rivulet = open()
        val topic = "half \uD83D of it, \"whole\"\n\uD83D\uDE00"
        rivulet.child(CHILD).view(confidence = Double.NaN, topic = topic)
        flush(rivulet)
        val data = server.events.single()["data"].asJsonObject
        assertEquals(setOf("action", "topic"), data.keySet())
        assertEquals("half \uFFFD of it, \"whole\"\n\uD83D\uDE00", data["topic"].asString)
    }

    @Test
    fun `a token is asked for again when it is refused`() {
        val tokens = ArrayDeque(listOf("old", "new"))
        val rivulet = open { credential { tokens.removeFirst() } }
        server.script += Answer(401)
        rivulet.child(CHILD).view()
        flush(rivulet)
        assertEquals(listOf("Bearer old", "Bearer new"), server.tokens.toList())
        assertEquals(1, rivulet.stats().accepted)
    }

    @Test
    fun `a credential that is refused stops until there is another`() {
        val rivulet = open()
        server.script += Answer(403)
        rivulet.child(CHILD).view()
        assertEquals("forbidden", flush(rivulet).stopped)
        val told = runBlocking { rivulet.notices.first() }
        assertEquals(Notice.Stopped("forbidden", "the credential does not allow to send (403)"), told)
        rivulet.setCredential("other")
        flush(rivulet)
        assertEquals(listOf("Bearer key", "Bearer other"), server.tokens.toList())
    }

    @Test
    fun `a credential and a log that throw end nothing`() {
        val rivulet = open {
            credential { error("no network") }
            log = { error("no log") }
        }
        rivulet.child(CHILD).view()
        assertEquals(1, flush(rivulet).queued)
        rivulet.setCredential("key")
        assertEquals(0, flush(rivulet).queued)
    }

    @Test
    fun `the server says for how long to wait`() {
        val rivulet = open()
        server.script += Answer(503, mapOf("Retry-After" to "7"))
        rivulet.child(CHILD).view()
        val left = flush(rivulet)
        assertEquals(1, left.queued)
        // A part of it may have passed.
        assertTrue(left.waitMs in 1_001L..8_400L, left.toString())
        flush(rivulet)
        assertEquals(1, server.tokens.size)
    }

    @Test
    fun `a redirect is not followed`() {
        val rivulet = open()
        server.script += Answer(302, mapOf("Location" to "${server.url}/v1/config"))
        rivulet.child(CHILD).view()
        assertEquals("refused", flush(rivulet).stopped)
    }

    @Test
    fun `a store has one client, and keeps what was not sent`() {
        val rivulet = open { url = "http://127.0.0.1:9" }
        val id = rivulet.child(CHILD).view()
        val session = rivulet.child(CHILD).session()
        assertThrows(InUseException::class.java) { open() }
        assertTrue(rivulet.close(1_000))
        assertNull(rivulet.child(CHILD).view())
        session.end()
        rivulet.child(CHILD).session().use { assertNull(it.view()) }
        assertThrows(IllegalStateException::class.java) { rivulet.stats() }
        flush(open())
        assertEquals(id.toString(), server.events.first()["id"].asString)
        assertEquals(listOf("interaction", "session", "session"), server.events.map { it["type"].asString })
    }

    @Test
    fun `settings have a range`() {
        val wrong = listOf<Options.() -> Unit>(
            { url = "events.example" },
            { directory = null },
            { maxEvents = -1 },
            { maxBytes = 1 },
            { flushIntervalS = 0 },
        )
        for (setting in wrong) assertThrows(IllegalArgumentException::class.java) { open(setting) }
        assertThrows(IllegalArgumentException::class.java) { open().child("no-uuid") }
    }
}

internal val CHILD: UUID = UUID.fromString("0f9e8d7c-2222-4222-8333-444444444444")
