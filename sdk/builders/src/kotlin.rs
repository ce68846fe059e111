//! `sdk/kotlin/src/main/kotlin/io/rivulet/Events.kt`.

use rivulet_events::contract::Rule;

use crate::{Argument, Builder, WRITTEN, about, camel, method_words, methods};

/// Where the file is, from the root of the repository.
pub const PATH: &str = "sdk/kotlin/src/main/kotlin/io/rivulet/Events.kt";

const CLASS: &str = "
/**
 * A method for each kind of event, which makes one and gives it to [track]. Each also takes the session
 * that it belongs to, and attributes for analysts: at most 16, which are strings of at most 256
 * characters, numbers or booleans.
 */
public abstract class Builders<out Tracked> internal constructor() {
    /** Takes an event that was made. */
    public abstract fun track(event: Event): Tracked
";

/// The file's text.
#[must_use]
pub fn file() -> String {
    let mut text = format!("// {WRITTEN}\npackage io.rivulet\n\nimport java.util.UUID\n");
    for list in method_words() {
        let words: Vec<_> = list.words.iter().map(|word| constant(word)).collect();
        text += &format!(
            "\n/** {} */\npublic enum class {}(internal val word: String) {{\n    {},\n}}\n",
            list.about,
            list.name,
            words.join(",\n    ")
        );
    }
    text += CLASS;
    for builder in methods() {
        text += &method(&builder);
    }
    text + "}\n"
}

fn constant(word: &str) -> String {
    format!("{}(\"{word}\")", word.to_uppercase())
}

fn method(builder: &Builder) -> String {
    let mut text = format!("\n    /**\n     * {}\n     *\n", about(builder));
    for Argument { name, doc, .. } in &builder.arguments {
        text += &format!("     * @param {} {doc}\n", camel(name));
    }
    text += &format!("     */\n    public fun {}(\n", camel(builder.name));
    for argument in &builder.arguments {
        let (name, kind) = (camel(argument.name), kind(argument));
        text += &match argument.required {
            true => format!("        {name}: {kind},\n"),
            false => format!("        {name}: {kind}? = null,\n"),
        };
    }
    text +=
        "        sessionId: UUID? = null,\n        attributes: Map<String, Any> = emptyMap(),\n";
    text += "    ): Tracked = track(\n";
    text += &format!(
        "        Event(\n            \"{}\",\n            mapOf(\n",
        builder.event_type.as_str()
    );
    if let Some((field, word)) = builder.action {
        text += &format!("                \"{field}\" to \"{word}\",\n");
    }
    for argument in &builder.arguments {
        let mut value = camel(argument.name);
        if let Rule::Word { .. } = argument.rule {
            value += if argument.required { ".word" } else { "?.word" };
        }
        text += &format!("                \"{}\" to {value},\n", argument.field);
    }
    text + "            ),\n            sessionId,\n            attributes,\n        ),\n    )\n"
}

/// Times are `Long`, as Android's clocks are.
fn kind(argument: &Argument) -> &'static str {
    match argument.rule {
        Rule::Boolean => "Boolean",
        Rule::Integer { .. } if argument.field.ends_with("_ms") => "Long",
        Rule::Integer { .. } => "Int",
        Rule::Number { .. } => "Double",
        Rule::Word { name, .. } => name,
        Rule::Uuid => "UUID",
        Rule::Text { .. } | Rule::MeasuredText { .. } | Rule::LanguageTag { .. } => "String",
    }
}
