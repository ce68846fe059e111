//! `#[declare]`: the fields of an object of an event, declared once.
//!
//! The struct is what a record holds of the object. From its fields, in the order in which they are written, the
//! macro makes
//!
//! - serde's attributes, so that the encoded record leaves out what is absent and borrows its texts;
//! - `DECLARATION`, what is known of the object: its fields as clients send them, from which the OpenAPI document and
//!   the reference in the docs are made, and its columns in ClickHouse;
//! - `write_columns`, which hands over the values of these columns;
//! - `parse`, which reads what a client sent and tells the first field that breaks a rule;
//! - `check`, which judges what came out of Kafka by the same rules.
//!
//! `expansion.txt` beside the sources shows what a struct becomes.
//!
//! # What a field may say
//!
//! The type says the kind: `Uuid`, `bool`, `u8` to `u64`, `f64`, `Cow<str>`, or an enum of words. `Option<T>` is
//! optional and `T` is required. A doc comment is required: it is the description in OpenAPI, in the docs and in
//! ClickHouse.
//!
//! | in `#[field(…)]` | |
//! | --- | --- |
//! | `default` | may be absent although it is no `Option`: then it is 0 or false |
//! | `range = 1..=5` | the values of a number; required for numbers |
//! | `max_chars = 100` | Unicode scalars of a text; required for texts |
//! | `language_tag` | the text is a BCP 47 tag |
//! | `required_for(action = Rate)` | required when the field `action`, declared before it, is this word |
//! | `only_for(action = Answer)` | the same, and dropped when `action` is another word |
//! | `column = "session_action"` | the name of the column, where it is not the field's |
//! | `many_values` | the column is a plain `String`: it has too many different texts for a dictionary |
//! | `measures(content, with = count_words)` | clients send the text `content`, of which only this measure is kept |
//! | `measures(content, max_bytes = 8_192, about = "…", with = count_chars)` | the same; the first one declares `content` |

use proc_macro::TokenStream;
use syn::parse_macro_input;

mod expand;
mod field;

/// Declares the fields of the object of an event that is named: `#[declare(object = "data")]`.
#[proc_macro_attribute]
pub fn declare(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let mut object: Option<syn::LitStr> = None;
    let parser = syn::meta::parser(|meta| {
        if !meta.path.is_ident("object") {
            return Err(meta.error("expected `object`"));
        }
        object = Some(meta.value()?.parse()?);
        Ok(())
    });
    parse_macro_input!(arguments with parser);
    let item = parse_macro_input!(item as syn::ItemStruct);
    let expanded = match object {
        Some(object) => expand::expand(&object, item),
        None => Err(syn::Error::new_spanned(
            &item.ident,
            "say the object: `#[declare(object = \"data\")]`",
        )),
    };
    expanded
        .unwrap_or_else(|error| error.to_compile_error())
        .into()
}
