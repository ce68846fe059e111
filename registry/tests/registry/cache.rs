//! What a node knows of the registry, and when it stops believing it.

use std::time::Duration;

use rivulet_events::{ChildId, ConsentVersion, EventType, data::AgeGroup};
use rivulet_registry::{
    CacheConfig, Known, Registry, Unavailable,
    consents::{Consent, Consents, Method},
    families::{delete_parent, put_child, put_parent},
    keys::{self, Limits, Scope, sha256},
};
use rivulet_sandbox::Mode;
use tokio_util::sync::CancellationToken;

use crate::common::{child, coppa, eventually, family, migrated, rome};

fn start(pool: sqlx::PgPool, max_stale: Duration) -> (Registry, tokio_util::sync::DropGuard) {
    let stop = CancellationToken::new();
    let config = CacheConfig {
        max_stale,
        ..CacheConfig::default()
    };
    let (registry, work) = Registry::new(pool, config);
    tokio::spawn(stop.clone().run_until_cancelled_owned(work));
    (registry, stop.drop_guard())
}

async fn scope(registry: &Registry, sha256: &[u8; 32]) -> Result<Option<Scope>, Unavailable> {
    let grant = registry.key(sha256).await?;
    Ok(grant.map(|grant| grant.scope))
}

async fn one(registry: &Registry, child: ChildId) -> Known {
    registry.lookup(&[child]).await[0]
}

/// Whether `coppa` is granted, when the answer came from memory.
async fn cached(registry: &Registry, child: ChildId) -> Option<bool> {
    match one(registry, child).await {
        Known::Cached(registration) => Some(registration.coppa),
        _ => None,
    }
}

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn changes_are_heard_of_and_unknown_children_are_never_remembered() {
    let bed = migrated().await;
    let pool = &bed.pool;
    let (parent, kid) = family(pool).await;
    let (registry, _stop) = start(pool.clone(), MINUTE);
    eventually("the registry listens", async || registry.check().is_ok()).await;

    assert!(matches!(one(&registry, kid).await, Known::Read(Some(_))));
    eventually("it is cached", async || {
        cached(&registry, kid).await == Some(true)
    })
    .await;

    put_parent(pool, parent, rome(), coppa(false), None)
        .await
        .unwrap();
    eventually("the parent's change is known", async || {
        cached(&registry, kid).await == Some(false)
    })
    .await;

    // Another version of the same consent goes into records.
    for version in ["2026-01", "2026-02"].map(ConsentVersion::new) {
        let coppa = Some(Consent {
            granted: true,
            version,
            method: Method::Form,
        });
        let consents = Consents {
            coppa,
            ..Consents::default()
        };
        put_parent(pool, parent, rome(), consents, None)
            .await
            .unwrap();
        eventually("the version is known", async || {
            matches!(one(&registry, kid).await, Known::Cached(known) if known.coppa_version == version)
        })
        .await;
    }

    let (elsewhere, _) = family(pool).await;
    put_child(pool, kid, elsewhere, AgeGroup::MindMasters)
        .await
        .unwrap();
    eventually("the child's move is known", async || {
        cached(&registry, kid).await == Some(true)
    })
    .await;
    delete_parent(pool, elsewhere).await.unwrap();
    eventually(
        "the deletion is known",
        async || matches!(one(&registry, kid).await, Known::Cached(known) if known.deleted),
    )
    .await;

    let nobody = child();
    for _ in 0..3 {
        assert_eq!(one(&registry, nobody).await, Known::Read(None));
    }
    let many = [nobody, kid, child(), kid];
    let known = registry.lookup(&many).await;
    assert_eq!(known[0], Known::Read(None));
    assert_eq!(known[2], Known::Read(None));
    assert!(matches!(known[1], Known::Cached(_) | Known::Read(Some(_))));
    assert_eq!(known[1], known[3]);
}

#[tokio::test]
async fn a_node_that_is_cut_off_serves_what_it_knows_for_a_while() {
    let bed = migrated().await;
    let (parent, kid) = family(&bed.pool).await;
    let (_, stranger) = family(&bed.pool).await;
    let (link, pool) = bed.behind_a_link().await.unwrap();
    let (registry, _stop) = start(pool, Duration::from_secs(10));
    let key = keys::create(&bed.pool, "tablet", Scope::Ingest)
        .await
        .unwrap();
    let hash = sha256(&key);
    eventually("the key is known", async || {
        scope(&registry, &hash).await == Ok(Some(Scope::Ingest))
    })
    .await;
    assert!(matches!(one(&registry, kid).await, Known::Read(Some(_))));

    link.set(Mode::Cut);
    put_parent(&bed.pool, parent, rome(), coppa(false), None)
        .await
        .unwrap();
    keys::revoke(&bed.pool, "tablet").await.unwrap();
    eventually("what is not in memory cannot be told", async || {
        one(&registry, stranger).await == Known::Unavailable
    })
    .await;
    assert_eq!(registry.read(&[kid]).await, Err(Unavailable));
    assert_eq!(
        cached(&registry, kid).await,
        Some(true),
        "served from memory"
    );
    assert_eq!(scope(&registry, &hash).await, Ok(Some(Scope::Ingest)));

    eventually("memory is too old", async || {
        one(&registry, kid).await == Known::Unavailable
    })
    .await;
    eventually("keys are too old", async || {
        scope(&registry, &hash).await == Err(Unavailable)
    })
    .await;

    link.set(Mode::Open);
    eventually(
        "the change is known",
        async || matches!(one(&registry, kid).await, Known::Read(Some(known)) if !known.coppa),
    )
    .await;
    eventually("the revocation is known", async || {
        scope(&registry, &hash).await == Ok(None)
    })
    .await;
    eventually("notices are heard again", async || {
        put_parent(&bed.pool, parent, rome(), coppa(true), None)
            .await
            .unwrap();
        cached(&registry, kid).await == Some(true)
    })
    .await;
}

