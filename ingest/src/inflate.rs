//! Inflates compressed bodies without trusting them.
//!
//! It is done piece by piece, so that it can stop at any time: a few bytes may inflate to very many, or to none after
//! much work. The memory of the decoder, most of it the window, is reserved like that of the body.

use std::task::Poll;

use crate::{
    account::Slice,
    decoder::{Decoder, Encoding, Piece},
    shares::{Held, Reservation},
};

/// Smallest step by which the output grows.
const STEP: usize = 64 << 10;

/// Bytes that are written in one piece, at most.
const PIECE: usize = 64 << 10;

/// Why a body could not be inflated.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum InflateError {
    /// Not what its encoding says, cut short, or in too many parts.
    Corrupt,
    /// More bytes than permitted.
    TooLarge,
    /// More than the sender's share of the bytes that are at work.
    Busy,
}

/// A body of which some has been inflated.
pub(crate) struct Inflating<'a> {
    decoder: Decoder<'a>,
    /// The memory that the decoder holds.
    of_decoder: Reservation,
    of_decoder_bytes: usize,
    held: Held,
    max: usize,
}

impl<'a> Inflating<'a> {
    /// A body of at most `max` bytes. It stops at the first byte too many, so a bomb costs no more than the
    /// largest honest body.
    pub(crate) fn new(
        encoding: Encoding,
        wire: &'a [u8],
        max: usize,
        reserve: impl Fn() -> Reservation,
    ) -> Result<Self, InflateError> {
        Ok(Self {
            decoder: Decoder::new(encoding, wire).map_err(|_| InflateError::Corrupt)?,
            of_decoder: reserve(),
            of_decoder_bytes: 0,
            held: Held {
                bytes: Vec::new(),
                reservation: reserve(),
            },
            max,
        })
    }

