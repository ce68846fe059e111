//! What the declaration of one field says.

use quote::ToTokens as _;
use syn::{
    Attribute, Error, Expr, ExprRange, Field, GenericArgument, Ident, LitStr, PathArguments,
    Result, Type,
};

pub(crate) struct Declared {
    pub(crate) name: Ident,
    /// Without the `Option`.
    pub(crate) of: Type,
    pub(crate) about: String,
    pub(crate) kind: Kind,
    pub(crate) need: Need,
    pub(crate) column: String,
    pub(crate) has_many_values: bool,
    pub(crate) measures: Option<Measures>,
}

pub(crate) enum Kind {
    Uuid,
    Boolean,
    /// The name of the type, such as `u8`.
    Integer(String, ExprRange),
    Number(ExprRange),
    Text(Expr),
    LanguageTag(Expr),
    Word,
}

pub(crate) enum Need {
    Required,
    Optional,
    Default,
    For {
        field: Ident,
        word: Ident,
        only: bool,
    },
}

/// A field that is sent, of which the declared field is a measure.
pub(crate) struct Measures {
    pub(crate) sent: Ident,
    /// Bytes at most and the description: said by the first measure alone.
    pub(crate) declares: Option<(Expr, String)>,
    pub(crate) with: Ident,
}

#[derive(Default)]
struct Attributes {
    default: bool,
    language_tag: bool,
    many_values: bool,
    range: Option<ExprRange>,
    max_chars: Option<Expr>,
    column: Option<String>,
    needed: Option<Need>,
    measures: Option<Measures>,
}

impl Declared {
    pub(crate) fn of(field: &Field) -> Result<Self> {
        let fail = |problem: &str| Err(Error::new_spanned(field, problem));
        let Some(name) = field.ident.clone() else {
            return fail("a declared field has a name");
        };
        let about = about(&field.attrs)?;
        if about.is_empty() {
            return fail("say what the field means, in a doc comment");
        }
        let attributes = Attributes::of(field)?;
        let (is_optional, of) = match argument(&field.ty, "Option") {
            Some(inner) => (true, inner.clone()),
            None => (false, field.ty.clone()),
        };
        let need = match (attributes.needed, is_optional, attributes.default) {
            (Some(need), true, false) => need,
            (None, true, false) => Need::Optional,
            (None, false, true) => Need::Default,
            (None, false, false) => Need::Required,
            _ => {
                return fail(
                    "`default` is for what is no `Option`, `required_for` and `only_for` for what is one",
                );
            }
        };
        let kind = match (last(&of).as_str(), attributes.range, attributes.max_chars) {
            ("Uuid", None, None) => Kind::Uuid,
            ("bool", None, None) => Kind::Boolean,
            (integer @ ("u8" | "u16" | "u32" | "u64"), Some(range), None) => {
                Kind::Integer(integer.to_owned(), range)
            }
            ("f64", Some(range), None) => Kind::Number(range),
            ("Cow", None, Some(max)) if attributes.language_tag => Kind::LanguageTag(max),
            ("Cow", None, Some(max)) => Kind::Text(max),
            ("Uuid" | "bool" | "u8" | "u16" | "u32" | "u64" | "f64" | "Cow", ..) => {
                return fail(
                    "a number has a `range`, a text has `max_chars`, and nothing else has them",
                );
            }
            (_, None, None) => Kind::Word,
            _ => return fail("this type has neither a `range` nor `max_chars`"),
        };
        if matches!(kind, Kind::Text(_) | Kind::LanguageTag(_)) && !is_optional {
            return fail("a text is optional: a blank one is absent");
        }
        if attributes.language_tag && !matches!(kind, Kind::LanguageTag(_)) {
            return fail("`language_tag` is for texts");
        }
        Ok(Self {
            column: attributes.column.unwrap_or_else(|| name.to_string()),
            name,
            of,
            about,
            kind,
            need,
            has_many_values: attributes.many_values,
            measures: attributes.measures,
        })
    }

    /// The name of its type, without parameters.
    pub(crate) fn type_name(&self) -> String {
        last(&self.of)
    }
}

impl Attributes {
    fn of(field: &Field) -> Result<Self> {
        let mut found = Self::default();
        for attribute in field
            .attrs
            .iter()
            .filter(|one| one.path().is_ident("field"))
        {
            attribute.parse_nested_meta(|meta| {
                let Some(name) = meta.path.get_ident().map(Ident::to_string) else {
                    return Err(meta.error("expected a name"));
                };
                match name.as_str() {
                    "default" => found.default = true,
                    "language_tag" => found.language_tag = true,
                    "many_values" => found.many_values = true,
                    "range" => found.range = Some(meta.value()?.parse()?),
                    "max_chars" => found.max_chars = Some(meta.value()?.parse()?),
                    "column" => found.column = Some(meta.value()?.parse::<LitStr>()?.value()),
                    "required_for" | "only_for" => meta.parse_nested_meta(|of| {
                        let Some(field) = of.path.get_ident().cloned() else {
                            return Err(of.error("expected a field"));
                        };
                        found.needed = Some(Need::For {
                            field,
                            word: of.value()?.parse()?,
                            only: name == "only_for",
                        });
                        Ok(())
                    })?,
                    "measures" => found.measures = Some(measures(&meta)?),
                    _ => return Err(meta.error("no such attribute: see `rivulet-declare`")),
                }
                Ok(())
            })?;
        }
        Ok(found)
    }
}

fn measures(meta: &syn::meta::ParseNestedMeta<'_>) -> Result<Measures> {
    let (mut sent, mut max_bytes, mut about, mut with) = (None, None, None, None);
    meta.parse_nested_meta(|of| {
        if of.path.is_ident("max_bytes") {
            max_bytes = Some(of.value()?.parse()?);
        } else if of.path.is_ident("about") {
            about = Some(of.value()?.parse::<LitStr>()?.value());
        } else if of.path.is_ident("with") {
            with = Some(of.value()?.parse()?);
        } else {
            sent = of.path.get_ident().cloned();
        }
        Ok(())
    })?;
    let (Some(sent), Some(with)) = (sent, with) else {
        return Err(meta.error("expected the field that is sent, and `with`"));
    };
    Ok(Measures {
        sent,
        declares: max_bytes.zip(about),
        with,
    })
}

/// The doc comment, as one line.
pub(crate) fn about(attributes: &[Attribute]) -> Result<String> {
    let mut lines = Vec::new();
    for attribute in attributes.iter().filter(|one| one.path().is_ident("doc")) {
        if let Expr::Lit(syn::ExprLit {
            lit: syn::Lit::Str(line),
            ..
        }) = &attribute.meta.require_name_value()?.value
        {
            lines.push(line.value().trim().to_owned());
        }
    }
    Ok(lines.join(" "))
}

/// `T` of `Name<T>`.
fn argument<'t>(of: &'t Type, name: &str) -> Option<&'t Type> {
    let Type::Path(path) = of else { return None };
    let last = path.path.segments.last()?;
    match &last.arguments {
        PathArguments::AngleBracketed(arguments) if last.ident == name => {
            match arguments.args.first() {
                Some(GenericArgument::Type(inner)) => Some(inner),
                _ => None,
            }
        }
        _ => None,
    }
}

/// The last name of a type's path.
fn last(of: &Type) -> String {
    match of {
        Type::Path(path) => path.path.segments.last().map(|last| last.ident.to_string()),
        _ => None,
    }
    .unwrap_or_else(|| of.to_token_stream().to_string())
}
