//! `sdk/swift/Sources/Rivulet/Events.swift`.

use rivulet_events::contract::Rule;

use crate::{Argument, Builder, WRITTEN, about, camel, method_words, methods};

/// Where the file is, from the root of the repository.
pub const PATH: &str = "sdk/swift/Sources/Rivulet/Events.swift";

const PROTOCOL: &str = "
/// A method for each kind of event, which makes one and gives it to `track`. Each also takes the session
/// that it belongs to, and attributes for analysts: at most 16, which are strings of at most 256
/// characters, numbers or booleans.
public protocol Builders {
    associatedtype Tracked
    /// Takes an event that was made.
    @discardableResult
    func track(_ event: Event) -> Tracked
}

extension Builders {";

/// The file's text.
#[must_use]
pub fn file() -> String {
    let mut text = format!("// {WRITTEN}\nimport Foundation\n");
    for list in method_words() {
        let words = list.words.join(", ");
        let (about, name) = (list.about, list.name);
        text += &format!(
            "\n/// {about}\npublic enum {name}: String, Sendable {{\n    case {words}\n}}\n"
        );
    }
    text += PROTOCOL;
    for builder in methods() {
        text += &method(&builder);
    }
    text + "}\n"
}

fn method(builder: &Builder) -> String {
    let mut text = format!("\n    /// {}\n    /// - Parameters:\n", about(builder));
    for Argument { name, doc, .. } in &builder.arguments {
        text += &format!("    ///   - {}: {doc}\n", camel(name));
    }
    text += &format!(
        "    @discardableResult\n    public func {}(\n",
        camel(builder.name)
    );
    for argument in &builder.arguments {
        let (name, kind) = (camel(argument.name), kind(argument.rule));
        text += &match argument.required {
            true => format!("        {name}: {kind},\n"),
            false => format!("        {name}: {kind}? = nil,\n"),
        };
    }
    text += "        sessionId: UUID? = nil,\n        attributes: [String: any Sendable] = [:]\n";
    text += "    ) -> Tracked {\n";
    text += &format!(
        "        track(Event(type: \"{}\", data: [\n",
        builder.event_type.as_str()
    );
    if let Some((field, word)) = builder.action {
        text += &format!("            \"{field}\": \"{word}\",\n");
    }
    for argument in &builder.arguments {
        let value = camel(argument.name);
        let value = match (argument.rule, argument.required) {
            (Rule::Word { .. }, true) => value + ".rawValue",
            (Rule::Word { .. }, false) => value + "?.rawValue",
            (Rule::Uuid, true) => value + ".uuidString",
            (Rule::Uuid, false) => value + "?.uuidString",
            _ => value,
        };
        text += &format!("            \"{}\": {value},\n", argument.field);
    }
    text + "        ], sessionId: sessionId, attributes: attributes))\n    }\n"
}

fn kind(rule: &Rule) -> &'static str {
    match rule {
        Rule::Boolean => "Bool",
        Rule::Integer { .. } => "Int",
        Rule::Number { .. } => "Double",
        Rule::Word { name, .. } => name,
        Rule::Uuid => "UUID",
        Rule::Text { .. } | Rule::MeasuredText { .. } | Rule::LanguageTag { .. } => "String",
    }
}
