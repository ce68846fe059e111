package io.rivulet

import io.rivulet.ffi.CallbackException
import io.rivulet.ffi.Request
import io.rivulet.ffi.Response
import io.rivulet.ffi.Transport
import java.io.ByteArrayOutputStream
import java.io.IOException
import java.io.InputStream
import java.net.HttpRetryException
import java.net.HttpURLConnection
import java.net.URL
import java.util.concurrent.TimeUnit

/** What longer answer there is, it is not the server's. */
private const val MAX_ANSWER = 4 shl 20

/** HTTP by what both Android and the JVM have. */
internal class HttpTransport(private val timeoutMs: Int) : Transport {
    override fun send(request: Request): Response =
        try {
            exchange(request)
        } catch (error: HttpRetryException) {
            // The JVM's way to say 401 and 407 of a body that it does not keep.
            Response(error.responseCode().toUShort(), null, ByteArray(0))
        } catch (error: IOException) {
            throw CallbackException.Failed(error.toString())
        }

    private fun exchange(request: Request): Response {
        val connection = URL(request.url).openConnection() as HttpURLConnection
        try {
            val until = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(timeoutMs.toLong())
            connection.connectTimeout = timeoutMs
            connection.readTimeout = timeoutMs
            connection.instanceFollowRedirects = false
            connection.useCaches = false
            connection.requestMethod = request.method
            for ((name, value) in request.headers) connection.setRequestProperty(name, value)
            if (request.body.isNotEmpty()) {
                connection.doOutput = true
                // Without it a request that broke would be sent again, unseen.
                connection.setFixedLengthStreamingMode(request.body.size)
                connection.outputStream.use { it.write(request.body) }
            }
            val status = connection.responseCode
            if (status < 0) throw IOException("an answer that is no HTTP")
            val stream = if (status < 400) connection.inputStream else connection.errorStream
            val body = stream?.use { whole(it, until) } ?: ByteArray(0)
            return Response(status.toUShort(), connection.getHeaderField("Retry-After"), body)
        } finally {
            connection.disconnect()
        }
    }

    private fun whole(stream: InputStream, until: Long): ByteArray {
        val body = ByteArrayOutputStream()
        val part = ByteArray(16_384)
        while (true) {
            val read = stream.read(part)
            if (read < 0) return body.toByteArray()
            body.write(part, 0, read)
            if (body.size() > MAX_ANSWER) throw IOException("an answer of more than $MAX_ANSWER bytes")
            if (System.nanoTime() > until) throw IOException("an answer that takes more than $timeoutMs ms")
        }
    }
}
