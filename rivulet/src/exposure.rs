//! Warns of connections that somebody on the network could read: decides which hosts are on another machine.

use std::{
    collections::BTreeSet,
    net::IpAddr,
    sync::{Mutex, PoisonError},
};

/// Whether what is sent to `host` stays on this machine.
pub(crate) fn is_local(host: &str) -> bool {
    let host = host.trim_matches(['[', ']']);
    host.eq_ignore_ascii_case("localhost")
        || host.starts_with('/')
        || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Whether a URL leads to another machine without TLS.
pub(crate) fn is_plain_text_elsewhere(url: &str) -> bool {
    url::Url::parse(url.trim())
        .is_ok_and(|url| url.scheme() == "http" && !is_local(url.host_str().unwrap_or_default()))
}

/// Several roles in one process ask for the same services.
pub(crate) fn warn_once(text: &'static str) {
    static SAID: Mutex<BTreeSet<&str>> = Mutex::new(BTreeSet::new());
    if SAID
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .insert(text)
    {
        tracing::warn!("{text}");
    }
}
