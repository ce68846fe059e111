//! `rivulet-conformance -- DRIVER [ARGS]`: whether an SDK keeps the contract.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Parser;
use rivulet_conformance::{
    campaign::{self, Plan},
    rules,
    server::Upstream,
};
use uuid::Uuid;

/// Holds an SDK to Rivulet's contract (docs/sdk-conformance.md), through its driver: a program that takes commands as
/// lines. Exits 1 where the SDK breaks a rule, or loses an event in silence.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Seeds of the campaign, one run each; none: only the rules
    #[arg(long, value_delimiter = ',', default_value = "1,2,3")]
    seeds: Vec<u64>,
    /// Events of a run
    #[arg(long, default_value_t = 10_000)]
    events: usize,
    /// Faults of a run
    #[arg(long, default_value_t = 200)]
    faults: usize,
    /// Only the rules whose names contain this
    #[arg(long, default_value = "")]
    rule: String,
    /// Only the campaign
    #[arg(long)]
    no_rules: bool,
    /// A real ingest behind the scripted server: what it takes is stored there
    #[arg(long, requires = "upstream_key", requires = "child")]
    upstream: Option<String>,
    /// An API key of scope ingest, for --upstream
    #[arg(long, env = "RIVULET_INGEST_KEY", hide_env_values = true)]
    upstream_key: Option<String>,
    /// A child in the registry of --upstream; may be given again
    #[arg(long)]
    child: Vec<Uuid>,
    /// The driver and its arguments
    #[arg(last = true, required = true)]
    driver: Vec<String>,
}

#[expect(clippy::print_stdout, reason = "it is what the program is for")]
fn run(args: &Args) -> Result<()> {
    let mut broken = 0;
    if !args.no_rules {
        for rule in rules::all()
            .iter()
            .filter(|rule| rule.name.contains(&args.rule))
        {
            let words = rule.name.replace('_', " ");
            match rule.check(&args.driver) {
                Ok(()) => println!("kept    {words}"),
                Err(why) => {
                    broken += 1;
                    println!("BROKEN  {words}: {why:#}");
                }
            }
        }
    }
    for seed in &args.seeds {
        let mut plan = Plan {
            events: args.events,
            faults: args.faults,
            ..Plan::new(*seed)
        };
        let mut upstream = None;
        if let (Some(url), Some(key)) = (&args.upstream, &args.upstream_key) {
            upstream = Some(Upstream::new(url, key));
            plan.children.clone_from(&args.child);
        }
        match campaign::run(&args.driver, &plan, upstream) {
            Ok(outcome) => println!("seed {seed}: {outcome}"),
            Err(why) => {
                broken += 1;
                println!("BROKEN  seed {seed}: {why:#}");
            }
        }
    }
    if broken > 0 {
        bail!("{broken} broken");
    }
    Ok(())
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rivulet-conformance: {error:#}");
            ExitCode::FAILURE
        }
    }
}
