//! API keys: made once, shown once, kept only as SHA-256.

use std::{fmt, str::FromStr};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use rand::{TryRngCore as _, rngs::OsRng};
use rivulet_auditlog::{Action, Entry, record};
use sha2::{Digest as _, Sha256};
use sqlx::PgPool;

pub use crate::limits::{InvalidOrigin, Limits, Origin};

/// What a key may do. One key has one scope: an admin key posts no events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Post events.
    Ingest,
    /// Read rollups.
    Read,
    /// Change the registry.
    Admin,
}

impl Scope {
    /// Every scope.
    pub const ALL: &[Self] = &[Self::Ingest, Self::Read, Self::Admin];

    /// Its name on the command line and in the table.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Read => "read",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Not the name of a scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a scope is one of ingest, read, admin")]
pub struct UnknownScope;

impl FromStr for Scope {
    type Err = UnknownScope;
    fn from_str(word: &str) -> Result<Self, UnknownScope> {
        let of_word = |scope: &&Self| scope.as_str() == word;
        Self::ALL.iter().find(of_word).copied().ok_or(UnknownScope)
    }
}

/// What the holder of a key may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The one thing it is for.
    pub scope: Scope,
    /// The limits within that scope.
    pub limits: Limits,
}

/// A key as the table has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// What it was called when made.
    pub name: String,
    /// What it may do.
    pub grant: Grant,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// Since when it is refused.
    pub revoked_at: Option<DateTime<Utc>>,
}

/// Why a key could not be made, listed or revoked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name is taken, perhaps by a revoked key.
    #[error("there is a key named `{0}` already (names are not used again after a revocation)")]
    NameTaken(String),
    /// The name is blank, too long or holds control characters.
    #[error("a key's name has 1 to 100 characters, none of them a control character")]
    BadName,
    /// No key has this name.
    #[error("there is no key named `{0}`")]
    Unknown(String),
    /// Only posting events can be limited.
    #[error("only a key of scope ingest can be limited to origins or event types")]
    NotLimitable,
    /// The operating system gave no random bytes.
    #[error("no random bytes to make a key from: {0}")]
    Random(#[from] rand::rand_core::OsError),
    /// PostgreSQL did not do it.
    #[error("PostgreSQL: {0}")]
    Database(#[from] sqlx::Error),
}

/// The SHA-256 by which a presented key is looked up. The key has 256 random bits, so a plain hash
/// is as good as a slow one, and how long the look-up takes tells nothing about another key.
#[must_use]
pub fn sha256(key: &str) -> [u8; 32] {
    Sha256::digest(key).into()
}

/// Makes a key without limits and returns it, the only time that it can be seen.
///
/// # Errors
/// [`Error::BadName`], [`Error::NameTaken`], [`Error::Random`], [`Error::Database`].
pub async fn create(pool: &PgPool, name: &str, scope: Scope) -> Result<String, Error> {
    create_limited(pool, name, scope, &Limits::default()).await
}

/// The same with limits.
///
/// # Errors
/// Those of [`create`], and [`Error::NotLimitable`].
pub async fn create_limited(
    pool: &PgPool,
    name: &str,
    scope: Scope,
    limits: &Limits,
) -> Result<String, Error> {
    if scope != Scope::Ingest && *limits != Limits::default() {
        return Err(Error::NotLimitable);
    }
    let length = name.chars().count();
    if name.trim().is_empty() || length > 100 || name.chars().any(char::is_control) {
        return Err(Error::BadName);
    }
    let mut secret = [0u8; 32];
    OsRng.try_fill_bytes(&mut secret)?;
    let key = format!("rvk_{}", BASE64_URL_SAFE_NO_PAD.encode(secret));
    let mut transaction = pool.begin().await?;
    let made = sqlx::query(
        "INSERT INTO api_keys (name, scope, sha256, origins, event_types)
         VALUES ($1, $2, $3, $4, $5) ON CONFLICT (name) DO NOTHING",
    )
    .bind(name)
    .bind(scope.as_str())
    .bind(&sha256(&key)[..])
    .bind(limits.origin_column())
    .bind(limits.event_type_column())
    .execute(&mut *transaction)
    .await?;
    if made.rows_affected() == 0 {
        return Err(Error::NameTaken(name.to_owned()));
    }
    let entry = Entry::done(Action::KeysCreate).about("key", [name]);
    let entry = limits.told_by(entry.detail("scope", scope.as_str()));
    record(&mut transaction, entry).await?;
    transaction.commit().await?;
    Ok(key)
}

/// All keys, revoked ones too, by name.
///
/// # Errors
/// [`Error::Database`].
pub async fn list(pool: &PgPool) -> Result<Vec<ApiKey>, Error> {
    type Row = (
        String,
        DateTime<Utc>,
        Option<DateTime<Utc>>,
        String,
        Vec<String>,
        Vec<String>,
    );
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT name, created_at, revoked_at, scope, origins, event_types
         FROM api_keys ORDER BY name",
    )
    .fetch_all(pool)
    .await?;
    let key = |(name, created_at, revoked_at, scope, origins, event_types): Row| {
        Ok(ApiKey {
            name,
            grant: Grant::of_row(&scope, origins, &event_types)?,
            created_at,
            revoked_at,
        })
    };
    rows.into_iter().map(key).collect()
}

