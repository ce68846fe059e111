//! The thread that owns the file.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::{
    Record, Refused, Spilled, State,
    store::{Store, is_damage, is_no_room, is_too_large, set_aside},
};

/// Bytes of records after which a transaction takes no more requests in.
const GROUP_BYTES: u64 = 4 << 20;

/// What a record costs beside its bytes, roughly: its row, its part of pages that are not full.
const OVERHEAD: u64 = 64;

/// How often a disk that failed is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// Says of a record's bytes whether they are to go.
pub(crate) type IsGone = Arc<dyn Fn(&[u8]) -> bool + Send + Sync>;

type Reply<T> = oneshot::Sender<Result<T, Refused>>;

pub(crate) enum Command {
    Append {
        records: Vec<Record>,
        reply: Reply<()>,
    },
    First {
        not_before: i64,
        max_records: usize,
        reply: Reply<Vec<Spilled>>,
    },
    Remove {
        seqs: Vec<i64>,
        reply: Reply<()>,
    },
    /// Some records after this place; answers where to go on, if there are more, and how many went.
    Erase {
        after: i64,
        is_gone: IsGone,
        reply: Reply<(Option<i64>, u64)>,
    },
    Close {
        reply: Reply<()>,
    },
}

pub(crate) struct Worker {
    /// `None` if a damaged file was set aside and no new one could be made yet.
    store: Option<Store>,
    dir: PathBuf,
    max_bytes: u64,
    state: Arc<Mutex<State>>,
}

/// A closure has no `Debug`.
impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Append { .. } => "Append",
            Self::First { .. } => "First",
            Self::Remove { .. } => "Remove",
            Self::Erase { .. } => "Erase",
            Self::Close { .. } => "Close",
        })
    }
}

impl Worker {
    pub(crate) fn new(store: Store, dir: &Path, max_bytes: u64, state: Arc<Mutex<State>>) -> Self {
        let mut worker = Self {
            store: Some(store),
            dir: dir.to_owned(),
            max_bytes,
            state,
        };
        worker.update_counts();
        worker
    }

    pub(crate) fn run(mut self, commands: &Receiver<Command>) {
        loop {
            let mut command = match commands.recv_timeout(TRY_AGAIN) {
                Ok(command) => Some(command),
                Err(RecvTimeoutError::Timeout) => {
                    self.try_disk();
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let (mut group, mut bytes) = (Vec::new(), 0);
            while let Some(Command::Append { records, reply }) = command {
                let size = size(&records);
                bytes += size;
                group.push((records, size, reply));
                command = commands.try_recv().ok();
                if bytes >= GROUP_BYTES && matches!(command, Some(Command::Append { .. })) {
                    self.append(std::mem::take(&mut group));
                    bytes = 0;
                }
            }
            if !group.is_empty() {
                self.append(group);
            }
            match command {
                Some(Command::First {
                    not_before,
                    max_records,
                    reply,
                }) => {
                    let found = self.work(|store| store.first(not_before, max_records));
                    let _ = reply.send(found);
                }
                Some(Command::Remove { seqs, reply }) => {
                    let done = self.work(|store| store.remove(&seqs));
                    let _ = reply.send(done);
                }
                Some(Command::Erase {
                    after,
                    is_gone,
                    reply,
                }) => {
                    // To be too large is no failure of the disk.
                    let done = self.work(|store| match store.erase(after, &*is_gone) {
                        Err(error) if is_too_large(&error) => Ok(Err(Refused::Full)),
                        done => done.map(Ok),
                    });
                    let _ = reply.send(done.and_then(|done| done));
                }
                Some(Command::Close { reply }) => {
                    drop(self.store.take());
                    let _ = reply.send(Ok(()));
                    return;
                }
                Some(Command::Append { .. }) | None => {}
            }
        }
    }

    /// Appends all of them in one transaction. Those that would not fit are refused.
    fn append(&mut self, group: Vec<(Vec<Record>, u64, Reply<()>)>) {
        let mut expected = self.state.lock().bytes;
        let (mut fit, mut replies) = (Vec::new(), Vec::new());
        for (records, size, reply) in group {
            if expected + size > self.max_bytes {
                let _ = reply.send(Err(Refused::Full));
            } else {
                expected += size;
                fit.push(records);
                replies.push(reply);
            }
        }
        let done = self.work(|store| store.append(fit.iter().flatten()));
        if done.is_ok() {
            self.passed();
        }
        for reply in replies {
            let _ = reply.send(done);
        }
    }

    /// Does something with the file. If it fails, notes the fault, and sets a damaged file aside.
    fn work<T>(
        &mut self,
        work: impl FnOnce(&mut Store) -> Result<T, rusqlite::Error>,
    ) -> Result<T, Refused> {
        let Some(store) = &mut self.store else {
            return Err(Refused::Disk);
        };
        let done = work(store).map_err(|error| self.failed(&error));
        self.update_counts();
        done
    }

    fn failed(&mut self, error: &rusqlite::Error) -> Refused {
        let refused = if is_no_room(error) {
            Refused::NoRoom
        } else {
            Refused::Disk
        };
        let before = self.state.lock().fault.replace(refused);
        if before != Some(refused) {
            tracing::error!(%error, "the spill cannot be used: {refused}");
        }
        if is_damage(error) {
            self.store = None;
            if let Err(error) = set_aside(&self.dir, error) {
                tracing::error!(%error, "the damaged spill cannot be set aside");
            } else {
                self.open();
            }
        }
        refused
    }

    fn passed(&mut self) {
        if self.state.lock().fault.take().is_some() {
            tracing::info!("the spill can be used again");
        }
    }

    /// After a failure, checks whether the disk works again.
    fn try_disk(&mut self) {
        if self.store.is_none() {
            self.open();
        }
        if self.state.lock().fault.is_some() && self.work(Store::try_disk).is_ok() {
            self.passed();
        }
    }

    fn open(&mut self) {
        match Store::open(&self.dir) {
            Ok(store) => {
                self.store = Some(store);
                self.update_counts();
            }
            Err(error) => tracing::warn!(%error, "trying again"),
        }
    }

    /// Notes how much there is in the queue.
    fn update_counts(&mut self) {
        let Some(store) = &self.store else { return };
        let (Ok(bytes), Ok(oldest)) = (store.bytes(), store.oldest()) else {
            return;
        };
        let mut state = self.state.lock();
        *state = State {
            records: store.records,
            held_back: store.held,
            damaged: store.damaged,
            bytes,
            oldest,
            fault: state.fault,
        };
    }
}

fn size(records: &[Record]) -> u64 {
    let sizes = records
        .iter()
        .map(|record| record.bytes.len() as u64 + OVERHEAD);
    sizes.sum()
}