    /// Goes on until the whole body is inflated or the slice is over.
    pub(crate) fn go_on(&mut self, slice: &Slice) -> Poll<Result<(), InflateError>> {
        loop {
            match self.piece() {
                Ok(true) => return Poll::Ready(Ok(())),
                Ok(false) if slice.is_over(self.held.bytes.len()) => return Poll::Pending,
                Ok(false) => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    pub(crate) fn into_body(self) -> Held {
        self.held
    }

    /// Inflates one piece. Returns whether it was the last one.
    fn piece(&mut self) -> Result<bool, InflateError> {
        let Held { bytes, reservation } = &mut self.held;
        let length = bytes.len();
        if length == bytes.capacity() {
            // One byte more than permitted, to tell the largest permitted body from a larger one.
            let step = length.max(STEP).min(self.max + 1 - length);
            if !reservation.grow(step) {
                return Err(InflateError::Busy);
            }
            bytes.reserve_exact(step);
        }
        let room = (self.max + 1).min(bytes.capacity()) - length;
        bytes.resize(length + room.min(PIECE), 0);
        let piece = self.decoder.piece(&mut bytes[length..]);
        let Piece { written, is_last } = piece.map_err(|_| InflateError::Corrupt)?;
        bytes.truncate(length + written);
        if bytes.len() > self.max {
            return Err(InflateError::TooLarge);
        }
        let more = self.decoder.bytes().saturating_sub(self.of_decoder_bytes);
        if !self.of_decoder.grow(more) {
            return Err(InflateError::Busy);
        }
        self.of_decoder_bytes += more;
        Ok(is_last)
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write as _, sync::Arc, time::Duration};

    use flate2::{Compression, write};

    use super::*;
    use crate::{
        decoder::{self, FLATE_BYTES, MEMBERS, ZSTD_WINDOW_LOG, decoder_bytes},
        sender::SenderId,
        shares::Shares,
    };

    const MAX: usize = 1 << 20;

    fn sender() -> SenderId {
        SenderId::Key([0; 32])
    }

    /// Leaves off as often as it can.
    fn inflate(
        encoding: Encoding,
        wire: &[u8],
        shares: &Arc<Shares>,
    ) -> Result<Held, InflateError> {
        let reserve = || Reservation::none(Arc::clone(shares), sender());
        let mut inflating = Inflating::new(encoding, wire, MAX, reserve)?;
        loop {
            if let Poll::Ready(done) = inflating.go_on(&Slice::Short(0)) {
                done?;
                return Ok(inflating.into_body());
            }
        }
    }

    fn unbounded() -> Arc<Shares> {
        Shares::new(usize::MAX)
    }

    fn inflated(encoding: Encoding, wire: &[u8]) -> Result<Vec<u8>, InflateError> {
        inflate(encoding, wire, &unbounded()).map(|held| held.bytes)
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

    const ALL: [Encoding; 4] = [
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
                assert!(
                    inflated(encoding, &wire).unwrap() == plain,
                    "{encoding:?} {length}"
                );
            }
            let wire = compress(encoding, &vec![0; MAX + 1]);
            let refused = inflated(encoding, &wire);
            assert_eq!(refused.unwrap_err(), InflateError::TooLarge, "{encoding:?}");
        }
        let mut bare = write::DeflateEncoder::new(Vec::new(), Compression::fast());
        bare.write_all(b"without a zlib header").unwrap();
        let held = inflated(Encoding::Deflate, &bare.finish().unwrap());
        assert_eq!(held.unwrap(), b"without a zlib header");
        // Noise, of which every byte that is read makes one, and the headers of gzip as long as they may be.
        let noise: Vec<u8> = (0_u32..200_000)
            .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect();
        let mut to = flate2::GzBuilder::new()
            .filename(vec![b'n'; 60_000])
            .write(Vec::new(), Compression::fast());
        to.write_all(&noise).unwrap();
        let wire = to.finish().unwrap();
        assert!(inflated(Encoding::Gzip, &wire).unwrap() == noise);
    }

    #[test]
    fn corrupt_and_cut_bodies_are_told_from_large_ones() {
        let plain = "some text that is long enough to be cut in the middle ".repeat(50);
        for encoding in ALL {
            let wire = compress(encoding, plain.as_bytes());
            for end in [0, 1, wire.len() / 2, wire.len() - 1] {
                let cut = inflated(encoding, &wire[..end]);
                assert_eq!(
                    cut.unwrap_err(),
                    InflateError::Corrupt,
                    "{encoding:?} {end}"
                );
            }
            let noise = inflated(encoding, b"\xff\xfe no such stream");
            assert_eq!(noise.unwrap_err(), InflateError::Corrupt, "{encoding:?}");
        }
    }

    #[test]
    fn a_bomb_takes_no_more_than_the_limit_and_what_is_left_of_the_share() {
        let bomb = compress(Encoding::Gzip, &vec![0; 100 << 20]);
        assert!(bomb.len() < 1 << 20);
        let exact = Shares::new(2 * (MAX + 1 + FLATE_BYTES));
        let refused = inflate(Encoding::Gzip, &bomb, &exact);
        assert_eq!(refused.unwrap_err(), InflateError::TooLarge);
        assert_eq!(exact.held(), 0);
        let little = Shares::new(MAX);
        let refused = inflate(Encoding::Gzip, &bomb, &little);
        assert_eq!(refused.unwrap_err(), InflateError::Busy);
        assert_eq!(little.held(), 0);
    }

    #[test]
    fn what_is_set_up_anew_for_nothing_is_bounded() {
        let skipped = b"\x50\x2a\x4d\x18\0\0\0\0".to_vec();
        for (encoding, part) in [
            (Encoding::Gzip, compress(Encoding::Gzip, b"")),
            (Encoding::Zstd, compress(Encoding::Zstd, b"")),
            (Encoding::Zstd, skipped),
        ] {
            let most = part.repeat(MEMBERS);
            assert_eq!(inflated(encoding, &most), Ok(Vec::new()), "{encoding:?}");
            let one_more = inflated(encoding, &part.repeat(MEMBERS + 1));
            assert_eq!(one_more.unwrap_err(), InflateError::Corrupt, "{encoding:?}");
        }
        // Several, as tools make them, are one body.
        for encoding in [Encoding::Gzip, Encoding::Zstd] {
            let wire = compress(encoding, b"so and ").repeat(3);
            assert_eq!(inflated(encoding, &wire).unwrap(), b"so and so and so and ");
        }
    }

    #[test]
    fn work_that_makes_nothing_can_be_left_off() {
        let empty_block = b"\0\0\0\xff\xff";
        let last = b"\x01\0\0\xff\xff";
        let wire = [&empty_block.repeat(20_000)[..], last].concat();
        let reserve = || Reservation::none(unbounded(), sender());
        let mut inflating = Inflating::new(Encoding::Deflate, &wire, MAX, reserve).unwrap();
        let mut left_off = 0;
        // Over at once, as a turn is whose time is up.
        while inflating.go_on(&Slice::Turn(Duration::ZERO)).is_pending() {
            left_off += 1;
        }
        assert_eq!(left_off, wire.len() / decoder::PIECE);
    }

    #[test]
    fn windows_count_as_long_as_they_are_held() {
        // As little as can be, by a sender who asks for the largest window.
        let mut to = zstd::Encoder::new(Vec::new(), 1).unwrap();
        to.window_log(ZSTD_WINDOW_LOG).unwrap();
        to.long_distance_matching(true).unwrap();
        to.write_all(b"{}").unwrap();
        to.flush().unwrap();
        let wide = to.finish().unwrap();
        let enough = Shares::new(2 * (decoder_bytes(MAX) + STEP));
        assert_eq!(
            inflate(Encoding::Zstd, &wide, &enough).unwrap().bytes,
            b"{}"
        );
        let little = Shares::new(2 * (1 << ZSTD_WINDOW_LOG));
        let refused = inflate(Encoding::Zstd, &wide, &little);
        assert_eq!(refused.unwrap_err(), InflateError::Busy);
        assert_eq!((enough.held(), little.held()), (0, 0));

        let plain: Vec<u8> = (0..MAX).map(|n| (n % 251) as u8).collect();
        let wire = compress(Encoding::Brotli, &plain);
        let enough = Shares::new(2 * (decoder_bytes(MAX) + MAX + 1));
        assert!(inflate(Encoding::Brotli, &wire, &enough).is_ok());
        let little = Shares::new(2 * (MAX + 1) + MAX);
        let refused = inflate(Encoding::Brotli, &wire, &little);
        assert_eq!(refused.unwrap_err(), InflateError::Busy);
        assert_eq!((enough.held(), little.held()), (0, 0));
        // A window of a gigabyte, which is no `br`.
        let mut huge = Vec::new();
        let parameters = brotli::enc::BrotliEncoderParams {
            large_window: true,
            lgwin: 30,
            ..Default::default()
        };
        brotli::BrotliCompress(&mut &plain[..], &mut huge, &parameters).unwrap();
        let refused = inflated(Encoding::Brotli, &huge);
        assert_eq!(refused.unwrap_err(), InflateError::Corrupt);
    }
}
