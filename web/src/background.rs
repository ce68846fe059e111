//! The tasks without which a role cannot work. The role owns them, and when one of them ends, the role ends.

use std::{collections::HashMap, future};

use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

/// A task of a role ended before the role did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TaskEnded {
    /// The task ended by itself.
    #[error("{0} ended unasked")]
    Unasked(&'static str),
    /// The task panicked. The log has the panic.
    #[error("{0} panicked")]
    Panicked(&'static str),
}

/// The tasks that run as long as a role does. Dropped, it ends them at once.
#[derive(Default)]
pub struct Background {
    tasks: JoinSet<()>,
    names: HashMap<Id, &'static str>,
    stopping: CancellationToken,
}

impl Background {
    /// Without any task yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a task that may be aborted wherever it waits.
    pub fn spawn<T>(&mut self, name: &'static str, task: impl Future<Output = T> + Send + 'static) {
        let stopping = self.stopping.clone();
        let task = async move { drop(stopping.run_until_cancelled_owned(task).await) };
        self.spawn_until_stopped(name, task);
    }

    /// Starts a task that ends by itself after [`Self::stopping`], and only then.
    pub fn spawn_until_stopped(
        &mut self,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let id = self.tasks.spawn(task).id();
        self.names.insert(id, name);
    }

    /// Cancelled to end the tasks in order.
    #[must_use]
    pub fn stopping(&self) -> &CancellationToken {
        &self.stopping
    }

    /// Waits for the first that ends although nobody wants it to.
    pub async fn ended(&mut self) -> TaskEnded {
        match self.tasks.join_next_with_id().await {
            Some(Ok((id, ()))) => TaskEnded::Unasked(self.name(id)),
            Some(Err(error)) => self.panicked(&error),
            None => future::pending().await,
        }
    }

    /// Ends all of them, and waits until they have.
    ///
    /// # Errors
    /// One panicked.
    pub async fn stop(mut self) -> Result<(), TaskEnded> {
        self.stopping.cancel();
        let mut outcome = Ok(());
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended {
                outcome = outcome.and(Err(self.panicked(&error)));
            }
        }
        outcome
    }

    /// They are not aborted.
    fn panicked(&self, error: &JoinError) -> TaskEnded {
        TaskEnded::Panicked(self.name(error.id()))
    }

    fn name(&self, id: Id) -> &'static str {
        self.names.get(&id).copied().unwrap_or("a task")
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.stopping.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_ends_unasked_is_named() {
        let mut background = Background::new();
        background.spawn("the listener", future::pending::<()>());
        background.spawn("the reader", async {});
        assert_eq!(background.ended().await, TaskEnded::Unasked("the reader"));
        background.spawn("the prober", async { panic!("a test's panic") });
        assert_eq!(background.ended().await, TaskEnded::Panicked("the prober"));
        assert_eq!(background.stop().await, Ok(()));
    }

    #[tokio::test]
    async fn all_end_in_order_and_a_panic_on_the_way_is_told() {
        let mut background = Background::new();
        background.spawn("the listener", future::pending::<()>());
        let stopping = background.stopping().clone();
        background.spawn_until_stopped("the drain", async move { stopping.cancelled().await });
        assert_eq!(background.stop().await, Ok(()));

        let mut background = Background::new();
        let stopping = background.stopping().clone();
        background.spawn_until_stopped("the drain", async move {
            stopping.cancelled().await;
            panic!("a test's panic");
        });
        background.spawn("the listener", future::pending::<()>());
        assert_eq!(
            background.stop().await,
            Err(TaskEnded::Panicked("the drain"))
        );
    }
}
