import Foundation
import RivuletFFI

/// HTTP by the platform's URLSession. It is called on a thread that may be blocked.
final class HttpTransport: Transport, @unchecked Sendable {
    private let session: URLSession

    init(timeout: TimeInterval) {
        let configuration = URLSessionConfiguration.ephemeral
        configuration.timeoutIntervalForResource = timeout
        configuration.httpShouldSetCookies = false
        session = URLSession(configuration: configuration, delegate: NoRedirects(), delegateQueue: nil)
    }

    deinit { session.finishTasksAndInvalidate() }

    func send(request: Request) throws -> Response {
        guard let url = URL(string: request.url) else {
            throw CallbackError.Failed(reason: "no URL: \(request.url)")
        }
        var whole = URLRequest(url: url)
        whole.httpMethod = request.method
        whole.allHTTPHeaderFields = request.headers
        whole.httpBody = request.body.isEmpty ? nil : request.body
        var answer: Result<Response, CallbackError> = .failure(.Failed(reason: "no answer"))
        let answered = DispatchSemaphore(value: 0)
        session.dataTask(with: whole) { body, response, error in
            if let response = response as? HTTPURLResponse, error == nil {
                let status = UInt16(response.statusCode)
                let retryAfter = response.value(forHTTPHeaderField: "Retry-After")
                answer = .success(Response(status: status, retryAfter: retryAfter, body: body ?? Data()))
            } else if let error {
                answer = .failure(.Failed(reason: error.localizedDescription))
            }
            answered.signal()
        }.resume()
        answered.wait()
        return try answer.get()
    }
}

/// What answers with a redirect is no server of events.
private final class NoRedirects: NSObject, URLSessionTaskDelegate {
    func urlSession(
        _ session: URLSession, task: URLSessionTask, willPerformHTTPRedirection response: HTTPURLResponse,
        newRequest request: URLRequest, completionHandler: @escaping (URLRequest?) -> Void
    ) {
        completionHandler(nil)
    }
}
