import Foundation
import RivuletFFI

/// How a client is opened.
public struct Options: Sendable {
    /// Where the server is, without a path: `https://events.example`.
    public var url: String
    /// As whom to send.
    public var credential: Credential
    /// A directory that belongs to this client alone. It is made where it is missing.
    public var directory: URL
    /// The app's own id of the device, at most 64 characters: of no advertiser, and of no hardware.
    public var deviceId: String?
    /// What the device runs.
    public var platform: Platform?
    /// At most 32 characters.
    public var appVersion: String?
    /// Events that wait at most, 1 to 1 000 000: beyond it the oldest are dropped.
    public var maxEvents: UInt64 = 10_000
    /// Bytes of JSON that wait at most, 100 000 to 1 000 000 000.
    public var maxBytes: UInt64 = 10_000_000
    /// For how many seconds events are gathered until the server has said otherwise, 1 to 3 600.
    public var flushIntervalS: UInt64 = 30
    /// How many seconds a request may take.
    public var timeoutS: TimeInterval = 30
    /// What there is to tell an app's developers, from the client's own thread or from the one that calls
    /// it. It must not block, and must not call the client.
    public var onNotice: @Sendable (Notice) -> Void = { _ in }

    public init(url: String, credential: Credential, directory: URL) {
        self.url = url
        self.credential = credential
        self.directory = directory
        #if os(iOS)
        platform = .ios
        #endif
    }
}

/// As whom to send.
public enum Credential: Sendable {
    /// An API key of scope `ingest`. In an app it is public.
    case key(String)
    /// Has the app's backend make a client token, or gives nil where there is none now. It is called on
    /// the client's own thread, which may be blocked: when there is no token, when one is about to end,
    /// and once when one is refused.
    case token(@Sendable () throws -> String?)

    var native: RivuletFFI.Credential {
        switch self {
        case .key(let key): .key(key: key)
        case .token(let ask): .token(source: Source(ask))
        }
    }
}

/// What there is to tell.
public enum Notice: Sendable {
    /// The server refused an event for good: a code of docs/sending-events.md, and a JSON pointer to the
    /// field.
    case rejected(id: UUID?, code: String, pointer: String?, message: String)
    /// Events are gone that the server never had: `overflow`, `expired`, `consent`, `too_large`, `disk`,
    /// `damaged` or `invalid`.
    case dropped(reason: String, count: UInt64)
    /// Nothing is sent from now on: `unauthorized`, `forbidden`, `disabled` or `refused`, and the same in
    /// words.
    case stopped(reason: String, message: String)
    /// A line for the developer's log. It never has an event's content.
    case log(String)
}

/// What a flush left.
public typealias Progress = RivuletFFI.Progress
/// What became of everything that ever was in the store.
public typealias Stats = RivuletFFI.Stats
/// Why a client cannot be opened or asked.
public typealias RivuletError = RivuletFFI.RivuletError

/// Sends an app's events. Any thread may use it.
public final class Rivulet: @unchecked Sendable {
    private let client: Client
    private let onNotice: @Sendable (Notice) -> Void

    /// Opens the store, or makes it, and begins to send what is in it.
    public init(_ options: Options) throws {
        onNotice = options.onNotice
        let settings = Settings(
            url: options.url,
            dir: options.directory.path,
            deviceId: options.deviceId,
            platform: options.platform.map(\.native),
            appVersion: options.appVersion,
            maxEvents: options.maxEvents,
            maxBytes: options.maxBytes,
            flushIntervalS: options.flushIntervalS
        )
        client = try Client.open(
            settings: settings,
            credential: options.credential.native,
            transport: HttpTransport(timeout: options.timeoutS),
            observer: Teller(options.onNotice),
            clock: nil
        )
    }

    /// A child, by the UUID that it is registered by.
    public func child(_ id: UUID) -> Child { Child(rivulet: self, id: id) }

    /// Stores an event of a child, which happened now, and returns its id. It does not wait for the
    /// network. What could not be stored is nil, and counted in `stats`.
    @discardableResult
    public func track(_ childId: UUID, _ event: Event) -> UUID? {
        do {
            let id = try client.track(
                child: childId.uuidString,
                kind: event.type,
                // What is no JSON is refused as such, and counted.
                data: json(event.data) ?? "",
                session: event.sessionId?.uuidString,
                attributes: event.attributes.isEmpty ? nil : json(event.attributes) ?? ""
            )
            return UUID(uuidString: id)
        } catch {
            onNotice(.log("an event was not stored: \(error)"))
            return nil
        }
    }

