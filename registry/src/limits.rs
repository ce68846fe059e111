//! What a key may be limited to, besides its scope.

use std::{fmt, str::FromStr};

use rivulet_auditlog::Entry;
use rivulet_events::EventType;

/// Whose pages may use a key, and for which events. Empty is no limit of that kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// A key with origins is for browsers, which say where a page came from.
    pub origins: Vec<Origin>,
    /// The types of event that it may post.
    pub event_types: Vec<EventType>,
}

impl Limits {
    /// Whether a request with this `Origin` header, or without one, may use the key.
    #[must_use]
    pub fn allow_origin(&self, header: Option<&[u8]>) -> bool {
        self.origins.is_empty()
            || header.is_some_and(|sent| self.origins.iter().any(|origin| origin.is(sent)))
    }

    /// Whether the key may post events of this type.
    #[must_use]
    pub fn allow_event(&self, kind: EventType) -> bool {
        self.event_types.is_empty() || self.event_types.contains(&kind)
    }

    /// The entry with these limits, as many as a row has room for.
    pub(crate) fn told_by(&self, entry: Entry) -> Entry {
        const TOLD: usize = 20;
        let mut origins = self.origin_column();
        let entry = entry
            .detail("origins", origins.len())
            .detail("event_types", self.event_type_column());
        origins.retain(|origin| origin.len() <= 200);
        origins.truncate(TOLD);
        entry.detail("first_origins", origins)
    }

    pub(crate) fn origin_column(&self) -> Vec<&str> {
        self.origins.iter().map(Origin::as_str).collect()
    }

    pub(crate) fn event_type_column(&self) -> Vec<&'static str> {
        self.event_types.iter().map(|kind| kind.as_str()).collect()
    }

    /// `None` when the table has an event type that this release does not know.
    pub(crate) fn of_columns(origins: Vec<String>, event_types: &[String]) -> Option<Self> {
        let event_types = event_types.iter().map(|word| EventType::from_word(word));
        Some(Self {
            // Not checked again: an origin that is not valid only never matches.
            origins: origins.into_iter().map(Origin).collect(),
            event_types: event_types.collect::<Option<_>>()?,
        })
    }
}

/// Where a page comes from, as browsers write it: `https://app.example`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin(String);

impl Origin {
    /// As it stands in the `Origin` header.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether an `Origin` header says this.
    #[must_use]
    pub fn is(&self, header: &[u8]) -> bool {
        self.0.as_bytes() == header
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Not what a browser would ever send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "an origin is what browsers send, `https://app.example` or `http://localhost:3000`: lower case, \
     without a path, a slash at its end, a wildcard or the scheme's own port"
)]
pub struct InvalidOrigin;

impl FromStr for Origin {
    type Err = InvalidOrigin;

    fn from_str(text: &str) -> Result<Self, InvalidOrigin> {
        let (scheme, host_and_port) = text.split_once("://").ok_or(InvalidOrigin)?;
        // Apps that show pages have schemes of their own, such as `capacitor`.
        let scheme_is_good = scheme.starts_with(|first: char| first.is_ascii_lowercase())
            && scheme
                .bytes()
                .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'+' | b'-' | b'.'));
        let (host, port) = match host_and_port.rsplit_once(':') {
            // The colons of an IPv6 address are within brackets.
            Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
            _ => (host_and_port, None),
        };
        let host_is_good = match host.strip_prefix('[') {
            Some(address) => address
                .strip_suffix(']')
                .is_some_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok()),
            None => {
                !host.is_empty()
                    && host
                        .bytes()
                        .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_'))
            }
        };
        let port_is_good = match (scheme, port) {
            (_, None) => true,
            ("http", Some("80")) | ("https", Some("443")) => false,
            (_, Some(port)) => port.parse::<u16>().is_ok_and(|n| n.to_string() == port),
        };
        if scheme_is_good && host_is_good && port_is_good {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidOrigin)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_what_a_browser_sends() {
        for good in [
            "https://app.example",
            "http://localhost:3000",
            "http://127.0.0.1:8080",
            "http://[::1]:3000",
            "https://[2001:db8::1]",
            "capacitor://localhost",
            "https://xn--bcher-kva.example",
        ] {
            let origin: Origin = good.parse().unwrap();
            assert!(origin.is(good.as_bytes()));
            assert!(!origin.is(format!("{good}.evil.example").as_bytes()));
        }
        for bad in [
            "",
            "*",
            "null",
            "app.example",
            "https://",
            "https://app.example/",
            "https://app.example/path",
            "https://App.example",
            "HTTPS://app.example",
            "https://*.example",
            "https://app.example:443",
            "http://app.example:80",
            "https://app.example:0443",
            "https://app.example:99999",
            "https://app.example:",
            "https://user@app.example",
            "https://app.example?q",
            "https://[::1",
            "https://[app]",
            "://app.example",
        ] {
            assert_eq!(bad.parse::<Origin>(), Err(InvalidOrigin), "{bad}");
        }
    }

    #[test]
    fn an_empty_limit_is_none_and_another_holds() {
        let none = Limits::default();
        assert!(none.allow_origin(None) && none.allow_origin(Some(b"https://any.example")));
        assert!(EventType::ALL.iter().all(|kind| none.allow_event(*kind)));
        let limits = Limits {
            origins: vec!["https://app.example".parse().unwrap()],
            event_types: vec![EventType::Session],
        };
        assert!(limits.allow_origin(Some(b"https://app.example")));
        assert!(!limits.allow_origin(Some(b"https://app.example:8443")));
        assert!(!limits.allow_origin(Some(b"null")));
        assert!(!limits.allow_origin(None), "a key for browsers");
        assert!(limits.allow_event(EventType::Session));
        assert!(!limits.allow_event(EventType::Message));
    }
}
