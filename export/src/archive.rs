//! The zip: compressed and written on a thread of its own, while rows are read.

use std::{
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use tokio::{
    sync::mpsc,
    task::{JoinHandle, spawn_blocking},
};
use zip::{CompressionMethod, DateTime, ZipWriter, result::ZipError, write::SimpleFileOptions};

use crate::Error;

/// Bytes of text that are handed to the thread at once.
const PIECE: usize = 256 << 10;

/// Pieces that wait for the thread.
const WAITING: usize = 4;

/// Rows repeat themselves so much that a higher level gains little and costs twice the time.
const LEVEL: i64 = 1;

enum Piece {
    /// Of a file that begins.
    Name(String),
    Text(Vec<u8>),
    Finish,
}

/// A zip that is being written to a `W`.
pub(crate) struct Archive<W> {
    pieces: mpsc::Sender<Piece>,
    thread: JoinHandle<Result<W, Error>>,
    /// Text of the file that was begun last. Whoever appends to it lets it [settle](Self::settle).
    pub(crate) text: Vec<u8>,
}

impl<W: Write + Send + 'static> Archive<W> {
    pub(crate) fn new(to: W) -> Self {
        let (sender, pieces) = mpsc::channel(WAITING);
        Self {
            pieces: sender,
            thread: spawn_blocking(move || write(to, pieces)),
            text: Vec::new(),
        }
    }

    /// Ends the file before, and begins another.
    pub(crate) async fn begin(&mut self, name: String) -> Result<(), Error> {
        self.hand_over().await?;
        self.send(Piece::Name(name)).await
    }

    /// Hands text over if there is enough.
    pub(crate) async fn settle(&mut self) -> Result<(), Error> {
        if self.text.len() < PIECE {
            return Ok(());
        }
        self.hand_over().await
    }

    /// Writes what makes it whole. An archive that is dropped before that has no end, so nobody can read it.
    pub(crate) async fn finish(mut self) -> Result<W, Error> {
        self.hand_over().await?;
        self.send(Piece::Finish).await?;
        self.thread.await.unwrap_or_else(|_| Err(panicked()))
    }

    async fn hand_over(&mut self) -> Result<(), Error> {
        if self.text.is_empty() {
            return Ok(());
        }
        let room = self.text.capacity();
        let text = std::mem::replace(&mut self.text, Vec::with_capacity(room));
        self.send(Piece::Text(text)).await
    }

    async fn send(&mut self, piece: Piece) -> Result<(), Error> {
        if self.pieces.send(piece).await.is_ok() {
            return Ok(());
        }
        // It ended before it was told to.
        let ended = (&mut self.thread).await;
        Err(ended.map_or_else(|_| panicked(), |ended| ended.err().unwrap_or_else(panicked)))
    }
}

fn panicked() -> Error {
    io::Error::other("the thread that writes it has panicked").into()
}

fn write<W: Write>(to: W, mut pieces: mpsc::Receiver<Piece>) -> Result<W, Error> {
    let shut = Arc::new(AtomicBool::new(false));
    let valve = Valve {
        to,
        shut: Arc::clone(&shut),
    };
    // No time of writing, so that the same data gives the same bytes; sizes of 64 bits, because they are known only
    // after the text.
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        .compression_level(Some(LEVEL))
        .last_modified_time(DateTime::DEFAULT)
        .unix_permissions(0o600)
        .large_file(true);
    let mut zip = ZipWriter::new_stream(valve);
    let mut run = || -> Result<bool, ZipError> {
        while let Some(piece) = pieces.blocking_recv() {
            match piece {
                Piece::Name(name) => zip.start_file(name, options)?,
                Piece::Text(text) => zip.write_all(&text)?,
                Piece::Finish => return Ok(true),
            }
        }
        Ok(false)
    };
    let run = run();
    if !matches!(run, Ok(true)) {
        shut.store(true, Ordering::Relaxed);
    }
    if run? {
        Ok(zip.finish()?.into_inner().to)
    } else {
        Err(Error::Reader)
    }
}