    /// Sends all that may be sent now, and says what is left. The client sends by itself too.
    public func flush() async throws -> Progress {
        client.flush()
        return try await withCheckedThrowingContinuation { done in
            DispatchQueue.global().async { done.resume(with: Result { try self.client.send() }) }
        }
    }

    /// What waits, and what became of the rest since the store was made.
    public func stats() throws -> Stats { try client.stats() }

    /// What the family consents to; nil leaves it as it is. Without `coppa` what waits is purged and
    /// nothing more is taken, without `audio` no speech.
    public func setConsent(coppa: Bool? = nil, audio: Bool? = nil) { client.setConsent(coppa: coppa, audio: audio) }

    /// A new credential, which is tried at once.
    public func setCredential(_ credential: Credential) { client.setCredential(credential: credential.native) }

    /// The app goes to the background: sessions pause, and what waits is sent.
    public func background() { client.background() }

    /// The app is back: sessions go on.
    public func foreground() { client.foreground() }

    /// Ends sessions, sends what waits for at most `within` seconds, and stops. What is left is sent
    /// after the next start. Returns whether the store is free for another client. A second time it does
    /// nothing.
    @discardableResult
    public func close(within: TimeInterval = 5) -> Bool { client.close(withinMs: UInt64(max(0, within) * 1000)) }

    fileprivate func begin(_ childId: UUID, _ kind: SessionKind?) -> RivuletFFI.Session? {
        try? client.session(child: childId.uuidString, kind: kind.map(\.native))
    }
}

/// A child: a method for each kind of event, which stores it and returns its id, or nil where it could
/// not be stored.
public struct Child: Builders, Sendable {
    let rivulet: Rivulet
    /// The UUID that it is registered by.
    public let id: UUID

    @discardableResult
    public func track(_ event: Event) -> UUID? { rivulet.track(id, event) }

    /// Begins a session.
    public func session(_ kind: SessionKind? = nil) -> Session {
        Session(child: self, running: rivulet.begin(id, kind))
    }
}

/// A session: a child's methods, for events that belong to it. Its heartbeats and its active time are
/// sent by themselves. It ends with `end`, or when nobody has it any more.
public final class Session: Builders, @unchecked Sendable {
    private let child: Child
    /// None of a client that was closed.
    private let running: RivuletFFI.Session?
    /// Its id.
    public let id: UUID

    init(child: Child, running: RivuletFFI.Session?) {
        self.child = child
        self.running = running
        id = running.flatMap { UUID(uuidString: $0.id()) } ?? UUID()
    }

    @discardableResult
    public func track(_ event: Event) -> UUID? { child.track(event.inSession(id)) }

    /// The child has stopped for now.
    public func pause() { running?.pause() }

    /// The child goes on.
    public func resume() { running?.resume() }

    /// It is over. A second time it does nothing.
    public func end() { running?.end() }
}

private final class Teller: Observer, @unchecked Sendable {
    private let tell: @Sendable (Notice) -> Void

    init(_ tell: @escaping @Sendable (Notice) -> Void) { self.tell = tell }

    func rejected(rejected: Rejected) throws {
        let id = UUID(uuidString: rejected.id)
        tell(.rejected(id: id, code: rejected.code, pointer: rejected.pointer, message: rejected.message))
    }

    func dropped(reason: String, count: UInt64) throws { tell(.dropped(reason: reason, count: count)) }

    func stopped(reason: String, message: String) throws { tell(.stopped(reason: reason, message: message)) }

    func debug(line: String) throws { tell(.log(line)) }
}

private final class Source: TokenSource, @unchecked Sendable {
    private let ask: @Sendable () throws -> String?

    init(_ ask: @escaping @Sendable () throws -> String?) { self.ask = ask }

    func token() throws -> String? { try ask() }
}

extension Platform {
    var native: RivuletFFI.Platform {
        switch self {
        case .ios: .ios
        case .android: .android
        case .web: .web
        case .other: .other
        }
    }
}

extension SessionKind {
    var native: RivuletFFI.SessionKind {
        switch self {
        case .learning: .learning
        case .play: .play
        case .story: .story
        case .quiz: .quiz
        case .review: .review
        case .other: .other
        }
    }
}
