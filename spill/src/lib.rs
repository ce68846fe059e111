//! A bounded queue of records on this node's disk, which knows nothing of what they mean.
//!
//! What [`Spill::append`] has answered is on the disk and survives the process and the machine's
//! power; it is handed out in the order in which it came, and stays until it is removed. One thread
//! does all the work; appends that wait for it share one transaction, and so one round of fsyncs.
//!
//! The store is `SQLite`, with a rollback journal. It is tested against crashes at every write,
//! against full disks and against failing fsyncs more thoroughly than anything else one could embed: a
//! transaction whose fsync failed is undone from the journal, never synced again and called durable.
//! A write-ahead log would save fsyncs, which group commit makes cheap enough, but damage in its
//! middle ends it without a word, and what came after would be lost unseen. `SQLite` keeps no checksums of
//! its tables, so each record has one here.

mod store;
mod worker;

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    thread,
};

use parking_lot::Mutex;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};

use crate::{
    store::Store,
    worker::{Command, IsGone, Worker},
};

/// Room that must be left for the spill to say that it has some: about the largest request.
const SPARE: u64 = 1 << 20;

/// The least that [`Spill::open`] makes sense with.
pub const MIN_BYTES: u64 = 16 << 20;

/// Something to keep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// When it came to be, Unix milliseconds: its age is counted from here.
    pub since: i64,
    /// Its content. This crate does not read it.
    pub bytes: Vec<u8>,
}

/// A record on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spilled {
    /// Its number in the queue, by which it is removed.
    pub seq: i64,
    /// The record.
    pub record: Record,
}

/// What is on the disk now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Records that wait, those that are held back among them.
    pub records: u64,
    /// Of these, the ones found too old when the queue was last read.
    pub held_back: u64,
    /// Records whose checksum was wrong. They are kept beside the queue and never handed out.
    pub damaged: u64,
    /// Bytes of the file that are in use.
    pub bytes: u64,
    /// [`Record::since`] of the first in the queue.
    pub oldest: Option<i64>,
    /// The error of the last write to the disk, if that failed.
    pub fault: Option<Refused>,
}

/// Why the queue cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory or a file in it cannot be made or made private.
    #[error("the spill directory {0} cannot be used: {1}")]
    Directory(PathBuf, io::Error),
    /// Another process uses it. Each of the two would drain what the other one writes.
    #[error(
        "the spill directory {0} is in use by another process: give each its own, or wait until that \
         one has ended"
    )]
    InUse(PathBuf),
    /// Another release wrote it.
    #[error(
        "the spill in {0} has layout {1}, which this release does not know: run the release that wrote \
         it until the spill is empty"
    )]
    UnknownLayout(PathBuf, i64),
    /// `SQLite` cannot open it.
    #[error("the spill in {0} cannot be opened: {1}")]
    Store(PathBuf, rusqlite::Error),
}

/// Why nothing was kept, or nothing could be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The queue holds as much as it may.
    #[error("the spill is full")]
    Full,
    /// The disk has no room, or this process may not write more.
    #[error("the spill's disk is full")]
    NoRoom,
    /// Any other error of the disk. It is in the log.
    #[error("the spill's disk fails")]
    Disk,
    /// The queue was closed.
    #[error("the spill is closed")]
    Closed,
}

/// The queue. Clones are the same queue.
#[derive(Clone, Debug)]
pub struct Spill {
    commands: mpsc::Sender<Command>,
    state: Arc<Mutex<State>>,
    max_bytes: u64,
}

