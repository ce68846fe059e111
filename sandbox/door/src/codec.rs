//! Compression, both ways: HTTP's `Content-Encoding`, and ClickHouse's own blocks (`compress=1`
//! and `decompress=1`).

use std::io::{self, BufRead, BufReader, Read, Write};

use flate2::{Compression, read::MultiGzDecoder, write::GzEncoder};

use lz4_flex::frame::{FrameDecoder, FrameEncoder};

use crate::exception::Exception;

/// How an answer is compressed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Encoding {
    Identity,
    Lz4,
    Zstd,
    Gzip,
    /// ClickHouse's own, not HTTP's.
    Blocks,
}

impl Encoding {
    /// The first one of `Accept-Encoding` that the door knows.
    pub(crate) fn accepted(header: &str) -> Self {
        header
            .split(',')
            .filter(|one| !one.ends_with(";q=0"))
            .find_map(|one| match one.split(';').next()?.trim() {
                "lz4" => Some(Self::Lz4),
                "zstd" => Some(Self::Zstd),
                "gzip" => Some(Self::Gzip),
                _ => None,
            })
            .unwrap_or(Self::Identity)
    }

    /// The `Content-Encoding`, if this is one of HTTP's.
    pub(crate) fn name(self) -> Option<&'static str> {
        match self {
            Self::Identity | Self::Blocks => None,
            Self::Lz4 => Some("lz4"),
            Self::Zstd => Some("zstd"),
            Self::Gzip => Some("gzip"),
        }
    }
}

/// Reads a body of the given `Content-Encoding`.
pub(crate) fn decoder<'a>(
    encoding: &str,
    body: impl Read + 'a,
) -> Result<Box<dyn Read + 'a>, Exception> {
    Ok(match encoding {
        "" | "identity" => Box::new(body),
        "lz4" => {
            let between = Some(Unbroken(BufReader::new(body)));
            Box::new(Lz4Frames {
                between,
                frame: None,
            })
        }
        "zstd" => Box::new(zstd::Decoder::new(body)?),
        "gzip" => Box::new(MultiGzDecoder::new(body)),
        _ => {
            let message = format!("Unknown compression method: {encoding}");
            return Err(Exception::new(48, "NOT_IMPLEMENTED", &message));
        }
    })
}

/// LZ4 frames, one after the other: the Python client sends one for every block of rows. The
/// decoder reads one, and takes the end of the input between two blocks for that of the frame.
struct Lz4Frames<R: Read> {
    between: Option<Unbroken<R>>,
    frame: Option<FrameDecoder<Unbroken<R>>>,
}

impl<R: Read> Read for Lz4Frames<R> {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(mut source) = self.between.take() {
                if source.0.fill_buf()?.is_empty() {
                    return Ok(0);
                }
                self.frame = Some(FrameDecoder::new(source));
            }
            let Some(frame) = &mut self.frame else {
                return Ok(0);
            };
            let read = frame.read(target)?;
            if read > 0 || target.is_empty() {
                return Ok(read);
            }
            self.between = self.frame.take().map(FrameDecoder::into_inner);
        }
    }
}

/// Does not end: within a frame, the end of the input is an error.
struct Unbroken<R>(BufReader<R>);

impl<R: Read> Read for Unbroken<R> {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        match self.0.read(target)? {
            0 if !target.is_empty() => Err(corrupt("a compressed frame breaks off")),
            read => Ok(read),
        }
    }
}

/// Writes a body of an [`Encoding`].
pub(crate) enum Encoder<W: Write> {
    Identity(W),
    Lz4(Box<FrameEncoder<W>>),
    Zstd(zstd::Encoder<'static, W>),
    Gzip(GzEncoder<W>),
    Blocks(Blocks<W>),
}

impl<W: Write> Encoder<W> {
    pub(crate) fn new(encoding: Encoding, writer: W) -> io::Result<Self> {
        Ok(match encoding {
            Encoding::Identity => Self::Identity(writer),
            Encoding::Lz4 => Self::Lz4(Box::new(FrameEncoder::new(writer))),
            Encoding::Zstd => Self::Zstd(zstd::Encoder::new(writer, 1)?),
            Encoding::Gzip => Self::Gzip(GzEncoder::new(writer, Compression::fast())),
            Encoding::Blocks => Self::Blocks(Blocks {
                writer,
                pending: Vec::new(),
            }),
        })
    }