/// Lets nothing through after it is shut or has failed. The zip's writer makes an end of the archive when it is
/// dropped, also of one that is not whole.
struct Valve<W> {
    to: W,
    shut: Arc<AtomicBool>,
}

impl<W: Write> Write for Valve<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.shut.load(Ordering::Relaxed) || thread::panicking() {
            return Ok(bytes.len());
        }
        let written = self.to.write(bytes);
        if let Err(error) = &written
            && error.kind() != io::ErrorKind::Interrupted
        {
            self.shut.store(true, Ordering::Relaxed);
        }
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.shut.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.to.flush()
    }
}

impl From<ZipError> for Error {
    fn from(error: ZipError) -> Self {
        match error {
            ZipError::Io(error) => match error.kind() {
                io::ErrorKind::TimedOut | io::ErrorKind::BrokenPipe => Self::Reader,
                _ => Self::Write(error),
            },
            error => Self::Write(io::Error::other(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Read as _};

    use zip::ZipArchive;

    use super::*;

    async fn written(finish: bool) -> Vec<u8> {
        #[derive(Clone, Default)]
        struct Shared(Arc<std::sync::Mutex<Vec<u8>>>);
        impl Write for Shared {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.lock().unwrap().extend_from_slice(bytes);
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let shared = Shared::default();
        let mut archive = Archive::new(shared.clone());
        archive.begin("one.txt".to_owned()).await.unwrap();
        archive.text.extend_from_slice(b"first");
        archive.begin("two.txt".to_owned()).await.unwrap();
        for _ in 0..3 * PIECE / 16 {
            archive.text.extend_from_slice(b"sixteen letters.");
            archive.settle().await.unwrap();
        }
        if finish {
            archive.finish().await.unwrap();
        } else {
            let Archive { pieces, thread, .. } = archive;
            drop(pieces);
            assert!(matches!(thread.await.unwrap(), Err(Error::Reader)));
        }
        shared.0.lock().unwrap().clone()
    }

    #[tokio::test]
    async fn an_archive_is_the_same_each_time_and_has_no_end_before_it_is_whole() {
        let whole = written(true).await;
        assert_eq!(whole, written(true).await);
        let mut zip = ZipArchive::new(Cursor::new(&whole)).unwrap();
        let mut text = String::new();
        zip.by_name("two.txt")
            .unwrap()
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text.len(), 3 * PIECE / 16 * 16);
        let part = written(false).await;
        assert!(part.len() < whole.len());
        assert!(ZipArchive::new(Cursor::new(&part)).is_err());
    }

    /// Sizes beyond 4 GiB, which cost half a minute to write: `cargo test -p rivulet-export -- --ignored`.
    #[tokio::test]
    #[ignore = "writes 4 GiB through the compression"]
    async fn a_file_beyond_four_gib_reads_back() {
        let mut archive = Archive::new(tempfile::tempfile().unwrap());
        archive.begin("large.txt".to_owned()).await.unwrap();
        let mut left = (4_u64 << 30) + 5;
        while left > 0 {
            let some = left.min(PIECE as u64) as usize;
            archive.text.resize(some, b'x');
            archive.settle().await.unwrap();
            archive.hand_over().await.unwrap();
            left -= some as u64;
        }
        archive.begin("after.txt".to_owned()).await.unwrap();
        archive.text.extend_from_slice(b"after");
        let file = archive.finish().await.unwrap();
        let mut zip = ZipArchive::new(file).unwrap();
        let large = zip.by_name("large.txt").unwrap();
        assert_eq!(large.size(), (4_u64 << 30) + 5);
        assert_eq!(
            io::copy(&mut { large }, &mut io::sink()).unwrap(),
            (4_u64 << 30) + 5
        );
        let mut text = String::new();
        zip.by_name("after.txt")
            .unwrap()
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text, "after");
    }
}
