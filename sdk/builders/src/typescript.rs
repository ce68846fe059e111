//! `sdk/typescript/src/events.ts`.

use std::{collections::BTreeMap, fmt::Write as _};

use rivulet_events::{EventType, contract::Rule};

use crate::{Argument, Builder, WRITTEN, about, builders, camel, common, device, pascal, words};

/// Where the module is, from the root of the repository.
pub const PATH: &str = "sdk/typescript/src/events.ts";

const HEAD: &str = "\
import { builder, type EventOptions, type RivuletEvent } from \"./event.js\";

";

/// Characters of a line at most.
const WIDTH: usize = 110;

/// The module's text.
#[must_use]
pub fn module() -> String {
    let mut text = format!("// {WRITTEN}\n{HEAD}");
    let kinds: Vec<_> = EventType::ALL.iter().map(|kind| kind.as_str()).collect();
    union(&mut text, "EventType", "The types of events.", &kinds);
    for list in words() {
        union(&mut text, list.name, list.about, list.words);
    }
    interface(
        &mut text,
        "Device",
        "The device that events come from.",
        &device(),
    );
    let builders = builders();
    for &kind in EventType::ALL {
        let (its, common) = (
            builders.iter().filter(|of| of.event_type == kind),
            common(kind),
        );
        if its.clone().any(|builder| builder.action.is_some()) {
            let about = format!("What every {} takes.", kind.as_str());
            interface(&mut text, &base(kind), &about, &common);
        }
        for builder in its {
            builder_in(&mut text, builder, &common);
        }
    }
    methods(&mut text, &builders);
    renamed(&mut text, &builders);
    text
}

fn union(text: &mut String, name: &str, about: &str, words: &[&str]) {
    let line = format!("export type {name} = \"{}\";", words.join("\" | \""));
    let lines = match line.len() > WIDTH {
        true => format!(
            "export type {name} =\n  | \"{}\";",
            words.join("\"\n  | \"")
        ),
        false => line,
    };
    push(text, format_args!("/** {about} */\n{lines}\n\n"));
}

fn interface(text: &mut String, name: &str, about: &str, arguments: &[Argument]) {
    push(
        text,
        format_args!("/** {about} */\nexport interface {name} {{\n"),
    );
    for argument in arguments {
        let optional = if argument.required { "" } else { "?" };
        let (doc, name, kind) = (&argument.doc, camel(argument.name), kind(argument.rule));
        let mut doc = format!("  /** {doc} */");
        if doc.len() > WIDTH {
            doc = format!("  /**\n   * {}\n   */", argument.doc);
        }
        push(text, format_args!("{doc}\n  {name}{optional}: {kind};\n"));
    }
    text.push_str("}\n\n");
}

/// The interface of what all builders of a type take.
fn base(kind: EventType) -> String {
    format!("{}Fields", pascal(kind.as_str()))
}

/// The fields of a builder that its type's other builders do not have, or need not.
fn own(builder: &Builder, common: &[Argument]) -> Vec<Argument> {
    let is_common = |argument: &&Argument| {
        let same =
            |other: &Argument| (other.field, other.required) == (argument.field, argument.required);
        builder.action.is_some() && common.iter().any(same)
    };
    builder
        .arguments
        .iter()
        .filter(|argument| !is_common(argument))
        .cloned()
        .collect()
}

/// The interface of what a builder takes.
fn fields(builder: &Builder) -> String {
    match builder.action {
        Some(_) if own(builder, &common(builder.event_type)).is_empty() => base(builder.event_type),
        _ => format!("{}Fields", pascal(builder.name)),
    }
}

/// What the builder takes, and the builder.
fn builder_in(text: &mut String, builder: &Builder, common: &[Argument]) {
    let (name, kind) = (camel(builder.name), builder.event_type.as_str());
    let fields = fields(builder);
    let about = about(builder);
    let action = builder
        .action
        .map(|(field, word)| format!(", {{ {field}: \"{word}\" }}"));
    let action = action.unwrap_or_default();
    let own = own(builder, common);
    if !own.is_empty() {
        let extends = builder
            .action
            .map(|_| format!(" extends {}", base(builder.event_type)));
        let head = fields.clone() + &extends.unwrap_or_default();
        interface(text, &head, &format!("What {{@link {name}}} takes."), &own);
    }
    let parameters = parameters(builder, &fields);
    push(
        text,
        format_args!(
            "/** {about} */\nexport const {name}: ({parameters}) => RivuletEvent =\n  \
             /* @__PURE__ */ builder(\"{kind}\"{action});\n\n"
        ),
    );
}

/// A session's event belongs to a session; any other may.
fn parameters(builder: &Builder, fields: &str) -> String {
    let required = builder.arguments.iter().any(|argument| argument.required);
    let optional = if required { "" } else { "?" };
    match builder.event_type {
        EventType::Session => {
            format!("fields{optional}: {fields}, options: EventOptions & {{ sessionId: string }}")
        }
        _ => format!("fields{optional}: {fields}, options?: EventOptions"),
    }
}

/// The methods that a child has, one a builder; a session is an object of its own.
fn methods(text: &mut String, builders: &[Builder]) {
    text.push_str(
        "/** A child's events: each method makes one and tracks it. */\n\
         export interface Builders<Tracked> {\n  \
         /** Tracks an event that a builder has made. */\n  track(event: RivuletEvent): Tracked;\n",
    );
    let is_method = |builder: &&Builder| builder.event_type != EventType::Session;
    let mut names = Vec::new();
    for builder in builders.iter().filter(is_method) {
        let name = camel(builder.name);
        let parameters = parameters(builder, &fields(builder));
        push(
            text,
            format_args!("  /** Tracks {{@link {name}}}. */\n  {name}({parameters}): Tracked;\n"),
        );
        names.push(name);
    }
    let names = names.join(", ");
    push(
        text,
        format_args!(
            "}}\n\n/** What makes the methods of {{@link Builders}}. */\nexport const builders = {{ {names} }};\n\n"
        ),
    );
}

/// The names that are not the wire's in camel case.
fn renamed(text: &mut String, builders: &[Builder]) {
    let arguments = builders.iter().flat_map(|builder| &builder.arguments);
    let names: BTreeMap<_, _> = arguments
        .filter(|argument| argument.name != argument.field)
        .map(|argument| (camel(argument.name), argument.field))
        .collect();
    text.push_str(
        "/** Fields whose names on the wire are not their names here in snake case. */\n",
    );
    text.push_str("export const RENAMED: Record<string, string> = {\n");
    for (name, field) in names {
        push(text, format_args!("  {name}: \"{field}\",\n"));
    }
    text.push_str("};\n");
}

fn kind(rule: &Rule) -> &'static str {
    match rule {
        Rule::Boolean => "boolean",
        Rule::Integer { .. } | Rule::Number { .. } => "number",
        Rule::Word { name, .. } => name,
        Rule::Uuid | Rule::Text { .. } | Rule::MeasuredText { .. } | Rule::LanguageTag { .. } => {
            "string"
        }
    }
}

fn push(text: &mut String, part: std::fmt::Arguments<'_>) {
    // A string takes everything.
    let _ = text.write_fmt(part);
}
