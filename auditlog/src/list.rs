//! Searching the log.

use chrono::{DateTime, Utc};
use sqlx::{PgPool, Postgres, QueryBuilder};

use crate::{Row, Subject, hex, row::COLUMNS};

/// Which rows. Without more, all.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Of this action; where it ends with a dot, of all that begin with it.
    pub action: Option<String>,
    /// Of this actor: a key's name, a user's, the hash of a token's subject.
    pub actor: Option<String>,
    /// About this child or parent.
    pub subject: Option<Subject>,
    /// About the thing of this name.
    pub about: Option<String>,
    /// That ended so.
    pub outcome: Option<String>,
    /// Of this request.
    pub request_id: Option<String>,
    /// Written then or later.
    pub since: Option<DateTime<Utc>>,
    /// Written before.
    pub until: Option<DateTime<Utc>>,
}

/// The newest rows that match, at most so many, the newest first.
///
/// # Errors
/// PostgreSQL.
pub async fn list(pool: &PgPool, filter: &Filter, limit: i64) -> Result<Vec<Row>, sqlx::Error> {
    let mut query =
        QueryBuilder::<Postgres>::new(format!("SELECT {COLUMNS} FROM public.audit_log WHERE true"));
    let mut text = |condition: &str, value: Option<String>| {
        if let Some(value) = value {
            query.push(condition).push_bind(value);
        }
    };
    match &filter.action {
        Some(prefix) if prefix.ends_with('.') => {
            text(" AND starts_with(action, ", Some(prefix.clone()));
            query.push(")");
        }
        action => text(" AND action = ", action.clone()),
    }
    let mut text = |condition: &str, value: Option<String>| {
        if let Some(value) = value {
            query.push(condition).push_bind(value);
        }
    };
    text(" AND actor = ", filter.actor.clone());
    text(" AND outcome = ", filter.outcome.clone());
    text(" AND request_id = ", filter.request_id.clone());
    text(
        " AND subject_kind = ",
        filter.subject.map(|subject| subject.kind.to_owned()),
    );
    let names = [
        filter.subject.map(|subject| hex(&subject.hash)),
        filter.about.clone(),
    ];
    for name in names.into_iter().flatten() {
        query.push(" AND subjects @> ").push_bind(vec![name]);
    }
    for (condition, time) in [(" AND at >= ", filter.since), (" AND at < ", filter.until)] {
        if let Some(time) = time {
            query.push(condition).push_bind(time);
        }
    }
    query
        .push(" ORDER BY seq DESC, at DESC LIMIT ")
        .push_bind(limit);
    query.build_query_as().fetch_all(pool).await
}
