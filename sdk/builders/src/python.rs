//! `sdk/python/src/rivulet/events.py`.

use rivulet_events::contract::Rule;

use crate::{Argument, Builder, WRITTEN, about, method_words, methods};

/// Where the module is, from the root of the repository.
pub const PATH: &str = "sdk/python/src/rivulet/events.py";

const HEAD: &str = r#"
"""What an app can tell: a method for each kind of event."""

from __future__ import annotations

import abc
from typing import Generic, Literal, TypeVar

from ._event import Attributes, Event, Id

Tracked = TypeVar("Tracked", covariant=True)
"#;

const CLASS: &str = r#"

class Builders(abc.ABC, Generic[Tracked]):
    """A method for each kind of event, which makes one and gives it to `track`.

    Each also takes `session_id`, the session that it belongs to, and `attributes`, for analysts: at most
    16, which are strings of at most 256 characters, numbers or booleans.
    """

    @abc.abstractmethod
    def track(self, event: Event) -> Tracked:
        """Takes an event that was made."""
"#;

/// The module's text.
#[must_use]
pub fn module() -> String {
    let mut text = format!("# {WRITTEN}{HEAD}");
    for list in method_words() {
        let words = list.words.join("\", \"");
        text += &format!(
            "\n#: {}\n{} = Literal[\"{words}\"]\n",
            list.about, list.name
        );
    }
    text += CLASS;
    for builder in methods() {
        text += &method(&builder);
    }
    text
}

fn method(builder: &Builder) -> String {
    let mut text = format!("\n    def {}(\n        self,\n        *,\n", builder.name);
    for argument in &builder.arguments {
        let (name, kind) = (argument.name, kind(argument.rule));
        text += &match argument.required {
            true => format!("        {name}: {kind},\n"),
            false => format!("        {name}: {kind} | None = None,\n"),
        };
    }
    text +=
        "        session_id: Id | None = None,\n        attributes: Attributes | None = None,\n";
    text += "    ) -> Tracked:\n";
    text += &format!("        \"\"\"{}\n\n", about(builder));
    for Argument { name, doc, .. } in &builder.arguments {
        text += &format!("        {name}: {doc}\n");
    }
    text += "        \"\"\"\n        data = {\n";
    if let Some((field, word)) = builder.action {
        text += &format!("            \"{field}\": \"{word}\",\n");
    }
    for argument in &builder.arguments {
        text += &format!("            \"{}\": {},\n", argument.field, argument.name);
    }
    let kind = builder.event_type.as_str();
    text + &format!(
        "        }}\n        return self.track(Event(\"{kind}\", data, session_id, attributes))\n"
    )
}

fn kind(rule: &Rule) -> &'static str {
    match rule {
        Rule::Boolean => "bool",
        Rule::Integer { .. } => "int",
        Rule::Number { .. } => "float",
        Rule::Word { name, .. } => name,
        Rule::Uuid => "Id",
        Rule::Text { .. } | Rule::MeasuredText { .. } | Rule::LanguageTag { .. } => "str",
    }
}
