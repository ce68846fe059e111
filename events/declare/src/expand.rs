//! What a declaration becomes.

use proc_macro2::TokenStream;
use quote::{ToTokens as _, format_ident, quote};
use syn::{Error, ExprRange, Fields, Ident, ItemStruct, LitStr, Result, parse_quote};

use crate::field::{Declared, Kind, Need, about};

pub(crate) fn expand(object: &LitStr, mut item: ItemStruct) -> Result<TokenStream> {
    let about = about(&item.attrs)?;
    let Fields::Named(named) = &mut item.fields else {
        return Err(Error::new_spanned(
            &item.ident,
            "a declaration has named fields",
        ));
    };
    let mut declared = Vec::new();
    for field in &mut named.named {
        let one = Declared::of(field)?;
        field
            .attrs
            .retain(|attribute| !attribute.path().is_ident("field"));
        if let Some(rule) = one.rule_in_words() {
            field.attrs.push(parse_quote!(#[doc = ""]));
            field.attrs.push(parse_quote!(#[doc = #rule]));
        }
        field.attrs.extend(one.serde());
        declared.push(one);
    }

    let mut sent = Vec::new();
    let (mut facts, mut columns) = (Vec::new(), Vec::new());
    let (mut reads, mut checks, mut writes) = (Vec::new(), Vec::new(), Vec::new());
    for one in &declared {
        let name = &one.name;
        match &one.measures {
            None => {
                facts.push(one.fact(&declared)?);
                sent.push(name.clone());
                let value = one.read(object, &declared)?;
                reads.push(quote!(let #name = #value;));
            }
            Some(measures) => {
                let (whole, with) = (&measures.sent, &measures.with);
                if let Some((max, about)) = &measures.declares {
                    let sent_name = whole.to_string();
                    facts.push(quote!(crate::contract::Field {
                        name: #sent_name,
                        about: #about,
                        need: crate::contract::Need::Optional,
                        rule: crate::contract::Rule::MeasuredText { max_bytes: #max },
                    }));
                    sent.push(whole.clone());
                    let field = field(object, whole);
                    reads.push(quote!(let #whole = #field.text_bytes(#max)?;));
                }
                reads.push(quote!(let #name = #whole.as_deref().map(#with);));
            }
        }
        columns.push(one.column());
        checks.push(one.check(object, &declared)?);
        writes.push(one.write());
    }

    let name = &item.ident;
    let (generics, arguments, _) = item.generics.split_for_impl();
    let lifetime = item
        .generics
        .lifetimes()
        .next()
        .map(|one| one.lifetime.clone());
    // What has no text borrows nothing, and is read of values that do.
    let (of, method) = match &lifetime {
        Some(lifetime) => (lifetime.clone(), None),
        None => (parse_quote!('v), Some(quote!(<'v>))),
    };
    let has_text = declared.iter().any(Declared::is_free_text);
    let guard = format_ident!("{}", if has_text { "guard" } else { "_guard" });
    let names = sent.iter().map(Ident::to_string);
    let fields = declared.iter().map(|one| &one.name);
    Ok(quote! {
        #item

        impl #generics #name #arguments {
            /// The names of its fields, as clients send them.
            pub const NAMES: &'static [&'static str] = &[#(#names),*];

            /// What is known of it.
            pub const DECLARATION: crate::contract::Declaration = crate::contract::Declaration {
                about: #about,
                fields: &[#(#facts),*],
                columns: &[#(#columns),*],
            };

            /// Reads what a client sent, one value a field. The first that breaks its rule is told. The guard looks
            /// through each text.
            pub(crate) fn parse #method(
                values: crate::data::Values<#of>,
                #guard: &mut crate::free_text::Guard,
            ) -> Result<Self, crate::rejection::Rejection> {
                let [#(#sent,)* ..] = values;
                #(#reads)*
                Ok(Self { #(#fields,)* })
            }

            /// Judges what came out of Kafka by the same rules.
            pub(crate) fn check(&self) -> crate::rules::Checked {
                #(#checks)*
                Ok(())
            }

            /// Hands over the value of each column.
            pub fn write_columns(&self, to: &mut impl crate::contract::ColumnWriter) {
                #(#writes)*
            }
        }
    })
}

/// The value of a field with its name, for the parser.
fn field(object: &LitStr, name: &Ident) -> TokenStream {
    let text = name.to_string();
    quote!(crate::fields::SentField { object: #object, name: #text, value: #name })
}

/// The first and the last value of a range.
fn ends(range: &ExprRange) -> [TokenStream; 2] {
    let end = |end: &Option<Box<syn::Expr>>| match end {
        Some(end) => end.to_token_stream(),
        None => Error::new_spanned(range, "say both ends of the range").to_compile_error(),
    };
    [end(&range.start), end(&range.end)]
}

impl Declared {
    /// Whether an app may write into it what it likes, and it is kept.
    const fn is_free_text(&self) -> bool {
        matches!(self.kind, Kind::Text(_))
    }

    /// The attributes that make serde leave out what is absent and borrow texts.
    fn serde(&self) -> Vec<syn::Attribute> {
        let is_text = matches!(self.kind, Kind::Text(_) | Kind::LanguageTag(_));
        match (&self.need, &self.kind) {
            (Need::Required, _) => Vec::new(),
            (Need::Default, Kind::Boolean) => vec![
                parse_quote!(#[serde(default, skip_serializing_if = "crate::contract::is_false")]),
            ],
            (Need::Default, _) => vec![parse_quote!(#[serde(default)])],
            _ if is_text => vec![
                parse_quote!(#[serde(borrow, default, deserialize_with = "crate::text::option")]),
                parse_quote!(#[serde(skip_serializing_if = "Option::is_none")]),
            ],
            _ => vec![parse_quote!(#[serde(default, skip_serializing_if = "Option::is_none")])],
        }
    }

    fn rule_in_words(&self) -> Option<String> {
        let range = |range: &ExprRange| {
            let [min, max] = ends(range);
            Some(format!(" From `{min}` to `{max}`.").replace("- ", "-"))
        };
        match &self.kind {
            Kind::Integer(_, of) => range(of),
            Kind::Number(of) => range(of),
            Kind::Text(max) | Kind::LanguageTag(max) => Some(format!(
                " At most `{}` Unicode scalars.",
                max.to_token_stream()
            )),
            Kind::Uuid | Kind::Boolean | Kind::Word => None,
        }
    }

    /// The field for whoever describes it.
    fn fact(&self, declared: &[Self]) -> Result<TokenStream> {
        let (name, about) = (self.name.to_string(), &self.about);
        let need = match &self.need {
            Need::Required => quote!(Required),
            Need::Optional => quote!(Optional),
            Need::Default => quote!(Default),
            Need::For { field, word, only } => {
                let steers = type_of(declared, field)?;
                let field = field.to_string();
                quote!(For { field: #field, word: <#steers>::#word.as_str(), only: #only })
            }
        };
        let rule = self.rule();
        Ok(quote!(crate::contract::Field {
            name: #name,
            about: #about,
            need: crate::contract::Need::#need,
            rule: #rule,
        }))
    }

    fn rule(&self) -> TokenStream {
        let of = &self.of;
        let rule = match &self.kind {
            Kind::Uuid => quote!(Uuid),
            Kind::Boolean => quote!(Boolean),
            Kind::Integer(_, range) => {
                let [min, max] = ends(range);
                quote!(Integer { min: #min, max: #max })
            }
            Kind::Number(range) => {
                let [min, max] = ends(range);
                quote!(Number { min: #min, max: #max })
            }
            Kind::Text(max) => quote!(Text { max_chars: #max }),
            Kind::LanguageTag(max) => quote!(LanguageTag { max_chars: #max }),
            Kind::Word => {
                let name = self.type_name();
                quote!(Word { name: #name, words: <#of>::WORDS })
            }
        };
        quote!(crate::contract::Rule::#rule)
    }

    fn column(&self) -> TokenStream {
        let (name, field) = (&self.column, self.name.to_string());
        let (about, kind, rule) = (&self.about, self.column_type(), self.rule());
        let default = match (&self.need, &self.kind) {
            (Need::Default, Kind::Boolean) => quote!(Some("false")),
            (Need::Default, _) => quote!(Some("0")),
            _ => quote!(None),
        };
        quote!(crate::contract::Column {
            name: #name,
            kind: #kind,
            field: #field,
            about: #about,
            rule: #rule,
            default: #default,
        })
    }

    /// An expression that reads the field of what a client sent.
    fn read(&self, object: &LitStr, declared: &[Self]) -> Result<TokenStream> {
        let of = &self.of;
        let is_required = matches!(self.need, Need::Required);
        let read = match &self.kind {
            Kind::Uuid => quote!(uuid(#is_required)),
            Kind::Boolean => quote!(boolean()),
            Kind::Integer(_, range) => quote!(int(#range)),
            Kind::Number(range) => quote!(number(#range)),
            Kind::Text(max) => quote!(text(#max, guard)),
            Kind::LanguageTag(max) => quote!(language_tag(#max)),
            Kind::Word => quote!(word::<#of>(#is_required)),
        };
        let field = field(object, &self.name);
        Ok(match &self.need {
            Need::Required => quote!({
                let mut field = #field;
                let value = field.#read?;
                field.required(value)?
            }),
            Need::Default => quote!(#field.#read?.unwrap_or_default()),
            Need::For {
                field: steers,
                word,
                only: true,
            } => {
                let steering = type_of(declared, steers)?;
                quote!(if #steers == <#steering>::#word { #field.#read? } else { None })
            }
            Need::Optional | Need::For { .. } => quote!(#field.#read?),
        })
    }

    /// Statements that judge the field of a record.
    fn check(&self, object: &LitStr, declared: &[Self]) -> Result<TokenStream> {
        let name = &self.name;
        let path = format!("{}.{name}", object.value());
        let value = match self.need {
            Need::Required | Need::Default => quote!(Some(self.#name)),
            _ => quote!(self.#name),
        };
        let presence = match &self.need {
            Need::For { field, word, only } => {
                let steering = type_of(declared, field)?;
                let is_for = quote!(self.#field == <#steering>::#word);
                let is_there = quote!(self.#name.is_some());
                quote!(crate::rules::presence(#path, #is_for, #is_there, #only)?;)
            }
            _ => TokenStream::new(),
        };
        let rule = match &self.kind {
            Kind::Integer(_, range) => quote!(crate::rules::int(#path, #value, #range)?;),
            Kind::Number(range) => quote!(crate::rules::number(#path, #value, #range)?;),
            Kind::Text(max) => quote!(crate::rules::text(#path, &self.#name, #max)?;),
            Kind::LanguageTag(max) => {
                quote!(crate::rules::language_tag(#path, &self.#name, #max)?;)
            }
            Kind::Uuid | Kind::Boolean | Kind::Word => TokenStream::new(),
        };
        Ok(quote!(#presence #rule))
    }

    /// The type of its column, as ClickHouse prints it.
    fn column_type(&self) -> String {
        let of = match &self.kind {
            Kind::Uuid => "UUID",
            Kind::Boolean => "Bool",
            Kind::Integer(of, _) => &of.replace('u', "UInt"),
            Kind::Number(_) => "Float64",
            _ if self.has_many_values => "String",
            _ => return "LowCardinality(Nullable(String))".to_owned(),
        };
        format!("Nullable({of})")
    }

    /// A statement that hands the value over to who writes columns.
    fn write(&self) -> TokenStream {
        let name = &self.name;
        let method = match &self.kind {
            Kind::Uuid => "uuid",
            Kind::Boolean => "boolean",
            Kind::Integer(of, _) => of,
            Kind::Number(_) => "f64",
            Kind::Text(_) | Kind::LanguageTag(_) | Kind::Word => "text",
        };
        let method = format_ident!("{method}");
        let value = match (&self.kind, &self.need) {
            (Kind::Word, Need::Required | Need::Default) => quote!(Some(self.#name.as_str())),
            (Kind::Word, _) => quote!(self.#name.map(|word| word.as_str())),
            (Kind::Text(_) | Kind::LanguageTag(_), _) => quote!(self.#name.as_deref()),
            (_, Need::Required | Need::Default) => quote!(Some(self.#name)),
            _ => quote!(self.#name),
        };
        quote!(to.#method(#value);)
    }
}

/// The type of the field that steers another.
fn type_of<'d>(declared: &'d [Declared], field: &Ident) -> Result<&'d syn::Type> {
    let found = declared.iter().find(|one| one.name == *field);
    match found {
        Some(one) if matches!((&one.kind, &one.need), (Kind::Word, Need::Required)) => Ok(&one.of),
        _ => Err(Error::new_spanned(
            field,
            "no required word of this name is declared before",
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::{env, fs, path::Path};

    use super::*;

    /// One field of each kind, so that every line of what a declaration becomes is there to be read.
    fn sample() -> ItemStruct {
        parse_quote! {
            /// An example.
            pub struct Example<'a> {
                /// What was done.
                #[field(column = "example_action")]
                pub action: Action,
                /// The activity.
                pub activity_id: Option<Uuid>,
                /// Whether it was right.
                #[field(only_for(action = Answer))]
                pub is_correct: Option<bool>,
                /// How the child liked it.
                #[field(range = 1..=5, required_for(action = Rate))]
                pub rating: Option<u8>,
                /// How sure the child was.
                #[field(range = 0.0..=1.0)]
                pub confidence: Option<f64>,
                /// Topic.
                #[field(max_chars = 100)]
                pub topic: Option<Cow<'a, str>>,
                /// Words of the text.
                #[field(range = 1..=4_096, measures(content, max_bytes = 8_192, about = "The text.", with = words))]
                pub words: Option<u32>,
                /// The turn asks something.
                #[field(default)]
                pub is_question: bool,
            }
        }
    }

    fn expanded(item: ItemStruct) -> Result<String> {
        let expanded = expand(&parse_quote!("data"), item)?;
        Ok(prettyplease::unparse(&syn::parse2(expanded)?))
    }

    #[test]
    fn the_expansion_that_is_checked_in_is_the_one_that_is_made() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("expansion.txt");
        let made = expanded(sample()).unwrap();
        if env::var_os("RIVULET_UPDATE_DOCS").is_some() {
            fs::write(&path, &made).unwrap();
        }
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            made,
            "RIVULET_UPDATE_DOCS=1 cargo test -p rivulet-declare writes it"
        );
    }

    #[test]
    fn a_declaration_that_lacks_something_says_what() {
        let problems: [(ItemStruct, &str); 7] = [
            (
                parse_quote!(
                    struct S {
                        a: Option<u8>,
                    }
                ),
                "say what the field means",
            ),
            (
                parse_quote!(
                    struct S {
                        #[doc = "A."]
                        a: Option<u8>,
                    }
                ),
                "a number has a `range`",
            ),
            (
                parse_quote!(
                    struct S<'a> {
                        #[doc = "A."]
                        #[field(max_chars = 1)]
                        a: Cow<'a, str>,
                    }
                ),
                "a text is optional",
            ),
            (
                parse_quote!(
                    struct S {
                        #[doc = "A."]
                        #[field(default)]
                        a: Option<bool>,
                    }
                ),
                "`default` is for what is no",
            ),
            (
                parse_quote!(
                    struct S {
                        #[doc = "A."]
                        #[field(requierd)]
                        a: bool,
                    }
                ),
                "no such attribute",
            ),
            (
                parse_quote!(
                    struct S {
                        #[doc = "A."]
                        #[field(only_for(b = Answer))]
                        a: Option<bool>,
                    }
                ),
                "no required word",
            ),
            (
                parse_quote!(
                    struct S(u8);
                ),
                "has named fields",
            ),
        ];
        for (item, problem) in problems {
            let told = expanded(item).unwrap_err().to_string();
            assert!(told.contains(problem), "{told}");
        }
    }
}
