//! Which events somebody wants to see.

use serde::{Deserialize, Serialize};
use utoipa::IntoParams;
use uuid::Uuid;

use crate::Outcome;

/// Which events somebody wants to see; all without it. A refused request has no child and no key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Filter {
    /// Only this child's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub child: Option<Uuid>,
    /// Only those that came with the API key of this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Only those that were answered this code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Only those of this outcome: `accepted`, `rejected`, `retry` or `refused`.
    #[param(value_type = Option<String>)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
}

/// A filter that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct BadFilter {
    /// A JSON pointer to the parameter.
    pub pointer: &'static str,
    /// What it must be.
    pub message: &'static str,
}

impl Filter {
    /// Reads the query of an address. What is given and blank is not given, as forms send it.
    ///
    /// # Errors
    /// A parameter that is not one of these, is given twice, or is no child or outcome.
    pub fn of_query(query: &str) -> Result<Self, BadFilter> {
        let mut filter = Self::default();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            let value = value.trim();
            let set = |was: &mut Option<String>, pointer| match was.replace(value.to_owned()) {
                None => Ok(()),
                Some(_) => Err(BadFilter {
                    pointer,
                    message: "must be given once",
                }),
            };
            match &*name {
                _ if value.is_empty() => {}
                "child" => {
                    let id = value.parse().map_err(|_| BadFilter {
                        pointer: "/child",
                        message: "must be the id of a child, a UUID",
                    })?;
                    filter.child = Some(id);
                }
                "key" => set(&mut filter.key, "/key")?,
                "code" => set(&mut filter.code, "/code")?,
                "outcome" => {
                    let known = Outcome::ALL
                        .into_iter()
                        .find(|known| known.as_str() == value);
                    filter.outcome = Some(known.ok_or(BadFilter {
                        pointer: "/outcome",
                        message: "must be accepted, rejected, retry or refused",
                    })?);
                }
                _ => {
                    return Err(BadFilter {
                        pointer: "",
                        message: "the parameters are child, key, code and outcome",
                    });
                }
            }
        }
        Ok(filter)
    }

    /// As the query of an address, without a question mark.
    #[must_use]
    pub fn query(&self) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        if let Some(child) = self.child {
            query.append_pair("child", &child.to_string());
        }
        for (name, value) in [("key", &self.key), ("code", &self.code)] {
            if let Some(value) = value {
                query.append_pair(name, value);
            }
        }
        if let Some(outcome) = self.outcome {
            query.append_pair("outcome", outcome.as_str());
        }
        query.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_as_it_is_written() {
        let filter = Filter {
            child: Some(Uuid::from_u128(7)),
            key: Some("tablet & phone".to_owned()),
            code: Some("invalid_field".to_owned()),
            outcome: Some(Outcome::Rejected),
        };
        assert_eq!(Filter::of_query(&filter.query()), Ok(filter));
        assert_eq!(Filter::of_query("child=&key=+"), Ok(Filter::default()));
        for (query, pointer) in [
            ("child=7", "/child"),
            ("outcome=good", "/outcome"),
            ("key=a&key=b", "/key"),
            ("since=1", ""),
        ] {
            let refused = Filter::of_query(query).unwrap_err();
            assert_eq!(refused.pointer, pointer, "{query}");
        }
    }
}
