//! `rivulet registry import`

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use rivulet_migrations::logins::Login;

use crate::services::Postgres;

/// Bring families into the registry.
#[derive(Args)]
pub(crate) struct Registry {
    #[command(flatten)]
    postgres: Postgres,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Register or change the families of a file. Running it again is safe.
    Import {
        /// Lines of {"parent_id", "timezone", "consents", "children": [{"child_id", "age_group"}]}; a consent
        /// is true, false or {"granted", "version", "method"}. `-` is standard input.
        file: PathBuf,
    },
}

impl Registry {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let pool = self.postgres.pool(Login::Operator, "registry", 1)?;
        let Action::Import { file } = self.action;
        let imported = if file.as_os_str() == "-" {
            let input = tokio::io::BufReader::new(tokio::io::stdin());
            rivulet_registry::import(input, &pool).await?
        } else {
            let input = tokio::fs::File::open(&file)
                .await
                .with_context(|| format!("{} cannot be opened", file.display()))?;
            rivulet_registry::import(tokio::io::BufReader::new(input), &pool).await?
        };
        println!(
            "imported {} parents with {} children",
            imported.parents, imported.children
        );
        Ok(())
    }
}
