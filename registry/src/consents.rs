//! What a parent consents to, and the evidence of it: under which version of the text, how consent was given, and when.

use rivulet_events::{ConsentVersion, ParentId};
use sqlx::PgPool;

use crate::families::Error;

/// The consents a change speaks of; `None` stays as it was, and is not granted for a new parent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Consents {
    /// Any processing at all.
    pub coppa: Option<Consent>,
    /// Speech events.
    pub audio: Option<Consent>,
    /// History for BI.
    pub analytics: Option<Consent>,
}

impl Consents {
    /// Whether one of them is given, perhaps again.
    pub(crate) fn give_any(&self) -> bool {
        let mut all = [&self.coppa, &self.audio, &self.analytics].into_iter();
        all.any(|consent| consent.as_ref().is_some_and(|consent| consent.granted))
    }
}

/// A consent as it is declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Consent {
    /// Whether it is granted. A revocation, and a consent that was asked for and not given, is `false`.
    pub granted: bool,
    /// The version of the text that the parent was shown.
    pub version: Option<ConsentVersion>,
    /// How the parent gave it.
    pub method: Method,
}

/// Without evidence: no version, and the method [`Method::Other`].
impl From<bool> for Consent {
    fn from(granted: bool) -> Self {
        Self {
            granted,
            version: None,
            method: Method::Other,
        }
    }
}

/// How a parent gave a consent: the methods of 16 CFR 312.5(b)(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// A form that was signed and sent back by post, fax or as a scan.
    Form,
    /// A payment by card or another system that tells the account holder of each transaction.
    Card,
    /// An official identification that was checked, by itself or against a picture of the face.
    Id,
    /// Questions that only the parent can answer.
    Knowledge,
    /// A text message or an e-mail, followed by a further step that confirms it.
    TextPlus,
    /// Any other, or not said: a call, a video conference, a school's consent, or none that was noted.
    Other,
}

impl Method {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Form,
        Self::Card,
        Self::Id,
        Self::Knowledge,
        Self::TextPlus,
        Self::Other,
    ];

    /// Its word in JSON and in PostgreSQL.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Form => "form",
            Self::Card => "card",
            Self::Id => "id",
            Self::Knowledge => "knowledge",
            Self::TextPlus => "text-plus",
            Self::Other => "other",
        }
    }

    /// The method of this word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.as_str() == word)
    }
}

/// The columns of `parents` that a consent is, as they are bound: all of them null where it stays as it was.
pub(crate) type Columns<'c> = (Option<bool>, Option<&'c str>, Option<&'static str>);

/// A consent's columns of `parents`.
pub(crate) fn columns(consent: Option<&Consent>) -> Columns<'_> {
    match consent {
        None => (None, None, None),
        Some(consent) => (
            Some(consent.granted),
            consent.version.as_ref().map(ConsentVersion::as_str),
            Some(consent.method.as_str()),
        ),
    }
}

/// Whether a family consented to `coppa`, `audio` and `analytics`; to nothing where it is not registered, or was deleted.
///
/// # Errors
/// PostgreSQL failed.
pub async fn granted(pool: &PgPool, parent: ParentId) -> Result<[bool; 3], sqlx::Error> {
    let found: Option<(bool, bool, bool)> = sqlx::query_as(
        "SELECT coppa, audio, analytics FROM parents WHERE id = $1 AND deleted_at IS NULL",
    )
    .bind(parent.uuid())
    .fetch_optional(pool)
    .await?;
    Ok(found.map_or([false; 3], |(coppa, audio, analytics)| {
        [coppa, audio, analytics]
    }))
}

/// How many changes a page of [`history`] has, at most.
pub const PAGE: i64 = 1_000;

/// Every change of a parent's consents, in the order in which they took effect, as JSON: [`PAGE`] of them after the one
/// whose number is `after` (0 for the first page), and in `next` the number to go on after, null at the end. Of a parent
/// who was deleted too.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Database`].
pub async fn history(pool: &PgPool, id: ParentId, after: i64) -> Result<String, Error> {
    let found: Option<String> = sqlx::query_scalar(
        "SELECT json_build_object(
             'parent_id', p.id,
             'consents', (SELECT coalesce(json_agg(json_build_object(
                              'consent', consent, 'granted', granted, 'version', version, 'method', method,
                              'changed_at', changed_at) ORDER BY c.id), '[]')
                          FROM (SELECT * FROM consent_changes c WHERE c.parent_id = p.id AND c.id > $2
                                ORDER BY c.id LIMIT $3) AS c),
             'next', (SELECT c.id FROM consent_changes c WHERE c.parent_id = p.id AND c.id > $2
                          AND EXISTS (SELECT FROM consent_changes later
                                      WHERE later.parent_id = p.id AND later.id > c.id)
                      ORDER BY c.id OFFSET $3 - 1 LIMIT 1))::text
         FROM parents p WHERE p.id = $1",
    )
    .bind(id.uuid())
    .bind(after)
    .bind(PAGE)
    .fetch_optional(pool)
    .await?;
    found.ok_or(Error::NotFound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_methods_read_back() {
        for method in Method::ALL {
            assert_eq!(Method::from_word(method.as_str()), Some(method));
        }
        for none in ["", "Form", "text_plus", "fax"] {
            assert_eq!(Method::from_word(none), None);
        }
    }
}
