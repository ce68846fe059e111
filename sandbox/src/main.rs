//! What `./dev` hands over to once everything is built.

use std::{collections::BTreeMap, io::Write, process::ExitCode};

use anyhow::{Context, Result, anyhow, bail};
use clap::{ArgAction, Parser, Subcommand};
use rivulet_sandbox::{ALLOW_EXTERNAL, Sandbox, Service, named_in_environment, refuse};
use tokio::{
    process::Command,
    signal::unix::{SignalKind, signal},
};

/// Runs private PostgreSQL, Kafka and ClickHouse, and Rivulet on them. Use it through `./dev`.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Starts what does not run, repairs what does not work, and leaves it running.
    Up {
        /// Without the simulated family app.
        #[arg(long)]
        no_demo: bool,
        /// Only PostgreSQL, Kafka and ClickHouse.
        #[arg(long, conflicts_with = "no_demo")]
        services: bool,
    },
    /// Stops everything that `up` started.
    Down {
        /// Removes the data, logs and keys too.
        #[arg(long)]
        wipe: bool,
    },
    /// Prints addresses and development keys for a shell to source.
    Env,
    /// Runs a command with the services up and its environment set; stops the services
    /// afterwards unless `up` had started them.
    Run {
        /// Allows services that the environment names and this checkout does not run.
        #[arg(long, action = ArgAction::Set, default_value_t = false)]
        external: bool,
        /// The command and its arguments.
        #[arg(required = true, trailing_var_arg = true)]
        command: Vec<String>,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    match act(Cli::parse().command).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("dev: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn act(action: Action) -> Result<ExitCode> {
    let sandbox = Sandbox::of_checkout()?;
    match action {
        Action::Up { services: true, .. } => {
            sandbox.up(&named_in_environment()).await?;
            sandbox.keep()?;
        }
        Action::Up { no_demo, .. } => {
            sandbox.up(&named_in_environment()).await?;
            sandbox.keep()?;
            let guide = sandbox.up_roles(!no_demo).await?;
            std::io::stdout().write_all(guide.as_bytes())?;
        }
        Action::Down { wipe } => sandbox.down(wipe).await?,
        Action::Env => {
            if !sandbox.is_running() {
                eprintln!("dev: nothing of this checkout runs now: ./dev up");
            }
            let text = sandbox.environment()?;
            std::io::stdout().write_all(text.as_bytes())?;
        }
        Action::Run { external, command } => return run(&sandbox, external, &command).await,
    }
    Ok(ExitCode::SUCCESS)
}

async fn run(sandbox: &Sandbox, external: bool, command: &[String]) -> Result<ExitCode> {
    let named = named_in_environment();
    if !external {
        refuse(&sandbox.external(&named))?;
    }
    let using = sandbox.begin_use()?;
    let mut terminated = signal(SignalKind::terminate())?;
    let result = tokio::select! {
        result = with_services(sandbox, &named, external, command) => result,
        // The command goes with it; what was started is stopped below.
        _ = terminated.recv() => Err(anyhow!("told to end")),
    };
    sandbox.end_use(using).await?;
    result
}

async fn with_services(
    sandbox: &Sandbox,
    named: &BTreeMap<Service, String>,
    external: bool,
    command: &[String],
) -> Result<ExitCode> {
    let stack = tokio::select! {
        stack = sandbox.up(named) => stack?,
        _ = tokio::signal::ctrl_c() => bail!("interrupted"),
    };
    let (program, args) = command.split_first().context("no command")?;
    let mut child = Command::new(program);
    child.args(args).envs(stack.variables()).kill_on_drop(true);
    if external {
        child.env(ALLOW_EXTERNAL, "1");
    }
    let mut child = child.spawn().with_context(|| format!("run {program}"))?;
    let status = loop {
        tokio::select! {
            status = child.wait() => break status?,
            // At a terminal the child has had it too, and ends in its own way.
            _ = tokio::signal::ctrl_c() => {}
        }
    };
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}
