//! Decoders of compressed bodies. Each can stop after a few bytes and go on later.

use std::{
    io::{self, BufRead, Read},
    mem::{size_of, size_of_val},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use brotli::{
    Allocator, BrotliDecompressStream, BrotliResult, BrotliState, HeapAlloc, HuffmanCode,
    SliceWrapper as _,
};
use flate2::bufread::{DeflateDecoder, GzDecoder, ZlibDecoder};
use zstd::zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer};

/// RFC 8878 asks senders to stay within 8 MiB; the decoder's own limit would take 128 MiB.
pub(crate) const ZSTD_WINDOW_LOG: u32 = 23;

/// Members of a gzip body, frames of a zstd body. Each is set up anew, and an empty one has a few bytes only.
pub(crate) const MEMBERS: usize = 256;

/// Bytes that are read in one piece, at most.
pub(crate) const PIECE: usize = 16 << 10;

/// What a decoder for gzip or deflate holds: its window of 32 KiB and its tables.
pub(crate) const FLATE_BYTES: usize = 48 << 10;

/// What a decoder may hold while it inflates the largest body: its window, for Brotli as large as what it has
/// written, for zstd as large as the sender likes, and its tables.
pub(crate) const fn decoder_bytes(max_inflated: usize) -> usize {
    let window = max_inflated.next_power_of_two();
    let zstd = 1 << ZSTD_WINDOW_LOG;
    (if window > zstd { window } else { zstd }) + (4 << 20)
}

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

/// The result of decoding one piece.
pub(crate) struct Piece {
    pub(crate) written: usize,
    pub(crate) is_last: bool,
}

/// Not what the encoding says, cut short, or in too many parts.
pub(crate) struct Corrupt;

impl From<io::Error> for Corrupt {
    fn from(_: io::Error) -> Self {
        Self
    }
}

/// A decoder, with the part of the body that it has not read yet.
pub(crate) enum Decoder<'a> {
    /// The current member, and how many members there have been.
    Gzip(GzDecoder<Wire<'a>>, usize),
    Zlib(ZlibDecoder<Wire<'a>>),
    Deflate(DeflateDecoder<Wire<'a>>),
    Zstd {
        context: DCtx<'static>,
        rest: &'a [u8],
        frames: usize,
    },
    Brotli {
        state: Box<BrotliState<Counting<u8>, Counting<u32>, Counting<HuffmanCode>>>,
        rest: &'a [u8],
        held: Arc<AtomicUsize>,
    },
}

impl<'a> Decoder<'a> {
    pub(crate) fn new(encoding: Encoding, wire: &'a [u8]) -> Result<Self, Corrupt> {
        let rest = wire;
        let wire = Wire {
            rest: wire,
            allowed: PIECE,
        };
        Ok(match encoding {
            // A body that is not compressed is not inflated; as a bare stream it would be corrupt.
            Encoding::Identity => return Err(Corrupt),
            Encoding::Gzip => Self::Gzip(GzDecoder::new(wire), 0),
            // The standard says zlib. Some clients send the bare stream. The first bytes tell which it is.
            Encoding::Deflate if is_zlib(rest) => Self::Zlib(ZlibDecoder::new(wire)),
            Encoding::Deflate => Self::Deflate(DeflateDecoder::new(wire)),
            Encoding::Zstd => {
                let mut context = DCtx::create();
                context
                    .set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG))
                    .map_err(|_| Corrupt)?;
                Self::Zstd {
                    context,
                    rest,
                    frames: 0,
                }
            }
            Encoding::Brotli => {
                let held = Arc::new(AtomicUsize::new(0));
                // Large windows are switched off. They are not part of the encoding `br`.
                let state = BrotliState::new_strict(
                    Counting::new(0, &held),
                    Counting::new(0, &held),
                    Counting::new(HuffmanCode::default(), &held),
                );
                Self::Brotli {
                    state: Box::new(state),
                    rest,
                    held,
                }
            }
        })
    }

    /// How much memory it holds now. Most of it is the window.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Gzip(..) | Self::Zlib(_) | Self::Deflate(_) => FLATE_BYTES,
            Self::Zstd { context, .. } => context.sizeof(),
            Self::Brotli { held, .. } => held.load(Ordering::Relaxed),
        }
    }

    /// Decodes one piece. It writes no more than fits into `out`.
    pub(crate) fn piece(&mut self, out: &mut [u8]) -> Result<Piece, Corrupt> {
        match self {
            Self::Gzip(decoder, members) => {
                decoder.get_mut().allowed = PIECE;
                let mut piece = read(decoder, out)?;
                let rest = decoder.get_ref().rest;
                if piece.is_last && !rest.is_empty() {
                    *members += 1;
                    if *members == MEMBERS {
                        return Err(Corrupt);
                    }
                    let allowed = PIECE;
                    *decoder = GzDecoder::new(Wire { rest, allowed });
                    piece.is_last = false;
                }
                Ok(piece)
            }
            Self::Zlib(decoder) => {
                decoder.get_mut().allowed = PIECE;
                read(decoder, out)
            }
            Self::Deflate(decoder) => {
                decoder.get_mut().allowed = PIECE;
                read(decoder, out)
            }
            Self::Zstd {
                context,
                rest,
                frames,
            } => {
                let room = out.len();
                let mut input = InBuffer::around(&rest[..rest.len().min(PIECE)]);
                let mut output = OutBuffer::around(out);
                let hint = context.decompress_stream(&mut output, &mut input);
                let of_frame_left = hint.map_err(|_| Corrupt)? > 0;
                let (read, written) = (input.pos(), output.pos());
                *rest = &rest[read..];
                if !of_frame_left {
                    *frames += 1;
                    if *frames == MEMBERS && !rest.is_empty() {
                        return Err(Corrupt);
                    }
                } else if rest.is_empty() && written < room {
                    // The decoder wants more input, and there is no more.
                    return Err(Corrupt);
                }
                Ok(Piece {
                    written,
                    is_last: !of_frame_left && rest.is_empty(),
                })
            }
            Self::Brotli { state, rest, .. } => {
                let input = &rest[..rest.len().min(PIECE)];
                let (mut left, mut read) = (input.len(), 0);
                let (mut room, mut written) = (out.len(), 0);
                let result = BrotliDecompressStream(
                    &mut left,
                    &mut read,
                    input,
                    &mut room,
                    &mut written,
                    out,
                    &mut 0,
                    state,
                );
                *rest = &rest[read..];
                match result {
                    BrotliResult::ResultFailure => Err(Corrupt),
                    BrotliResult::NeedsMoreInput if rest.is_empty() => Err(Corrupt),
                    result => Ok(Piece {
                        written,
                        is_last: matches!(result, BrotliResult::ResultSuccess),
                    }),
                }
            }
        }
    }
}

