//! The breaker, with a real PostgreSQL between it and the operator.

use rivulet_quarantine::{Breaker, READINESS_CHECK, Share, resume};
use rivulet_sandbox::TestBed;
use rivulet_telemetry::Readiness;

struct Consumer {
    breaker: Breaker,
    readiness: Readiness,
}

impl Consumer {
    fn start(bed: &TestBed, limit: f64) -> Self {
        let readiness = Readiness::new("test", &[]);
        let breaker = Breaker::new("counter", bed.pool.clone(), readiness.clone(), limit);
        Self { breaker, readiness }
    }

    /// Commits a batch if it may.
    async fn commit(&self, records: u64, unfit: u64) -> bool {
        let share = Share {
            topic: "a",
            records,
            unfit,
            code: (unfit > 0).then_some("unknown_version"),
        };
        let allowed = self.breaker.allows(&[share]).await;
        if allowed {
            self.breaker.committed(&[share]).await;
        }
        assert_eq!(allowed, self.readiness.is_ready());
        allowed
    }
}

async fn bed() -> TestBed {
    let bed = TestBed::new().await;
    rivulet_migrations::postgres(&bed.pool).await.unwrap();
    bed
}

async fn resumed(bed: &TestBed) -> usize {
    let pauses = resume(&bed.pool, Some("counter"), None, "tester").await;
    pauses.unwrap().len()
}

#[tokio::test]
async fn a_trickle_goes_by_and_a_flood_stops_everything() {
    let bed = bed().await;
    let consumer = Consumer::start(&bed, 0.1);
    assert_eq!(READINESS_CHECK, "quarantine");
    // Of few records nothing is said, and 5 % are a trickle.
    assert!(consumer.commit(40, 40).await);
    for _ in 0..100 {
        assert!(consumer.commit(5_000, 250).await);
    }
    let mut through = 0;
    while consumer.commit(100, 100).await {
        through += 100;
    }
    assert!((200..2_000).contains(&through), "{through}");
    // Also for what is fine, and for another topic: it has stopped.
    assert!(!consumer.commit(100, 0).await);
    let other = Share {
        topic: "b",
        records: 1,
        unfit: 0,
        code: None,
    };
    assert!(!consumer.breaker.allows(&[other]).await);
}

/// Tasks share a breaker: one may commit what it was allowed to after another had to stop.
#[tokio::test]
async fn what_was_allowed_before_does_not_hide_the_stop() {
    let metrics = rivulet_telemetry::metrics(&[]).unwrap();
    let bed = bed().await;
    let breaker = Consumer::start(&bed, 0.1).breaker;
    let share = |records| Share {
        topic: "shared",
        records,
        unfit: records,
        code: Some("unknown_version"),
    };
    assert!(breaker.allows(&[share(12)]).await);
    assert!(!breaker.allows(&[share(5_000)]).await);
    breaker.committed(&[share(12)]).await;
    let told = metrics.render();
    assert!(
        told.contains(r#"rivulet_quarantine_paused{consumer="counter",topic="shared"} 1"#),
        "{told}"
    );
}

#[tokio::test]
async fn an_operators_word_holds_until_the_flood_is_over_and_over_restarts() {
    let bed = bed().await;
    let consumer = Consumer::start(&bed, 0.1);
    assert!(consumer.commit(9_000, 0).await);
    assert!(!consumer.commit(2_000, 1_900).await);
    assert!(!consumer.commit(2_000, 1_900).await);
    assert_eq!(resumed(&bed).await, 1);
    assert_eq!(resumed(&bed).await, 0, "once is enough");
    for _ in 0..20 {
        assert!(consumer.commit(2_000, 1_900).await);
        // What is fine between two floods does not end the one word.
        assert!(consumer.commit(2_000, 0).await);
    }
    // A restart in the middle of it.
    let consumer = Consumer::start(&bed, 0.1);
    for _ in 0..20 {
        assert!(consumer.commit(2_000, 1_900).await);
    }
    for _ in 0..50 {
        assert!(consumer.commit(2_000, 0).await);
    }
    // It was over: the next one is another.
    assert!(!consumer.commit(9_000, 9_000).await);
    assert_eq!(resumed(&bed).await, 1);
    assert!(consumer.commit(9_000, 9_000).await);
}

#[tokio::test]
async fn a_restart_alone_resumes_nothing_and_a_release_that_can_read_it_everything() {
    let bed = bed().await;
    let consumer = Consumer::start(&bed, 0.1);
    assert!(!consumer.commit(2_000, 2_000).await);
    let again = Consumer::start(&bed, 0.1);
    assert!(!again.commit(2_000, 2_000).await);
    let never_stops = Consumer::start(&bed, 1.0);
    assert!(never_stops.commit(2_000, 2_000).await);
    let newer = Consumer::start(&bed, 0.1);
    assert!(newer.commit(2_000, 0).await);
    assert_eq!(resumed(&bed).await, 0, "nobody waits any more");
}