    /// Writes what is pending and the end of the format, and gives the writer back.
    pub(crate) fn finish(self) -> io::Result<W> {
        match self {
            Self::Identity(writer) => Ok(writer),
            Self::Lz4(encoder) => encoder.finish().map_err(io::Error::other),
            Self::Zstd(encoder) => encoder.finish(),
            Self::Gzip(encoder) => encoder.finish(),
            Self::Blocks(mut blocks) => {
                blocks.flush()?;
                Ok(blocks.writer)
            }
        }
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        match self {
            Self::Identity(writer) => writer.write(data),
            Self::Lz4(encoder) => encoder.write(data),
            Self::Zstd(encoder) => encoder.write(data),
            Self::Gzip(encoder) => encoder.write(data),
            Self::Blocks(blocks) => blocks.write(data),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Identity(writer) => writer.flush(),
            Self::Lz4(encoder) => encoder.flush(),
            Self::Zstd(encoder) => encoder.flush(),
            Self::Gzip(encoder) => encoder.flush(),
            Self::Blocks(blocks) => blocks.flush(),
        }
    }
}

// A block: CityHash128 (of ClickHouse's version, 1.0.2) of the rest, one byte for the method, the
// length of the rest without the hash, the length of the data, both 32-bit little-endian, data.
const HASH: usize = 16;
const HEADER: usize = 9;
const METHOD_NONE: u8 = 0x02;
const METHOD_LZ4: u8 = 0x82;
const METHOD_ZSTD: u8 = 0x90;
/// Of a block that is written, in bytes of data: ClickHouse's `max_compress_block_size`.
const BLOCK: usize = 1 << 20;
/// Of a block that is read: ClickHouse's `DBMS_MAX_COMPRESSED_SIZE`.
const MAX_BLOCK: usize = 1 << 30;

fn hash(data: &[u8]) -> [u8; HASH] {
    cityhash_rs::cityhash_102_128(data)
        .rotate_right(64)
        .to_le_bytes()
}

/// Writes ClickHouse's blocks.
pub(crate) struct Blocks<W> {
    writer: W,
    pending: Vec<u8>,
}

impl<W: Write> Write for Blocks<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let taken = data.len().min(BLOCK - self.pending.len());
        self.pending.extend_from_slice(&data[..taken]);
        if self.pending.len() == BLOCK {
            self.flush()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let compressed = lz4_flex::block::compress(&self.pending);
        let mut block = vec![METHOD_LZ4];
        block.extend_from_slice(&((compressed.len() + HEADER) as u32).to_le_bytes());
        block.extend_from_slice(&(self.pending.len() as u32).to_le_bytes());
        block.extend_from_slice(&compressed);
        self.pending.clear();
        self.writer.write_all(&hash(&block))?;
        self.writer.write_all(&block)
    }
}

/// Reads ClickHouse's blocks.
pub(crate) struct BlockReader<R> {
    reader: R,
    data: Vec<u8>,
    at: usize,
}

impl<R: Read> BlockReader<R> {
    pub(crate) fn new(reader: R) -> Self {
        Self {
            reader,
            data: Vec::new(),
            at: 0,
        }
    }