/// RFC 1950: method 8, window up to 32 KiB, and a checksum over both bytes.
fn is_zlib(wire: &[u8]) -> bool {
    matches!(wire, [method, flags, ..]
        if method & 0x8f == 0x08 && u16::from_be_bytes([*method, *flags]).is_multiple_of(31))
}

/// Reads the next piece of a stream. It is the last one if the decoder gives no more output.
fn read(decoder: &mut impl Read, out: &mut [u8]) -> Result<Piece, Corrupt> {
    match decoder.read(out) {
        Ok(written) => Ok(Piece {
            written,
            is_last: written == 0,
        }),
        // The input that was allowed for one piece gave no output.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Piece {
            written: 0,
            is_last: false,
        }),
        Err(_) => Err(Corrupt),
    }
}

/// The body as sent, handed to the decoder in pieces. A decoder reads on until it has output; without the pieces
/// nothing would stop it.
pub(crate) struct Wire<'a> {
    rest: &'a [u8],
    allowed: usize,
}

impl Read for Wire<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(buf)?;
        self.consume(read);
        Ok(read)
    }
}

impl BufRead for Wire<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.allowed == 0 && !self.rest.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(&self.rest[..self.rest.len().min(self.allowed)])
    }

    fn consume(&mut self, read: usize) {
        self.rest = &self.rest[read..];
        self.allowed -= read;
    }
}

/// Allocates memory for a Brotli decoder, and counts how much the decoder has.
pub(crate) struct Counting<T: Clone> {
    inner: HeapAlloc<T>,
    held: Arc<AtomicUsize>,
}

impl<T: Clone> Counting<T> {
    fn new(value: T, held: &Arc<AtomicUsize>) -> Self {
        Self {
            inner: HeapAlloc::new(value),
            held: Arc::clone(held),
        }
    }
}

impl<T: Clone> Allocator<T> for Counting<T> {
    type AllocatedMemory = <HeapAlloc<T> as Allocator<T>>::AllocatedMemory;

    fn alloc_cell(&mut self, len: usize) -> Self::AllocatedMemory {
        self.held.fetch_add(len * size_of::<T>(), Ordering::Relaxed);
        self.inner.alloc_cell(len)
    }

    fn free_cell(&mut self, data: Self::AllocatedMemory) {
        let bytes = size_of_val(data.slice());
        self.held.fetch_sub(bytes, Ordering::Relaxed);
        self.inner.free_cell(data);
    }
}
