//! `rivulet keys create|list|revoke`

use clap::{Args, Subcommand};
use rivulet_registry::keys::{self, Scope};

use crate::services::Postgres;

/// Create, list and revoke API keys.
#[derive(Args)]
pub(crate) struct Keys {
    #[command(flatten)]
    postgres: Postgres,
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
    },
    /// List all keys, revoked ones too.
    List,
    /// Revoke a key: every node refuses it within 5 s.
    Revoke {
        /// The key's name.
        name: String,
    },
}

impl Keys {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let pool = self.postgres.pool("keys", 1)?;
        match self.action {
            Action::Create { name, scope } => {
                println!("{}", keys::create(&pool, &name, scope).await?)
            }
            Action::List => {
                println!("{:<32} {:<8} {:<20} revoked", "name", "scope", "created");
                for key in keys::list(&pool).await? {
                    let time = |time: chrono::DateTime<chrono::Utc>| {
                        time.format("%Y-%m-%dT%H:%M:%SZ").to_string()
                    };
                    let revoked = key.revoked_at.map_or_else(|| "-".to_owned(), time);
                    let created = time(key.created_at);
                    println!(
                        "{:<32} {:<8} {created:<20} {revoked}",
                        key.name,
                        key.scope.as_str()
                    );
                }
            }
            Action::Revoke { name } => {
                keys::revoke(&pool, &name).await?;
                println!("revoked {name}");
            }
        }
        Ok(())
    }
}
