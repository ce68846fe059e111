//! Where an ingest node is.

use url::Url;

/// An address that no ingest node can have; the text says why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` {1}")]
pub struct BadNode(String, &'static str);

/// The address of an ingest node, without a slash at its end.
///
/// # Errors
/// It is no `http` or `https` URL, or has a login, a query or a fragment.
pub fn node(text: &str) -> Result<String, BadNode> {
    let text = text.trim();
    let bad = |why| BadNode(text.to_owned(), why);
    let url = Url::parse(text)
        .map_err(|_| bad("is no URL of an ingest node, as http://127.0.0.1:8080"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err(bad("must begin with http:// or https:// and name a host"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        // The text is told to whoever starts the process, and it has a secret.
        let why = "has a login in it: who looks sends a key of their own";
        return Err(BadNode(url.host_str().unwrap_or_default().to_owned(), why));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(bad(
            "has a query or a fragment: what is asked for is added here",
        ));
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_base() {
        assert_eq!(node(" http://ingest:8080/ ").unwrap(), "http://ingest:8080");
        assert_eq!(node("https://a.example/x/").unwrap(), "https://a.example/x");
        for bad in [
            "ingest:8080",
            "ftp://ingest",
            "http://a/?b",
            "http://a/#b",
            "",
        ] {
            assert!(node(bad).is_err(), "{bad}");
        }
        let refused = node("http://me:secret@a").unwrap_err().to_string();
        assert!(!refused.contains("secret"), "{refused}");
    }
}
