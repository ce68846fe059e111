//! The `rivulet` command: flags, configuration and wiring.

mod clickhouse_tls;
mod commands;
mod exposure;
mod flags;
mod kafka_security;
mod metrics;
mod port;
mod retention;
mod services;
mod supervise;
mod times;
mod tokens;
mod zones;

use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use rivulet_telemetry::LogFormat;
use rivulet_zones::{Release, Rules};
use sqlx::error::DatabaseError;

/// Streaming analytics and telemetry for children's learning apps.
///
/// Where the help of a flag names an environment variable, the flag can be given as that.
#[derive(Parser)]
#[command(version, about, max_term_width = 100)]
struct Cli {
    /// What is logged, in `tracing`'s directive syntax.
    #[arg(long, env = "RIVULET_LOG", default_value = "info", global = true)]
    log: String,
    /// How a log line looks.
    #[arg(
        long,
        env = "RIVULET_LOG_FORMAT",
        default_value = "text",
        global = true
    )]
    log_format: Format,
    #[command(flatten)]
    zones: zones::ZoneFlags,
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Text,
    Json,
}

#[derive(Subcommand)]
enum Command {
    /// Take events over HTTP and make them durable in Kafka.
    Ingest(commands::roles::Ingest),
    /// Roll events up into PostgreSQL, exactly once.
    Aggregate(commands::roles::Aggregate),
    /// Write the history to ClickHouse.
    Sink(commands::roles::Sink),
    Api(commands::roles::Api),
    /// Every role in one process.
    All(commands::roles::All),
    /// Bring both databases' schemas up to date.
    Migrate(commands::migrate::Migrate),
    /// Create the Kafka topics.
    Topics(commands::topics::Topics),
    /// Create, limit, list and revoke API keys; make development tokens.
    Keys(commands::keys::Keys),
    /// Bring families into the registry.
    Registry(commands::registry::Registry),
    /// Look at records that could not be processed, replay or drop them.
    Quarantine(commands::quarantine::Quarantine),
    /// Play a family app that sends telemetry.
    Simulate(commands::simulate::Simulate),
    /// Send events of its own and wait for them: does what is sent now arrive?
    Canary(commands::canary::Canary),
    /// Compare what was stored with the log: is every event accounted for?
    Verify(commands::verify::Verify),
    /// Recount rollups from the history, show where they differ, and replace them.
    Rebuild(commands::rebuild::Rebuild),
    /// Erase children and families from every store, for ever.
    Erase(commands::erase::Erase),
    /// How long what is kept: what would go and when, and the public notice.
    Retention(commands::retention::Retention),
    /// Write all that is held of a child or a family into a zip.
    Export(commands::export::Export),
    Audit(commands::audit::Audit),
    /// Watch what arrives now, what it is answered and where it goes.
    Tail(commands::tail::Tail),
    /// Tell the whole way of one event.
    Trace(commands::trace::Trace),
    /// Check the configuration of every role and that its services answer.
    CheckConfig(commands::check_config::CheckConfig),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let format = match cli.log_format {
        Format::Text => LogFormat::Text,
        Format::Json => LogFormat::Json,
    };
    let _logs = match rivulet_telemetry::logs(&cli.log, format) {
        Ok(logs) => logs,
        Err(error) => {
            eprintln!("rivulet: --log cannot be read: {error}");
            return ExitCode::from(2);
        }
    };
    let rules = match cli.zones.load() {
        Ok(rules) => rules,
        Err(error) => {
            eprintln!("rivulet: {error}");
            return ExitCode::from(2);
        }
    };
    match run(cli.command, rules) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rivulet: {}", explain(&error));
            // An answer that scripts tell from a failure.
            if error.is::<commands::verify::Unbalanced>() {
                return ExitCode::from(3);
            }
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn run(command: Command, rules: Rules) -> anyhow::Result<()> {
    let releases = rules.releases().to_vec();
    tokio::select! {
        // First: it says where metrics go.
        biased;
        outcome = command.run(&releases) => outcome,
        never = zones::keep_current(rules) => match never {},
    }
}

impl Command {
    async fn run(self, releases: &[Release]) -> anyhow::Result<()> {
        match self {
            Self::Ingest(role) => role.run().await,
            Self::Aggregate(role) => role.run().await,
            Self::Sink(role) => role.run().await,
            Self::Api(role) => role.run().await,
            Self::All(roles) => roles.run().await,
            Self::Migrate(command) => command.run().await,
            Self::Topics(command) => command.run().await,
            Self::Keys(command) => command.run().await,
            Self::Registry(command) => command.run().await,
            Self::Quarantine(command) => command.run().await,
            Self::Simulate(command) => command.run().await,
            Self::Canary(command) => command.run().await,
            Self::Verify(command) => command.run().await,
            Self::Rebuild(command) => command.run().await,
            Self::Erase(command) => command.run().await,
            Self::Retention(command) => command.run().await,
            Self::Export(command) => command.run().await,
            Self::Audit(command) => command.run().await,
            Self::Tail(command) => command.run().await,
            Self::Trace(command) => command.run().await,
            Self::CheckConfig(command) => command.run(releases).await,
        }
    }
}

/// An error with its causes, without repeating those that a text already tells.
fn explain(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    if let Some(advice) = advice(error) {
        text.push_str("; ");
        text.push_str(advice);
    }
    text
}

/// What to do where PostgreSQL refuses the login, or what it asks for.
fn advice(error: &anyhow::Error) -> Option<&'static str> {
    let code = error.chain().find_map(|cause| {
        let refused = match cause.downcast_ref::<sqlx::Error>() {
            Some(error) => error.as_database_error()?,
            None => &**cause.downcast_ref::<Box<dyn DatabaseError>>()?,
        };
        Some(refused.code()?.into_owned())
    });
    match code?.as_str() {
        // insufficient_privilege
        "42501" => Some(
            "this login of PostgreSQL may not do that: the password of the one that may goes into the environment \
             (RIVULET_OPERATOR_PASSWORD, or RIVULET_AUDITOR_PASSWORD for the audit log), and `rivulet check-config` says \
             what the roles' logins lack",
        ),
        // invalid_password, invalid_authorization_specification
        "28P01" | "28000" => Some(
            "`rivulet migrate` gives the logins of Rivulet's the passwords that are in its environment, such as \
             RIVULET_INGEST_PASSWORD: they must be the same here",
        ),
        _ => None,
    }
}
