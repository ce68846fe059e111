//! `rivulet topics`

use anyhow::ensure;
use clap::{Args, Subcommand};
use rivulet_consumer::Adopted;
use rivulet_kafka::TopicPlan;
use rivulet_migrations::logins::Login;
use rivulet_retention::Class;

use crate::{
    retention::{RetentionFlags, agreed, in_words, kafka_keeps},
    services::{Kafka, Postgres},
};

/// Creates the four topics. Those that exist are left as they are, but for how long they keep their records: that is
/// brought to the retention file. What else differs is told.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Topics {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    create: Create,
}

#[derive(Subcommand)]
enum Action {
    /// Go on where consumers were stopped, because their positions are not of the log that is there now.
    Adopt(Adopt),
}

/// Looks for positions that are of a topic that was deleted and created again, or that lie outside of
/// the log, tells what going on would mean, and with --write sets them to the oldest record there is.
/// What was counted before is recognised and not counted again. Consumers go on within seconds.
#[derive(Args)]
struct Adopt {
    #[command(flatten)]
    kafka: Kafka,
    #[command(flatten)]
    postgres: Postgres,
    /// Only this topic.
    #[arg(long)]
    topic: Option<String>,
    /// Sets the positions.
    #[arg(long)]
    write: bool,
}

impl Adopt {
    async fn run(self) -> anyhow::Result<()> {
        let cluster = self.kafka.cluster()?;
        let topics = self
            .topic
            .map_or_else(|| cluster.topics().to_vec(), |topic| vec![topic]);
        let pool = self.postgres.pool(Login::Operator, "topics", 1)?;
        let adopted = rivulet_consumer::adopt(&cluster, &pool, &topics, self.write).await?;
        for Adopted {
            consumer,
            topic,
            partition,
            reason,
            before,
            now,
        } in &adopted
        {
            println!("{consumer}  {topic}[{partition}]  {before} -> {now}: {reason}");
        }
        match (adopted.len(), self.write) {
            (0, _) => println!("every position is within its log"),
            (positions, true) => println!("{positions} positions set"),
            (positions, false) => println!("{positions} positions would be set; --write does it"),
        }
        Ok(())
    }
}

#[derive(Args)]
struct Create {
    #[command(flatten)]
    kafka: Kafka,
    /// Partitions of each topic. More cannot be taken back, and adding some moves children.
    #[arg(long, env = "RIVULET_TOPIC_PARTITIONS", default_value_t = 3)]
    partitions: i32,
    /// Copies of each partition; 3 in production.
    #[arg(long, env = "RIVULET_TOPIC_REPLICATION", default_value_t = 1)]
    replication: i32,
    /// Copies that must have an event before it is `accepted`; 2 in production.
    #[arg(long, env = "RIVULET_TOPIC_MIN_INSYNC", default_value_t = 1)]
    min_insync: i32,
    /// Days a record is kept. Must be what the retention file says, if given.
    #[arg(long, env = "RIVULET_TOPIC_RETENTION_DAYS")]
    retention_days: Option<u64>,
    #[command(flatten)]
    retention: RetentionFlags,
}

impl Topics {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        match self.action {
            Some(Action::Adopt(adopt)) => adopt.run().await,
            None => self.create.run().await,
        }
    }
}

impl Create {
    async fn run(self) -> anyhow::Result<()> {
        ensure!(
            self.partitions > 0 && self.replication > 0,
            "a topic needs a partition and a copy"
        );
        ensure!(
            (1..=self.replication).contains(&self.min_insync),
            "--min-insync must be from 1 to --replication: with more, nothing could ever be accepted"
        );
        let (policy, variable) = (self.retention.policy()?, "RIVULET_TOPIC_RETENTION_DAYS");
        let days = agreed(&policy, Class::Kafka, variable, self.retention_days)?;
        let cluster = self.kafka.cluster()?;
        let plan = TopicPlan {
            partitions: self.partitions,
            replication: self.replication,
            min_insync: self.min_insync,
            retention: kafka_keeps(days),
        };
        let reports = rivulet_kafka::create_topics(&cluster, &plan).await?;
        let changed = rivulet_kafka::keep_for(&cluster, plan.retention).await?;
        for report in reports {
            println!(
                "{} {}",
                report.topic,
                if report.created { "created" } else { "exists" }
            );
            for difference in report.differences {
                if !difference.starts_with("retention.ms") {
                    println!("  {difference}");
                }
            }
            if let Some((_, kept)) = changed.iter().find(|(topic, _)| *topic == report.topic) {
                println!(
                    "  kept its records for {}, now for {days} days",
                    in_words(*kept)
                );
            }
        }
        Ok(())
    }
}
