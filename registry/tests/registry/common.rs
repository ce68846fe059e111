//! What the registry's tests share.

use std::time::Duration;

use rivulet_events::{ChildId, ParentId, data::AgeGroup};
use rivulet_registry::{consents::Consents, families};
use rivulet_sandbox::TestBed;
use rivulet_zones::Zone;
use sqlx::PgPool;
use uuid::Uuid;

pub(crate) async fn migrated() -> TestBed {
    let bed = TestBed::new().await;
    rivulet_migrations::postgres(&bed.pool).await.unwrap();
    bed
}

pub(crate) fn parent() -> ParentId {
    ParentId::new(Uuid::new_v4())
}

pub(crate) fn child() -> ChildId {
    ChildId::new(Uuid::new_v4())
}

pub(crate) fn rome() -> Zone {
    Zone::named("Europe/Rome").unwrap()
}

pub(crate) fn coppa(granted: bool) -> Consents {
    Consents {
        coppa: Some(granted.into()),
        ..Consents::default()
    }
}

/// A registered child of a parent who granted `coppa`.
pub(crate) async fn family(pool: &PgPool) -> (ParentId, ChildId) {
    let (parent, child) = (parent(), child());
    families::put_parent(pool, parent, rome(), coppa(true), None)
        .await
        .unwrap();
    families::put_child(pool, child, parent, AgeGroup::WonderCubs)
        .await
        .unwrap();
    (parent, child)
}

/// Asks until it is so; a test that waits in vain fails here.
pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..600 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("never came true: {what}");
}
