package io.rivulet

import java.util.UUID
import kotlinx.coroutines.runBlocking
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertNull
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test

/** The fake has the client's ways, and assertions. */
class FakeRivuletTest {
    private val rivulet = FakeRivulet()

    /** An app. */
    private fun lesson(rivulet: Rivulet) {
        rivulet.child(CHILD).session(SessionKind.QUIZ).use {
            it.answer(correct = true, subject = "math", attributes = mapOf("experiment" to "b"))
        }
    }

    @Test
    fun `it finds what was tracked`() {
        lesson(rivulet)
        val answer = rivulet.assertTracked(Events.answer(correct = true), CHILD)
        assertEquals(mapOf("action" to "answer", "is_correct" to true, "subject" to "math"), answer.data)
        val (start, _, end) = rivulet.events
        assertEquals(mapOf("action" to "start", "kind" to "quiz"), start.data)
        assertEquals(mapOf("action" to "end", "kind" to "quiz"), end.data)
        assertEquals(start.sessionId, answer.sessionId)
        rivulet.assertNotTracked(Events.answer(correct = false))
        rivulet.assertNotTracked(Events.answer(correct = true), UUID.randomUUID())
    }

    @Test
    fun `it says what is missing`() {
        lesson(rivulet)
        fun says(expected: Event, words: String) {
            val error = assertThrows(AssertionError::class.java) { rivulet.assertTracked(expected) }
            assertTrue(words in error.message!!, error.message)
        }
        says(Events.answer(correct = false), "data.is_correct is true, not false")
        says(
            Events.answer(correct = true, attributes = mapOf("experiment" to "a")),
            "attributes.experiment is b, not a",
        )
        says(Events.message(conversationId = CHILD, sequence = 1, role = Role.USER), "none among 3 events")
        assertThrows(AssertionError::class.java) { rivulet.assertNotTracked(Events.answer(correct = true)) }
    }

    @Test
    fun `it counts as the client does`() {
        rivulet.child(CHILD).view()
        rivulet.setConsent(coppa = false)
        assertNull(rivulet.child(CHILD).view())
        rivulet.setConsent(coppa = true, audio = false)
        assertNull(rivulet.child(CHILD).speech(audioSessionId = CHILD, windowMs = 1000))
        assertEquals(Stats(1, 0, 0, emptyMap(), mapOf("consent" to 2L)), rivulet.stats())
        runBlocking { rivulet.flush() }
        assertEquals(1, rivulet.stats().accepted)
        rivulet.close()
        assertNull(rivulet.child(CHILD).view())
    }
}
