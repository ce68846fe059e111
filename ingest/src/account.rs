//! What a request costs its sender: a token for each event, or for each tenth of a millisecond of CPU time that its
//! body takes, whichever is more, and at least one.

use std::{sync::Arc, task::Poll, time::Duration};

use rivulet_web::Limiter;
use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::{Handle, RuntimeFlavor};

use crate::metrics::EXTRA_TOKENS;
use crate::{problem::Problem, sender::SenderId, shares::Reservation, state::App, turns::Turns};

/// The CPU time that a token pays for. An honest event takes less than a tenth of it, so honest senders pay only for
/// the number of their events. A sender that has 5 000 tokens a second can use half a processor.
const CPU_OF_TOKEN: Duration = Duration::from_micros(100);

/// Work on a body of up to this many bytes is done at once. Work on a longer body waits for a turn.
pub(crate) const SHORT: usize = 64 << 10;

/// How much CPU time a turn has before the next sender gets its turn.
const TURN: Duration = Duration::from_millis(10);

/// What one request owes and has paid.
pub(crate) struct Account<'a> {
    app: &'a App,
    sender: SenderId,
    /// Tokens taken.
    paid: usize,
    /// CPU time spent.
    cpu: Duration,
    /// Its events are paid for.
    has_paid_events: bool,
    /// The rate limit refused the request. Such a request pays only for the work that was done for it.
    is_throttled: bool,
    had_turn: bool,
}

/// How long a step of some work may go on.
pub(crate) enum Slice {
    /// Until it has written this many bytes.
    Short(usize),
    /// Until this thread has spent so much CPU time.
    Turn(Duration),
}

impl Slice {
    /// Whether the step should stop here for now. `made` is the number of bytes that it has written so far.
    pub(crate) fn is_over(&self, made: usize) -> bool {
        match self {
            Self::Short(bytes) => made > *bytes,
            Self::Turn(until) => cpu_time() > *until,
        }
    }
}

impl<'a> Account<'a> {
    /// For a request of this sender.
    ///
    /// # Errors
    /// It has no token left, or owes some.
    pub(crate) fn open(app: &'a App, sender: SenderId) -> Result<Self, Problem> {
        let mut this = Self {
            app,
            sender,
            paid: 0,
            cpu: Duration::ZERO,
            has_paid_events: false,
            is_throttled: false,
            had_turn: false,
        };
        match this.limiter().check(&sender) {
            Ok(()) => Ok(this),
            Err(throttled) => Err(this.throttled(throttled)),
        }
    }

    /// Pays for the events of the request, for all of them or for none. A body that is read a second time is not paid
    /// for again.
    pub(crate) fn pay(&mut self, events: usize) -> Result<(), Problem> {
        if self.has_paid_events {
            return Ok(());
        }
        let more = events.saturating_sub(self.paid);
        match self.limiter().take(&self.sender, more) {
            Ok(()) => {
                self.paid += more;
                self.has_paid_events = true;
                Ok(())
            }
            Err(throttled) => Err(self.throttled(throttled)),
        }
    }

    /// Does work on the request's body, and charges the CPU time. `step` does some of the work, until the slice that it
    /// is given is over. Work that is `long` is done in turns with other senders, off the threads that serve
    /// connections. So is work that turns out to be long.
    ///
    /// # Errors
    /// Too many requests of this sender wait for a turn, or it owes more than it has.
    pub(crate) async fn work<T>(
        &mut self,
        long: bool,
        mut step: impl FnMut(&Slice) -> Poll<T>,
    ) -> Result<T, Problem> {
        if !long && let Poll::Ready(done) = self.spend(|| step(&Slice::Short(SHORT))) {
            return Ok(done);
        }
        loop {
            if !self.had_turn
                && let Err(throttled) = self.limiter().check(&self.sender)
            {
                return Err(self.throttled(throttled));
            }
            let turns: &Arc<Turns> = &self.app.turns;
            let Some(turn) = turns.take(self.sender, self.had_turn).await else {
                return Err(self.app.over_share("turns"));
            };
            self.had_turn = true;
            let done = off_worker(|| self.spend(|| step(&Slice::Turn(cpu_time() + TURN))));
            drop(turn);
            if let Poll::Ready(done) = done {
                return Ok(done);
            }
        }
    }

    fn spend<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let began = cpu_time();
        let done = work();
        self.cpu += cpu_time().saturating_sub(began);
        let due = self.cpu.as_nanos() / CPU_OF_TOKEN.as_nanos();
        self.charge("cpu", usize::try_from(due).unwrap_or(usize::MAX));
        done
    }

    /// Takes tokens until the request has paid `due` of them. If the sender has too few, it owes the rest.
    fn charge(&mut self, why: &'static str, due: usize) {
        let more = due.saturating_sub(self.paid);
        if more > 0 {
            self.limiter().charge(&self.sender, more);
            self.paid = due;
            EXTRA_TOKENS.with([why]).increment(more as u64);
        }
    }

    fn throttled(&mut self, throttled: rivulet_web::Throttled) -> Problem {
        self.is_throttled = true;
        Problem::RateLimited(throttled)
    }

    /// What all requests of the role share.
    pub(crate) const fn app(&self) -> &'a App {
        self.app
    }

    /// An empty reservation for bytes that the request will hold.
    pub(crate) fn reserve(&self) -> Reservation {
        Reservation::none(Arc::clone(&self.app.bytes), self.sender)
    }

    const fn limiter(&self) -> &'a Limiter<SenderId> {
        match self.sender {
            SenderId::Key(_) => &self.app.limiter,
            SenderId::Family(_) => &self.app.family_limiter,
        }
    }
}

impl Drop for Account<'_> {
    fn drop(&mut self) {
        if !self.is_throttled {
            self.charge("no_event", 1);
        }
    }
}

/// CPU time that this thread has spent.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    // Neither is ever negative.
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Does work that blocks the thread. The other tasks of the thread move to another thread first.
fn off_worker<T>(work: impl FnOnce() -> T) -> T {
    match Handle::current().runtime_flavor() {
        // There is no other thread.
        RuntimeFlavor::CurrentThread => work(),
        _ => tokio::task::block_in_place(work),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn long_work_leaves_the_only_worker_to_others() {
        let (tell, told) = mpsc::channel();
        let wait = move || told.recv_timeout(Duration::from_secs(60));
        let work = tokio::spawn(async move { off_worker(wait) });
        let other = tokio::spawn(async move { tell.send(()) });
        other.await.unwrap().unwrap();
        work.await.unwrap().expect("the others went on");
    }

    #[tokio::test]
    async fn where_there_is_no_other_worker_it_is_done_all_the_same() {
        assert_eq!(off_worker(|| 7), 7);
    }
}
