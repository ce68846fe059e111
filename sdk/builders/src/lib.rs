//! The builders of events that the SDKs have, written from the declarations in [`rivulet_events::data`]: what
//! they are is here, how a language writes them is in a module of its own. A test keeps each file.

use rivulet_events::{
    Device, EventType,
    contract::{Declaration, Need, Rule},
};

pub mod kotlin;
pub mod python;
pub mod swift;
pub mod typescript;

/// A function that makes an event.
#[derive(Debug)]
pub struct Builder {
    /// Its name, in snake case.
    pub name: &'static str,
    /// The type of the event.
    pub event_type: EventType,
    /// The field that the builder stands for, and the word that it gives it.
    pub action: Option<(&'static str, &'static str)>,
    /// What it takes.
    pub arguments: Vec<Argument>,
}

/// A field that a builder takes.
#[derive(Clone, Debug)]
pub struct Argument {
    /// The name of the field on the wire.
    pub field: &'static str,
    /// Its name in a builder, in snake case: `is_` is taken off.
    pub name: &'static str,
    /// What it means, with its range and its default.
    pub doc: String,
    /// Whether an event without it is refused.
    pub required: bool,
    /// Which values it takes.
    pub rule: &'static Rule,
}

/// A list of words that a field may be.
#[derive(Debug)]
pub struct Words {
    /// Its name, in Pascal case.
    pub name: &'static str,
    /// What it says, from the first field of it.
    pub about: &'static str,
    /// The words.
    pub words: &'static [&'static str],
}

/// The builders, in the order of the declarations: one for each type, or one for each word of a field that
/// others depend on.
#[must_use]
pub fn builders() -> Vec<Builder> {
    let mut builders = Vec::new();
    for &event_type in EventType::ALL {
        let object = event_type.declaration();
        match choice(object) {
            Some((field, words)) => builders.extend(words.iter().map(|&word| Builder {
                name: word,
                event_type,
                action: Some((field, word)),
                arguments: arguments(object, Some((field, word))),
            })),
            None => builders.push(Builder {
                name: event_type.as_str(),
                event_type,
                action: None,
                arguments: arguments(object, None),
            }),
        }
    }
    builders
}

/// What every builder of a type takes, none of it required.
#[must_use]
pub fn common(event_type: EventType) -> Vec<Argument> {
    let object = event_type.declaration();
    arguments(object, choice(object).map(|(field, _)| (field, "")))
}

/// What is known of a device.
#[must_use]
pub fn device() -> Vec<Argument> {
    arguments(Device::DECLARATION, None)
}

/// Every list of words of a builder's field, once.
#[must_use]
pub fn words() -> Vec<Words> {
    let objects = EventType::ALL.iter().map(|kind| kind.declaration());
    let mut lists: Vec<Words> = Vec::new();
    for field in objects
        .chain([Device::DECLARATION])
        .flat_map(|object| object.fields)
    {
        if let Rule::Word { name, words } = field.rule
            && lists.iter().all(|list| list.name != name)
        {
            let about = field.about;
            lists.push(Words { name, about, words });
        }
    }
    lists
}

/// The builders that are methods of a child, each with what is required first: a session is an object of
/// its own.
#[must_use]
pub fn methods() -> Vec<Builder> {
    let mut methods = builders();
    methods.retain(|builder| builder.event_type != EventType::Session);
    for method in &mut methods {
        method.arguments.sort_by_key(|argument| !argument.required);
    }
    methods
}

/// The words that methods, devices and sessions take.
#[must_use]
pub fn method_words() -> Vec<Words> {
    let methods = methods();
    let mut words = words();
    words.retain(|list| {
        let is_list = |argument: &Argument| {
            matches!(argument.rule, Rule::Word { name, .. } if *name == list.name)
        };
        let arguments = methods.iter().flat_map(|method| &method.arguments);
        list.name == "SessionKind" || arguments.chain(&device()).any(is_list)
    });
    words
}

/// What a method does, in a sentence or two.
#[must_use]
pub fn about(builder: &Builder) -> String {
    let about = builder.event_type.declaration().about;
    match builder.action {
        Some((field, word)) => format!("{about} This is `{field}` `{word}`."),
        None => about.to_owned(),
    }
}

/// The first line of a file of builders, after what begins a comment.
pub(crate) const WRITTEN: &str = "Written from the declarations in events/: RIVULET_UPDATE_DOCS=1 cargo test -p rivulet-builders";

/// A name in snake case as languages with camel case write it.
#[must_use]
pub fn camel(snake: &str) -> String {
    let mut parts = snake.split('_');
    let mut name = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        name += &pascal(part);
    }
    name
}

/// A name in snake case as types are named.
#[must_use]
pub fn pascal(snake: &str) -> String {
    let capital = |part: &str| {
        let (first, rest) = part.split_at(part.len().min(1));
        first.to_uppercase() + rest
    };
    snake.split('_').map(capital).collect()
}

/// The field whose word says what else the event needs, and its words.
fn choice(object: Declaration) -> Option<(&'static str, &'static [&'static str])> {
    let chosen = object.fields.iter().find_map(|field| match field.need {
        Need::For { field, .. } => Some(field),
        _ => None,
    })?;
    object.fields.iter().find_map(|field| match field.rule {
        Rule::Word { words, .. } if field.name == chosen => Some((chosen, words)),
        _ => None,
    })
}

fn arguments(object: Declaration, action: Option<(&str, &str)>) -> Vec<Argument> {
    let mut arguments = Vec::new();
    for field in object.fields {
        let chosen = |of: &str, word: &str| action == Some((of, word));
        let required = match field.need {
            _ if action.is_some_and(|(name, _)| name == field.name) => continue,
            Need::Required => true,
            Need::Optional | Need::Default => false,
            Need::For {
                field: of,
                word,
                only,
            } => match chosen(of, word) {
                false if only => continue,
                is => is,
            },
        };
        let mut doc = vec![field.about.to_owned()];
        match field.rule {
            Rule::Uuid => doc.push("A UUID.".to_owned()),
            // The type says it.
            Rule::Word { .. } => {}
            ref rule => doc.push(rule.to_string()),
        }
        match (&field.need, &field.rule) {
            (Need::Default, Rule::Boolean) => doc.push("Default false.".to_owned()),
            (Need::Default, _) => doc.push("Default 0.".to_owned()),
            _ => {}
        }
        doc.retain(|part| !part.is_empty());
        arguments.push(Argument {
            field: field.name,
            name: field.name.strip_prefix("is_").unwrap_or(field.name),
            doc: doc.join(" "),
            required,
            rule: &field.rule,
        });
    }
    arguments
}