/// The connection that listens is lost and back before anybody notices anything else. What changed
/// in between was never told, and must be known all the same.
#[tokio::test]
async fn a_change_during_a_reconnect_is_not_missed() {
    let bed = migrated().await;
    let (parent, kid) = family(&bed.pool).await;
    let (link, listening) = bed.behind_a_link().await.unwrap();
    let (registry, _stop) = start(listening, MINUTE);
    eventually("it is cached", async || {
        cached(&registry, kid).await == Some(true)
    })
    .await;
    for granted in [false, true, false] {
        link.set(Mode::Cut);
        put_parent(&bed.pool, parent, rome(), coppa(granted), None)
            .await
            .unwrap();
        link.set(Mode::Open);
        eventually("the change is known", async || {
            match one(&registry, kid).await {
                Known::Cached(known) | Known::Read(Some(known)) => known.coppa == granted,
                _ => false,
            }
        })
        .await;
    }
}

/// A change that commits while the same child is being read, again and again: what is cached in
/// the end is what is true in the end.
#[tokio::test]
async fn reads_that_race_with_changes_do_not_stick() {
    let bed = migrated().await;
    let (parent, kid) = family(&bed.pool).await;
    let (registry, _stop) = start(bed.pool.clone(), MINUTE);
    eventually("the registry listens", async || registry.check().is_ok()).await;
    let reading = {
        let registry = registry.clone();
        tokio::spawn(async move {
            loop {
                let _ = registry.read(&[kid]).await;
                let _ = one(&registry, kid).await;
            }
        })
    };
    for round in 0..100 {
        let granted = round % 2 == 0;
        put_parent(&bed.pool, parent, rome(), coppa(granted), None)
            .await
            .unwrap();
        // A ping and its echo later, memory must agree.
        eventually("the change is known", async || {
            cached(&registry, kid).await == Some(granted)
        })
        .await;
    }
    reading.abort();
}

#[tokio::test]
async fn a_new_key_works_at_once_and_a_revoked_one_soon_does_not() {
    let bed = migrated().await;
    let (registry, _stop) = start(bed.pool.clone(), MINUTE);
    eventually("the registry listens", async || registry.check().is_ok()).await;
    assert_eq!(scope(&registry, &sha256("rvk_of_nobody")).await, Ok(None));
    let key = keys::create(&bed.pool, "reader", Scope::Read)
        .await
        .unwrap();
    eventually("the key is known", async || {
        scope(&registry, &sha256(&key)).await == Ok(Some(Scope::Read))
    })
    .await;
    keys::revoke(&bed.pool, "reader").await.unwrap();
    eventually("the revocation is known", async || {
        scope(&registry, &sha256(&key)).await == Ok(None)
    })
    .await;
}

#[tokio::test]
async fn limits_of_a_key_are_known_and_so_is_their_change() {
    let bed = migrated().await;
    let (registry, _stop) = start(bed.pool.clone(), MINUTE);
    eventually("the registry listens", async || registry.check().is_ok()).await;
    let limits = Limits {
        origins: vec!["https://app.example".parse().unwrap()],
        event_types: vec![EventType::Interaction, EventType::Session],
    };
    let key = keys::create_limited(&bed.pool, "web", Scope::Ingest, &limits)
        .await
        .unwrap();
    let hash = sha256(&key);
    let known = async || match registry.key(&hash).await {
        Ok(Some(grant)) => Some(grant.limits.clone()),
        _ => None,
    };
    eventually("the limits are known", async || {
        known().await.as_ref() == Some(&limits)
    })
    .await;
    let wider = Limits::default();
    keys::limit(&bed.pool, "web", &wider).await.unwrap();
    eventually("the new limits are known", async || {
        known().await.as_ref() == Some(&wider)
    })
    .await;
    let listed = keys::list(&bed.pool).await.unwrap();
    assert_eq!(listed[0].grant.limits, wider);

    let admin = keys::create_limited(&bed.pool, "backend", Scope::Admin, &limits).await;
    assert!(matches!(admin, Err(keys::Error::NotLimitable)));
    keys::create(&bed.pool, "backend", Scope::Admin)
        .await
        .unwrap();
    let admin = keys::limit(&bed.pool, "backend", &limits).await;
    assert!(matches!(admin, Err(keys::Error::NotLimitable)));
    let nobody = keys::limit(&bed.pool, "phone", &limits).await;
    assert!(matches!(nobody, Err(keys::Error::Unknown(_))));
}
