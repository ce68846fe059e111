//! Waiting longer after each failure.

use std::time::Duration;

/// Doubles from `first` to `most`, each wait shortened by up to a quarter so that partitions that
/// failed together do not return together.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
    most: Duration,
}

impl Backoff {
    pub(crate) fn new(first: Duration, most: Duration) -> Self {
        Self { next: first, most }
    }

    pub(crate) async fn wait(&mut self) {
        let shortened = self.next.mul_f64(1.0 - rand::random::<f64>() / 4.0);
        self.next = self.most.min(self.next * 2);
        tokio::time::sleep(shortened).await;
    }
}