impl Spill {
    /// Opens the queue in a directory, which is made where it is not there, and made private: nobody
    /// else needs to read what children did. Blocks while what is there is checked.
    ///
    /// It takes up to `max_bytes` of disk, at least [`MIN_BYTES`], and what one transaction needs
    /// beyond that: up to 32 MiB. A file that is damaged beyond use is set aside and logged at ERROR.
    ///
    /// To be called within a tokio runtime.
    ///
    /// # Errors
    /// [`OpenError`]: nothing was changed.
    pub fn open(dir: &Path, max_bytes: u64) -> Result<Self, OpenError> {
        // When a file may not grow further (`ulimit -f`), this must be an error like any other and not end the process.
        // Once the signal has a handler, the handler stays.
        let _stays = signal(SignalKind::from_raw(libc::SIGXFSZ))
            .map_err(|error| OpenError::Directory(dir.to_owned(), error))?;
        let store = Store::open(dir)?;
        let (commands, receiver) = mpsc::channel();
        let state = Arc::<Mutex<State>>::default();
        let worker = Worker::new(store, dir, max_bytes, Arc::clone(&state));
        thread::Builder::new()
            .name("spill".to_owned())
            .spawn(move || worker.run(&receiver))
            .map_err(|error| OpenError::Directory(dir.to_owned(), error))?;
        Ok(Self {
            commands,
            state,
            max_bytes,
        })
    }

    /// Keeps the records, all or none. Once this answers they are on the disk.
    ///
    /// # Errors
    /// [`Refused`]: none is kept. Where the caller stops waiting, they may be.
    pub async fn append(&self, records: Vec<Record>) -> Result<(), Refused> {
        self.ask(|reply| Command::Append { records, reply }).await
    }

    /// The first records in the queue, in order, without those that are from before `not_before`
    /// (Unix milliseconds), which are held back: up to `max_records` and about 4 MiB. They stay.
    ///
    /// # Errors
    /// [`Refused`]: the disk cannot be read.
    pub async fn first(
        &self,
        not_before: i64,
        max_records: usize,
    ) -> Result<Vec<Spilled>, Refused> {
        self.ask(|reply| Command::First {
            not_before,
            max_records,
            reply,
        })
        .await
    }

    /// Removes records by their numbers.
    ///
    /// # Errors
    /// [`Refused`]: some of them, or all, are still there.
    pub async fn remove(&self, seqs: Vec<i64>) -> Result<(), Refused> {
        self.ask(|reply| Command::Remove { seqs, reply }).await
    }

    /// Removes what `is_gone` says so of, from the queue and from the damaged records, and from the file as well. Returns
    /// how many records that were. Appends go on meanwhile, and what they bring is not looked at.
    ///
    /// # Errors
    /// [`Refused`]: some of them may still be there. [`Refused::Full`]: they are removed, but the file is above 64 MiB,
    /// too large to be written anew; to be asked again when the queue is shorter.
    pub async fn erase(
        &self,
        is_gone: impl Fn(&[u8]) -> bool + Send + Sync + 'static,
    ) -> Result<u64, Refused> {
        let is_gone: IsGone = Arc::new(is_gone);
        let (mut after, mut erased) = (Some(i64::MIN), 0);
        while let Some(from) = after {
            let is_gone = Arc::clone(&is_gone);
            let (next, some) = self
                .ask(|reply| Command::Erase {
                    after: from,
                    is_gone,
                    reply,
                })
                .await?;
            (after, erased) = (next, erased + some);
        }
        Ok(erased)
    }

    /// What is on the disk now.
    #[must_use]
    pub fn state(&self) -> State {
        self.state.lock().clone()
    }

    /// Whether records would probably be kept now, or why not.
    ///
    /// # Errors
    /// [`Refused`]: why not.
    pub fn has_room(&self) -> Result<(), Refused> {
        let state = self.state.lock();
        match state.fault {
            Some(fault) => Err(fault),
            None if state.bytes + SPARE > self.max_bytes => Err(Refused::Full),
            None => Ok(()),
        }
    }

    /// Finishes the requests that came before, and closes the files. Later requests, by any clone, get
    /// [`Refused::Closed`]. What is on the disk stays there.
    pub async fn close(&self) {
        let _ = self.ask(|reply| Command::Close { reply }).await;
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, Refused>>) -> Command,
    ) -> Result<T, Refused> {
        let (reply, answer) = oneshot::channel();
        self.commands
            .send(command(reply))
            .map_err(|_| Refused::Closed)?;
        answer.await.unwrap_or(Err(Refused::Closed))
    }
}
