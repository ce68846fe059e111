//! Compressed bodies: what may come, and inflating it without believing it.

use std::{
    io::{self, Read},
    sync::Arc,
};

use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};

use crate::budget::{Budget, Held, Reservation};

/// RFC 8878 asks senders to stay within 8 MiB; the decoder's own limit would take 128 MiB.
const ZSTD_WINDOW_LOG: u32 = 23;

/// Smallest step by which the output grows.
const STEP: usize = 64 << 10;

/// How a body is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    Identity,
    Gzip,
    Zstd,
    Brotli,
    Deflate,
}

impl Encoding {
    /// The encoding of this name in `Content-Encoding`.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        [
            ("", Self::Identity),
            ("identity", Self::Identity),
            ("gzip", Self::Gzip),
            ("x-gzip", Self::Gzip),
            ("zstd", Self::Zstd),
            ("br", Self::Brotli),
            ("deflate", Self::Deflate),
        ]
        .into_iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(name.trim()))
        .map(|(_, encoding)| encoding)
    }
}

/// Why a body could not be inflated.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum InflateError {
    /// Not what its encoding says, or cut short.
    Corrupt,
    /// More bytes than permitted.
    TooLarge,
    /// The budget for bodies is used up.
    Busy,
}

/// Inflates a body of at most `max` bytes. It stops at the first byte too many, so a bomb costs no
/// more than the largest honest body.
pub(crate) fn inflate(
    encoding: Encoding,
    wire: &[u8],
    max: usize,
    budget: &Arc<Budget>,
) -> Result<Held, InflateError> {
    match encoding {
        Encoding::Identity => drain(wire, max, budget),
        Encoding::Gzip => drain(MultiGzDecoder::new(wire), max, budget),
        Encoding::Brotli => drain(brotli::Decompressor::new(wire, 4 << 10), max, budget),
        // By the standard zlib, by custom of some clients the bare stream. Its first bytes tell.
        Encoding::Deflate if is_zlib(wire) => drain(ZlibDecoder::new(wire), max, budget),
        Encoding::Deflate => drain(DeflateDecoder::new(wire), max, budget),
        Encoding::Zstd => {
            let mut decoder =
                zstd::Decoder::with_buffer(wire).map_err(|_| InflateError::Corrupt)?;
            decoder
                .window_log_max(ZSTD_WINDOW_LOG)
                .map_err(|_| InflateError::Corrupt)?;
            drain(decoder, max, budget)
        }
    }
}

/// RFC 1950: method 8, window up to 32 KiB, and a checksum over both bytes.
fn is_zlib(wire: &[u8]) -> bool {
    matches!(wire, [method, flags, ..]
        if method & 0x8f == 0x08 && u16::from_be_bytes([*method, *flags]).is_multiple_of(31))
}

fn drain(mut from: impl Read, max: usize, budget: &Arc<Budget>) -> Result<Held, InflateError> {
    let mut held = Held {
        bytes: Vec::new(),
        reservation: Reservation::none(Arc::clone(budget)),
    };
    loop {
        // One byte more than permitted, to tell the largest permitted body from a larger one.
        let step = held.bytes.len().max(STEP).min(max + 1 - held.bytes.len());
        if !held.reservation.grow(step) {
            return Err(InflateError::Busy);
        }
        held.bytes.reserve_exact(step);
        let read =
            read_up_to(&mut from, step, &mut held.bytes).map_err(|_| InflateError::Corrupt)?;
        if held.bytes.len() > max {
            return Err(InflateError::TooLarge);
        }
        if read < step {
            return Ok(held);
        }
    }
}

fn read_up_to(from: &mut impl Read, limit: usize, into: &mut Vec<u8>) -> io::Result<usize> {
    from.take(limit as u64).read_to_end(into)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{Compression, write};

    use super::*;

    const MAX: usize = 1 << 20;

    fn unbounded() -> Arc<Budget> {
        Arc::new(Budget::new(usize::MAX / 2))
    }

    fn compress(encoding: Encoding, plain: &[u8]) -> Vec<u8> {
        match encoding {
            Encoding::Identity => plain.to_vec(),
            Encoding::Gzip => {
                let mut to = write::GzEncoder::new(Vec::new(), Compression::best());
                to.write_all(plain).unwrap();
                to.finish().unwrap()
            }
            Encoding::Deflate => {
                let mut to = write::ZlibEncoder::new(Vec::new(), Compression::best());
                to.write_all(plain).unwrap();
                to.finish().unwrap()
            }
            Encoding::Zstd => zstd::encode_all(plain, 3).unwrap(),
            Encoding::Brotli => {
                let mut to = Vec::new();
                brotli::CompressorWriter::new(&mut to, 4096, 5, 22)
                    .write_all(plain)
                    .unwrap();
                to
            }
        }
    }

    const ALL: [Encoding; 5] = [
        Encoding::Identity,
        Encoding::Gzip,
        Encoding::Zstd,
        Encoding::Brotli,
        Encoding::Deflate,
    ];

    #[test]
    fn every_encoding_comes_back_up_to_the_last_permitted_byte() {
        for encoding in ALL {
            for length in [0, 1, 100, STEP, STEP + 1, MAX] {
                let plain: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
                let wire = compress(encoding, &plain);
                let held = inflate(encoding, &wire, MAX, &unbounded()).unwrap();
                assert!(held.bytes == plain, "{encoding:?} {length}");
            }
            let wire = compress(encoding, &vec![0; MAX + 1]);
            let refused = inflate(encoding, &wire, MAX, &unbounded());
            assert_eq!(refused.unwrap_err(), InflateError::TooLarge, "{encoding:?}");
        }
        let mut bare = write::DeflateEncoder::new(Vec::new(), Compression::fast());
        bare.write_all(b"without a zlib header").unwrap();
        let held = inflate(
            Encoding::Deflate,
            &bare.finish().unwrap(),
            MAX,
            &unbounded(),
        );
        assert_eq!(held.unwrap().bytes, b"without a zlib header");
    }

    #[test]
    fn corrupt_and_cut_bodies_are_told_from_large_ones() {
        let plain = "some text that is long enough to be cut in the middle ".repeat(50);
        for encoding in &ALL[1..] {
            let wire = compress(*encoding, plain.as_bytes());
            let cut = inflate(*encoding, &wire[..wire.len() / 2], MAX, &unbounded());
            assert_eq!(cut.unwrap_err(), InflateError::Corrupt, "{encoding:?}");
            let noise = inflate(*encoding, b"\xff\xfe no such stream", MAX, &unbounded());
            assert_eq!(noise.unwrap_err(), InflateError::Corrupt, "{encoding:?}");
        }
    }

    #[test]
    fn a_bomb_takes_no_more_than_the_limit_and_what_is_left_of_the_budget() {
        let bomb = compress(Encoding::Gzip, &vec![0; 100 << 20]);
        assert!(bomb.len() < 1 << 20);
        let exact = Arc::new(Budget::new(MAX + 1));
        let refused = inflate(Encoding::Gzip, &bomb, MAX, &exact);
        assert_eq!(refused.unwrap_err(), InflateError::TooLarge);
        assert_eq!(exact.held(), 0);
        let little = Arc::new(Budget::new(MAX / 2));
        let refused = inflate(Encoding::Gzip, &bomb, MAX, &little);
        assert_eq!(refused.unwrap_err(), InflateError::Busy);
        assert_eq!(little.held(), 0);
    }
}
