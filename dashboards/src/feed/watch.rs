//! What one stream has sent of its children, and what it sends next.

use std::sync::Arc;

use bytes::Bytes;
use rivulet_events::ParentId;
use tokio::sync::Notify;
use xxhash_rust::xxh3::Xxh3;

use super::{Feed, Feeds};

use crate::metrics::LIVE_CHILDREN;

/// Some children being watched by one stream, until it is dropped.
pub(crate) struct Watch {
    pub(super) feeds: Arc<Feeds>,
    /// The parent whose stream it is, if it is a parent's.
    pub(super) parent: Option<ParentId>,
    pub(super) wake: Arc<Notify>,
    pub(super) followed: Vec<Followed>,
    /// The index of the child that was sent last.
    pub(super) turn: usize,
}

/// A child that the stream watches.
pub(super) struct Followed {
    pub(super) feed: Arc<Feed>,
    /// The first read of the feed that this stream may send.
    pub(super) since: u64,
    /// The family that the child must be of, if one is given.
    pub(super) family: Option<ParentId>,
    /// Version and digest of the state that the stream has sent.
    pub(super) told: Option<(u64, u128)>,
}

/// What is to be sent next.
pub(crate) enum News {
    /// The whole state, for a stream that has sent nothing yet, or is too far behind.
    Whole {
        pieces: Vec<Bytes>,
        is_first: bool,
    },
    Update(Bytes),
    /// The stream ends.
    End,
}

impl Followed {
    /// What comes after what the stream has sent. It counts as sent from now on.
    fn news(&mut self) -> Option<News> {
        let inner = self.feed.inner.lock();
        if inner.has_ended {
            return Some(News::End);
        }
        let state = inner.state.as_ref().filter(|_| inner.told >= self.since)?;
        if self.family.is_some_and(|family| family != state.parent) {
            return Some(News::End);
        }
        if let Some((version, _)) = self.told {
            let behind = (inner.version - version) as usize;
            if behind == 0 {
                return None;
            }
            let next = inner.updates.len().checked_sub(behind);
            if let Some(update) = next.and_then(|next| inner.updates.get(next)) {
                self.told = Some((version + 1, update.digest));
                return Some(News::Update(update.data.clone()));
            }
        }
        let is_first = self.told.is_none();
        self.told = Some((inner.version, state.digest));
        Some(News::Whole {
            pieces: state.whole(),
            is_first,
        })
    }

    pub(super) fn has_news(&self) -> bool {
        let inner = self.feed.inner.lock();
        let is_new = self.told.is_none_or(|(version, _)| version < inner.version);
        inner.has_ended || (is_new && inner.told >= self.since)
    }
}

impl Watch {
    /// Waits until there are news of any child, or of all.
    pub(crate) async fn wait(&self, for_all: bool) {
        let is_time = || match for_all {
            true => self.followed.iter().all(Followed::has_news),
            false => self.followed.iter().any(Followed::has_news),
        };
        while !is_time() {
            self.wake.notified().await;
        }
    }

    /// What is to be sent next, of one child after another.
    pub(crate) fn news(&mut self) -> Option<News> {
        for _ in 0..self.followed.len() {
            self.turn = (self.turn + 1) % self.followed.len();
            let news = self.followed.get_mut(self.turn).and_then(Followed::news);
            if news.is_some() {
                return news;
            }
        }
        None
    }

    /// Whether a client that was here before, and sends this id, has everything that there is now. Then it counts as
    /// sent.
    pub(crate) fn is_known(&mut self, id: &str) -> bool {
        for followed in &mut self.followed {
            followed.news();
        }
        let is_known = self.id() == id;
        if !is_known {
            for followed in &mut self.followed {
                followed.told = None;
            }
        }
        is_known
    }

    /// A hash of everything that the stream has sent. It is the same on every node.
    pub(crate) fn id(&self) -> String {
        let mut hash = Xxh3::new();
        for Followed { feed, told, .. } in &self.followed {
            if let Some((_, digest)) = told {
                hash.update(feed.child.uuid().as_bytes());
                hash.update(&digest.to_le_bytes());
            }
        }
        format!("{:032x}", hash.digest128())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut watched = self.feeds.watched.lock();
        if let Some(parent) = self.parent
            && let Some(streams) = watched.parents.get_mut(&parent)
        {
            *streams -= 1;
            if *streams == 0 {
                watched.parents.remove(&parent);
            }
        }
        for Followed { feed, .. } in &self.followed {
            let is_last = {
                let mut inner = feed.inner.lock();
                inner.streams.retain(|wake| !Arc::ptr_eq(wake, &self.wake));
                inner.streams.is_empty()
            };
            if is_last && let Some((_, task)) = watched.feeds.remove(&feed.child) {
                task.abort();
            }
        }
        LIVE_CHILDREN.set(watched.feeds.len() as f64);
    }
}
