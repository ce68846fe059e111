import Foundation

/// What a method of `Events` makes, for `Child.track` and a fake's assertions.
public struct Event: Sendable {
    /// `interaction`, `message`, `speech` or `session`.
    public let type: String
    /// Its fields by their names on the wire. What is nil, or no number though it is a double, is left out.
    public let data: [String: any Sendable]
    /// The session that it belongs to.
    public let sessionId: UUID?
    /// For analysts: at most 16; strings of at most 256 characters, numbers and booleans.
    public let attributes: [String: any Sendable]

    init(
        type: String, data: [String: (any Sendable)?], sessionId: UUID? = nil,
        attributes: [String: any Sendable] = [:]
    ) {
        self.type = type
        self.data = data.compactMapValues { value in
            if let number = value as? Double, !number.isFinite { return nil }
            return value
        }
        self.sessionId = sessionId
        self.attributes = attributes
    }

    func inSession(_ id: UUID) -> Event {
        Event(type: type, data: data, sessionId: id, attributes: attributes)
    }
}

/// Makes events and tracks none: `Events().answer(correct: true)`.
public struct Events: Builders {
    public init() {}

    public func track(_ event: Event) -> Event { event }
}

/// Of strings, numbers and booleans; nil for anything else.
func json(_ fields: [String: any Sendable]) -> String? {
    guard JSONSerialization.isValidJSONObject(fields), let data = try? JSONSerialization.data(withJSONObject: fields)
    else { return nil }
    return String(data: data, encoding: .utf8)
}