/// What the key with this SHA-256 is called.
///
/// # Errors
/// PostgreSQL failed.
pub async fn name(pool: &PgPool, sha256: &[u8; 32]) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar("SELECT name FROM api_keys WHERE sha256 = $1")
        .bind(&sha256[..])
        .fetch_optional(pool)
        .await
}

/// The SHA-256 of the key of this name, which may be a revoked one.
///
/// # Errors
/// PostgreSQL failed.
pub async fn sha256_of(pool: &PgPool, name: &str) -> Result<Option<[u8; 32]>, sqlx::Error> {
    let found: Option<Vec<u8>> = sqlx::query_scalar("SELECT sha256 FROM api_keys WHERE name = $1")
        .bind(name)
        .fetch_optional(pool)
        .await?;
    Ok(found.and_then(|hash| hash.try_into().ok()))
}

/// Gives a key these limits in place of those it had, in force on every node within 5 s.
///
/// # Errors
/// [`Error::Unknown`], [`Error::NotLimitable`], [`Error::Database`].
pub async fn limit(pool: &PgPool, name: &str, limits: &Limits) -> Result<(), Error> {
    let mut transaction = pool.begin().await?;
    let scope: Option<String> = sqlx::query_scalar(
        "UPDATE api_keys SET origins = CASE scope WHEN 'ingest' THEN $2 ELSE origins END,
                             event_types = CASE scope WHEN 'ingest' THEN $3 ELSE event_types END
         WHERE name = $1 RETURNING scope",
    )
    .bind(name)
    .bind(limits.origin_column())
    .bind(limits.event_type_column())
    .fetch_optional(&mut *transaction)
    .await?;
    match scope.as_deref() {
        None => return Err(Error::Unknown(name.to_owned())),
        Some("ingest") => {}
        Some(_) => return Err(Error::NotLimitable),
    }
    let entry = Entry::done(Action::KeysLimit).about("key", [name]);
    record(&mut transaction, limits.told_by(entry)).await?;
    Ok(transaction.commit().await?)
}

/// Revokes a key: every node refuses it within 5 s. Doing it again changes nothing.
///
/// # Errors
/// [`Error::Unknown`], [`Error::Database`].
pub async fn revoke(pool: &PgPool, name: &str) -> Result<(), Error> {
    let mut transaction = pool.begin().await?;
    let done =
        sqlx::query("UPDATE api_keys SET revoked_at = coalesce(revoked_at, now()) WHERE name = $1")
            .bind(name)
            .execute(&mut *transaction)
            .await?;
    if done.rows_affected() == 0 {
        return Err(Error::Unknown(name.to_owned()));
    }
    let entry = Entry::done(Action::KeysRevoke).about("key", [name]);
    record(&mut transaction, entry).await?;
    Ok(transaction.commit().await?)
}

impl Grant {
    /// A grant as the table has it. The table's constraints make it impossible that this fails.
    pub(crate) fn of_row(
        scope: &str,
        origins: Vec<String>,
        event_types: &[String],
    ) -> Result<Self, sqlx::Error> {
        let scope = scope.parse().ok();
        let limits = Limits::of_columns(origins, event_types);
        match (scope, limits) {
            (Some(scope), Some(limits)) => Ok(Self { scope, limits }),
            _ => Err(sqlx::Error::Decode("a key of a newer release".into())),
        }
    }
}
