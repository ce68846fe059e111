//! The two consumers, and what each of them has.

use crate::{HISTORY, ROLLUPS};

/// A consumer.
#[derive(Clone, Copy)]
pub(crate) enum Consumer {
    Rollups,
    History,
}

impl Consumer {
    pub(crate) const ALL: [Self; 2] = [Self::Rollups, Self::History];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Rollups => ROLLUPS,
            Self::History => HISTORY,
        }
    }
}

/// Something of each consumer.
#[derive(Default)]
pub(crate) struct Both<T> {
    pub(crate) rollups: T,
    pub(crate) history: T,
}

impl<T> Both<T> {
    pub(crate) fn of_each(mut make: impl FnMut(Consumer) -> T) -> Self {
        Self {
            rollups: make(Consumer::Rollups),
            history: make(Consumer::History),
        }
    }

    pub(crate) const fn of(&self, consumer: Consumer) -> &T {
        match consumer {
            Consumer::Rollups => &self.rollups,
            Consumer::History => &self.history,
        }
    }

    pub(crate) const fn of_mut(&mut self, consumer: Consumer) -> &mut T {
        match consumer {
            Consumer::Rollups => &mut self.rollups,
            Consumer::History => &mut self.history,
        }
    }
}
