//! `rivulet keys create|limit|list|revoke|token`

use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use rivulet_auditlog::{Action as Audited, Entry, record_now};
use rivulet_events::{EventType, ParentId};
use rivulet_migrations::logins::Login;
use rivulet_registry::keys::{self, Limits, Origin, Scope};
use uuid::Uuid;

use crate::{services::Postgres, tokens::TokenFlags};

/// Create, limit, list and revoke API keys; make development tokens.
#[derive(Args)]
#[command(subcommand_negates_reqs = true)]
pub(crate) struct Keys {
    // All but `token` need it, and ask for it themselves.
    #[command(flatten)]
    postgres: Option<Postgres>,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Make a key and print it. It cannot be shown again: only its hash is stored.
    Create {
        /// What to call it. Names are for ever: a revoked key keeps its own.
        #[arg(long)]
        name: String,
        /// What it may do: `ingest`, `read` or `admin`.
        #[arg(long)]
        scope: Scope,
        #[command(flatten)]
        limits: LimitFlags,
    },
    /// Give a key other limits in place of those it has, none where none are named; in force on
    /// every node within 5 s.
    Limit {
        /// The key's name.
        name: String,
        #[command(flatten)]
        limits: LimitFlags,
    },
    /// List all keys, revoked ones too.
    List,
    /// Revoke a key: every node refuses it within 5 s.
    Revoke {
        /// The key's name.
        name: String,
    },
    /// Make an HS256 client token for development and print it. It needs the token settings of
    /// ingest, and no database; with one, the audit log tells of it.
    Token {
        /// The parent whose children it may write.
        #[arg(long, value_name = "ID")]
        parent: Uuid,
        /// How long it is good for.
        #[arg(long, value_name = "SECONDS", default_value_t = 60 * 60)]
        ttl: u64,
        // Boxed: the other actions are small.
        #[command(flatten)]
        tokens: Box<TokenFlags>,
    },
}

#[derive(Args)]
struct LimitFlags {
    /// Only pages of this origin, such as https://app.example, may use it; may be given again.
    #[arg(long = "origin", value_name = "ORIGIN")]
    origins: Vec<Origin>,
    /// It may post only events of this type; may be given again.
    #[arg(long = "event-type", value_name = "TYPE", value_parser = event_type)]
    event_types: Vec<EventType>,
}

fn event_type(word: &str) -> Result<EventType, String> {
    EventType::from_word(word).ok_or_else(|| {
        let words: Vec<_> = EventType::ALL.iter().map(|kind| kind.as_str()).collect();
        format!("an event type is one of {}", words.join(", "))
    })
}

impl From<LimitFlags> for Limits {
    fn from(flags: LimitFlags) -> Self {
        Self {
            origins: flags.origins,
            event_types: flags.event_types,
        }
    }
}

impl Keys {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let postgres = self.postgres;
        let pool = || {
            postgres
                .as_ref()
                .context("DATABASE_URL is not set")?
                .pool(Login::Operator, "keys", 1)
        };
        match self.action {
            Action::Create {
                name,
                scope,
                limits,
            } => {
                let key = keys::create_limited(&pool()?, &name, scope, &limits.into()).await?;
                println!("{key}");
            }
            Action::Limit { name, limits } => {
                keys::limit(&pool()?, &name, &limits.into()).await?;
                println!("limited {name}");
            }
            Action::List => {
                println!(
                    "{:<32} {:<8} {:<20} {:<20} limited to",
                    "name", "scope", "created", "revoked"
                );
                for key in keys::list(&pool()?).await? {
                    let time = |time: chrono::DateTime<chrono::Utc>| {
                        time.format("%Y-%m-%dT%H:%M:%SZ").to_string()
                    };
                    println!(
                        "{:<32} {:<8} {:<20} {:<20} {}",
                        key.name,
                        key.grant.scope.as_str(),
                        time(key.created_at),
                        key.revoked_at.map_or_else(|| "-".to_owned(), time),
                        limited_to(&key.grant.limits)
                    );
                }
            }
            Action::Revoke { name } => {
                keys::revoke(&pool()?, &name).await?;
                println!("revoked {name}");
            }
            Action::Token {
                parent,
                ttl,
                tokens,
            } => {
                let Some(config) = tokens.config()? else {
                    bail!("there is no token secret to sign with: set RIVULET_TOKEN_SECRET");
                };
                let ttl = Duration::from_secs(ttl);
                let token = rivulet_tokens::mint(&config, ParentId::new(parent), ttl)?;
                match &postgres {
                    Some(postgres) => {
                        let made = Entry::done(Audited::TokensMake).parent(parent);
                        let made = made.detail("ttl_s", ttl.as_secs());
                        record_now(&postgres.pool(Login::Operator, "keys", 1)?, made).await?;
                    }
                    None => eprintln!(
                        "rivulet: DATABASE_URL is not set, so the audit log does not tell of this token"
                    ),
                }
                println!("{token}");
            }
        }
        Ok(())
    }
}

fn limited_to(limits: &Limits) -> String {
    let origins = limits.origins.iter().map(ToString::to_string);
    let types = limits
        .event_types
        .iter()
        .map(|kind| kind.as_str().to_owned());
    let words: Vec<_> = origins.chain(types).collect();
    if words.is_empty() {
        "-".to_owned()
    } else {
        words.join(" ")
    }
}
