//! Ports on loopback: the same ones each time where they are free, others where they are not.

use std::{net::TcpListener, ops::Range};

use anyhow::{Context, Result};
use xxhash_rust::xxh3::xxh3_64;

/// Below the range from which systems take the ports of outgoing connections (32768 and up on
/// Linux), or a client's connection could hold a server's port.
const RANGE: Range<u16> = 20_000..32_000;

pub(crate) fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}

/// `wanted` when it is free, else the first free one after it. `seed` (the checkout and what the
/// port is for) gives the place to begin where nothing is wanted, so that a checkout finds its
/// own ports again even after its memory was wiped. `taken` are promised to others.
pub(crate) fn pick(wanted: Option<u16>, seed: &str, taken: &[u16]) -> Result<u16> {
    let size = u64::from(RANGE.end - RANGE.start);
    // Below 12 000, so it is a port after the addition.
    #[expect(clippy::cast_possible_truncation, reason = "smaller than RANGE's size")]
    let begin = RANGE.start + (xxh3_64(seed.as_bytes()) % size) as u16;
    wanted
        .into_iter()
        .chain(begin..RANGE.end)
        .chain(RANGE.start..begin)
        .find(|port| !taken.contains(port) && is_free(*port))
        .context("no free port between 20000 and 32000 on 127.0.0.1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_around_ports_of_others_and_comes_back() {
        let port = pick(None, "steps around", &[]).unwrap();
        let other = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let next = pick(Some(port), "steps around", &[]).unwrap();
        assert_ne!(next, port);
        assert!(RANGE.contains(&next));
        assert_ne!(pick(None, "steps around", &[next]).unwrap(), next);
        drop(other);
        assert_eq!(pick(Some(port), "another seed", &[]).unwrap(), port);
    }
}