    /// The next block, or nothing at the end.
    fn next(&mut self) -> io::Result<Vec<u8>> {
        let mut head = [0; HASH + HEADER];
        let mut read = 0;
        while read < head.len() {
            match self.reader.read(&mut head[read..])? {
                0 if read == 0 => return Ok(Vec::new()),
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                some => read += some,
            }
        }
        let (expected, header) = head.split_at(HASH);
        let length = |at: usize| {
            header[at..at + 4]
                .iter()
                .rev()
                .fold(0_usize, |sum, byte| sum << 8 | usize::from(*byte))
        };
        let (method, with_header, length) = (header[0], length(1), length(5));
        if !(HEADER..=MAX_BLOCK).contains(&with_header) || length > MAX_BLOCK {
            return Err(corrupt("a compressed block of an impossible length"));
        }
        let mut block = header.to_vec();
        let body = (with_header - HEADER) as u64;
        if (&mut self.reader).take(body).read_to_end(&mut block)? as u64 != body {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if hash(&block) != expected {
            return Err(corrupt("the checksum of a compressed block does not match"));
        }
        let block = &block[HEADER..];
        match method {
            METHOD_NONE => Ok(block.to_vec()),
            METHOD_LZ4 => lz4_flex::block::decompress(block, length).map_err(corrupt),
            METHOD_ZSTD => zstd::bulk::decompress(block, length),
            _ => Err(corrupt("a compressed block of an unknown method")),
        }
    }
}

impl<R: Read> Read for BlockReader<R> {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        while self.at == self.data.len() {
            self.data = self.next()?;
            self.at = 0;
            if self.data.is_empty() {
                return Ok(0);
            }
        }
        let read = target.len().min(self.data.len() - self.at);
        target[..read].copy_from_slice(&self.data[self.at..self.at + read]);
        self.at += read;
        Ok(read)
    }
}

fn corrupt(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        (0..3_000_000_u32)
            .flat_map(|number| (number / 7).to_le_bytes())
            .collect()
    }

    fn encoded(encoding: Encoding) -> Vec<u8> {
        let mut encoder = Encoder::new(encoding, Vec::new()).unwrap();
        encoder.write_all(&sample()).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn what_is_encoded_decodes() {
        for encoding in HTTP {
            let (bytes, mut back) = (encoded(encoding), Vec::new());
            assert!(bytes.len() < sample().len() / 2, "{encoding:?}");
            decoder(encoding.name().unwrap(), bytes.as_slice())
                .unwrap()
                .read_to_end(&mut back)
                .unwrap();
            assert!(back == sample(), "{encoding:?}");
        }
    }

    const HTTP: [Encoding; 3] = [Encoding::Lz4, Encoding::Zstd, Encoding::Gzip];

    #[test]
    fn what_breaks_off_is_not_taken_for_whole() {
        for encoding in HTTP {
            let (bytes, mut back) = (encoded(encoding), Vec::new());
            for length in [bytes.len() / 2, bytes.len() - 1] {
                let mut decoder = decoder(encoding.name().unwrap(), &bytes[..length]).unwrap();
                assert!(
                    decoder.read_to_end(&mut back).is_err(),
                    "{encoding:?} at {length}"
                );
            }
        }
    }

    #[test]
    fn frames_follow_each_other() {
        for encoding in HTTP {
            let empty = Encoder::new(encoding, Vec::new())
                .unwrap()
                .finish()
                .unwrap();
            let (one, mut back) = (encoded(encoding), Vec::new());
            let all = [one.clone(), empty, one].concat();
            let mut decoder = decoder(encoding.name().unwrap(), all.as_slice()).unwrap();
            decoder.read_to_end(&mut back).unwrap();
            assert!(back == sample().repeat(2), "{encoding:?}");
        }
    }

    #[test]
    fn blocks_come_back_and_damage_is_noticed() {
        let mut bytes = encoded(Encoding::Blocks);
        let mut back = Vec::new();
        BlockReader::new(bytes.as_slice())
            .read_to_end(&mut back)
            .unwrap();
        assert!(back == sample());

        let cut = &bytes[..bytes.len() - 1];
        let error = BlockReader::new(cut).read_to_end(&mut back).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);

        bytes[HASH + HEADER + 3] ^= 1;
        let error = BlockReader::new(bytes.as_slice())
            .read_to_end(&mut back)
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn the_first_known_encoding_is_taken() {
        assert_eq!(
            Encoding::accepted("snappy, zstd;q=0.5, gzip"),
            Encoding::Zstd
        );
        assert_eq!(Encoding::accepted("gzip;q=0, br, lz4"), Encoding::Lz4);
        assert_eq!(Encoding::accepted("identity"), Encoding::Identity);
        assert_eq!(Encoding::accepted(""), Encoding::Identity);
    }
}
