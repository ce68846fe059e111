//! Makes the topics, and asks how long they keep their records.

use std::time::Duration;

use rdkafka::{
    admin::{
        AdminClient, AdminOptions, AlterConfig, ConfigResource, ConfigSource, NewTopic,
        ResourceSpecifier, TopicReplication,
    },
    error::KafkaError,
    types::RDKafkaErrorCode,
};

use crate::{Cluster, Context, Error, REQUEST_TIMEOUT, context::complaint};

/// How the topics are to be.
#[derive(Clone, Debug)]
pub struct TopicPlan {
    /// Partitions a topic. More later is possible but moves children between partitions.
    pub partitions: i32,
    /// Copies of each record. 3 in production.
    pub replication: i32,
    /// Copies that must be there for a record to be acknowledged. 2 in production.
    pub min_insync: i32,
    /// How long a record is kept: the raw stream is personal data.
    pub retention: Duration,
}

impl Default for TopicPlan {
    fn default() -> Self {
        Self {
            partitions: 3,
            replication: 1,
            min_insync: 1,
            retention: Duration::from_secs(7 * 24 * 3600),
        }
    }
}

/// What became of one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicReport {
    /// Its name.
    pub topic: String,
    /// Whether it was made now. Otherwise it was there before.
    pub created: bool,
    /// Where a topic that was there differs from the plan. It is left as it is.
    pub differences: Vec<String>,
}

/// How long a topic keeps its records.
#[derive(Clone, Copy)]
enum Kept {
    /// So long.
    For(Duration),
    /// The newest of each key, for ever.
    Compacted,
}

impl Kept {
    const fn policy(self) -> &'static str {
        match self {
            Self::For(_) => "delete",
            Self::Compacted => "compact",
        }
    }

    /// `retention.ms`.
    fn ms(self) -> String {
        match self {
            Self::For(retention) => retention.as_millis().to_string(),
            Self::Compacted => "-1".to_owned(),
        }
    }
}

/// Makes those of the topics that are not there: the four of the events, and the log of erasures. Running it again
/// changes nothing.
///
/// # Errors
/// Kafka is out of reach, or refuses.
pub async fn create_topics(cluster: &Cluster, plan: &TopicPlan) -> Result<Vec<TopicReport>, Error> {
    let admin = admin(cluster)?;
    let mut plans: Vec<(String, i32, Kept)> = cluster
        .topics()
        .map(|topic| (topic, plan.partitions, Kept::For(plan.retention)))
        .into();
    plans.push((cluster.erasure_log(), 1, Kept::Compacted));
    let segment = segment_ms(plan.retention);
    let min_insync = plan.min_insync.to_string();
    let retentions: Vec<_> = plans.iter().map(|(.., kept)| kept.ms()).collect();
    let wanted: Vec<_> = plans
        .iter()
        .zip(&retentions)
        .map(|((topic, partitions, kept), retention)| {
            let copies = TopicReplication::Fixed(plan.replication);
            NewTopic::new(topic, *partitions, copies)
                .set("cleanup.policy", kept.policy())
                .set("retention.ms", retention)
                .set("segment.ms", &segment)
                .set("min.insync.replicas", &min_insync)
        })
        .collect();
    // With an operation time-out Kafka answers when the topic can be written to.
    let options = options().operation_timeout(Some(REQUEST_TIMEOUT));
    let mut reports = Vec::with_capacity(plans.len());
    let answer = admin.create_topics(&wanted, &options).await;
    for result in explained(cluster, answer).await? {
        reports.push(match result {
            Ok(topic) => TopicReport {
                topic,
                created: true,
                differences: Vec::new(),
            },
            Err((topic, RDKafkaErrorCode::TopicAlreadyExists)) => TopicReport {
                differences: match plans.iter().find(|(planned, ..)| *planned == topic) {
                    Some((_, partitions, kept)) => {
                        differences(cluster, &admin, &topic, *partitions, *kept, plan).await?
                    }
                    None => Vec::new(),
                },
                topic,
                created: false,
            },
            Err((topic, code)) => {
                return Err(Error::Topic {
                    topic,
                    reason: code.to_string(),
                });
            }
        });
    }
    Ok(reports)
}

/// The longest time that one of the four topics keeps a record; `None` is without end. Whoever
/// remembers identities must remember them longer than this.
///
/// # Errors
/// Kafka is out of reach, or a topic is not there.
pub async fn retention(cluster: &Cluster) -> Result<Option<Duration>, Error> {
    let admin = admin(cluster)?;
    let mut longest = Duration::ZERO;
    for topic in cluster.topics() {
        match kept(&settings(cluster, &admin, &topic).await?, &topic)? {
            Some(kept) => longest = longest.max(kept),
            None => return Ok(None),
        }
    }
    Ok(Some(longest))
}

/// The longest time for which a record may be in one of the four topics; `None` is without end. Kafka drops whole
/// segments, which are written to for up to `segment.ms`, so this is longer than the [`retention`].
///
/// # Errors
/// Kafka is out of reach, or a topic is not there.
pub async fn longest_kept(cluster: &Cluster) -> Result<Option<Duration>, Error> {
    let admin = admin(cluster)?;
    let mut longest = Duration::ZERO;
    for topic in cluster.topics() {
        let settings = settings(cluster, &admin, &topic).await?;
        let segment = setting(&settings, "segment.ms").and_then(|text| text.parse().ok());
        match kept(&settings, &topic)? {
            Some(kept) => {
                let segment = Duration::from_millis(segment.unwrap_or_default());
                longest = longest.max(kept + segment);
            }
            None => return Ok(None),
        }
    }
    Ok(Some(longest))
}

/// Makes sure that a topic exists: a producer would have a broker that allows it make one with the broker's settings.
///
/// # Errors
/// It does not, or Kafka is out of reach.
pub async fn require_topic(cluster: &Cluster, topic: &str) -> Result<(), Error> {
    settings(cluster, &admin(cluster)?, topic).await.map(drop)
}

/// How long each topic keeps its records; `None` is without end.
///
/// # Errors
/// Kafka is out of reach, or a topic is not there.
pub async fn kept_by_topic(cluster: &Cluster) -> Result<Vec<(String, Option<Duration>)>, Error> {
    let admin = admin(cluster)?;
    let mut topics = Vec::new();
    for topic in cluster.topics() {
        let kept = kept(&settings(cluster, &admin, &topic).await?, &topic)?;
        topics.push((topic, kept));
    }
    Ok(topics)
}

/// Lets those topics that keep their records for another time keep them for `wanted`; all else of them stays as it is.
/// Returns which, and for how long they kept them until now. What is too old by that goes with the next of Kafka's rounds,
/// which are minutes apart, but for segments that were begun before: those end as they were to.
///
/// # Errors
/// Kafka is out of reach or refuses, or a topic is not there. Topics before it are changed.
pub async fn keep_for(
    cluster: &Cluster,
    wanted: Duration,
) -> Result<Vec<(String, Option<Duration>)>, Error> {
    let admin = admin(cluster)?;
    let retention = wanted.as_millis().to_string();
    let segment = segment_ms(wanted);
    let mut changed = Vec::new();
    for topic in cluster.topics() {
        let settings = settings(cluster, &admin, &topic).await?;
        let before = kept(&settings, &topic)?;
        if before == Some(wanted) {
            continue;
        }
        // Kafka takes this for all that is set on the topic: what is not said falls back to the broker's.
        let mut alter = AlterConfig::new(ResourceSpecifier::Topic(&topic));
        for entry in &settings.entries {
            if let (ConfigSource::DynamicTopic, Some(value)) = (&entry.source, &entry.value) {
                alter = alter.set(&entry.name, value);
            }
        }
        alter = alter
            .set("retention.ms", &retention)
            .set("segment.ms", &segment);
        let answer = admin.alter_configs(&[alter], &options()).await;
        if let Some(Err((_, code))) = explained(cluster, answer).await?.pop() {
            return Err(Error::Topic {
                topic,
                reason: code.to_string(),
            });
        }
        changed.push((topic, before));
    }
    Ok(changed)
}

/// Kafka deletes only whole segments. With its default of a week for a segment, a quiet topic would keep a record
/// for twice its retention.
fn segment_ms(retention: Duration) -> String {
    (retention.as_millis() / 7).max(1).to_string()
}

fn admin(cluster: &Cluster) -> Result<AdminClient<Context>, Error> {
    Ok(cluster.client_config().create_with_context(Context)?)
}

/// An administrative client does not learn why it gets no answer. So another client with the same settings is asked.
async fn explained<T>(cluster: &Cluster, answer: Result<T, KafkaError>) -> Result<T, Error> {
    let error = match answer {
        Ok(answer) => return Ok(answer),
        Err(error @ KafkaError::AdminOp(RDKafkaErrorCode::OperationTimedOut)) => error,
        Err(error) => return Err(error.into()),
    };
    let cluster = cluster.clone();
    let heard = tokio::task::spawn_blocking(move || complaint(&cluster)).await;
    match heard.ok().flatten() {
        Some(reason) => Err(Error::Unreachable(reason)),
        None => Err(error.into()),
    }
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(REQUEST_TIMEOUT))
}

async fn settings(
    cluster: &Cluster,
    admin: &AdminClient<Context>,
    topic: &str,
) -> Result<ConfigResource, Error> {
    let asked = [ResourceSpecifier::Topic(topic)];
    let answer = admin.describe_configs(&asked, &options()).await;
    // rust-rdkafka leaves out why there are none.
    match explained(cluster, answer).await?.pop() {
        Some(Ok(settings)) if !settings.entries.is_empty() => Ok(settings),
        _ => Err(Error::Topic {
            topic: topic.to_owned(),
            reason: "Kafka tells no settings: it does not exist (`rivulet topics` creates it), \
                     or this user may not describe it"
                .to_owned(),
        }),
    }
}

fn setting<'a>(settings: &'a ConfigResource, name: &str) -> Option<&'a str> {
    settings.get(name)?.value.as_deref()
}

/// `retention.ms`; `None` is without end, Kafka's -1.
fn kept(settings: &ConfigResource, topic: &str) -> Result<Option<Duration>, Error> {
    let text = setting(settings, "retention.ms");
    match text.and_then(|text| text.parse::<i64>().ok()) {
        Some(-1) => Ok(None),
        Some(ms) => Ok(Some(Duration::from_millis(ms.unsigned_abs()))),
        None => Err(Error::Topic {
            topic: topic.to_owned(),
            reason: "Kafka does not say its retention.ms".to_owned(),
        }),
    }
}

async fn differences(
    cluster: &Cluster,
    admin: &AdminClient<Context>,
    topic: &str,
    partitions: i32,
    kept: Kept,
    plan: &TopicPlan,
) -> Result<Vec<String>, Error> {
    let mut differences = Vec::new();
    let mut compare = |name: &str, is: Option<String>, wanted: String| {
        if is.as_ref() != Some(&wanted) {
            let is = is.unwrap_or_else(|| "unknown".to_owned());
            differences.push(format!("{name} is {is}, not {wanted}"));
        }
    };
    let settings = settings(cluster, admin, topic).await?;
    let plain = |name| setting(&settings, name).map(str::to_owned);
    compare(
        "cleanup.policy",
        plain("cleanup.policy"),
        kept.policy().to_owned(),
    );
    compare("retention.ms", plain("retention.ms"), kept.ms());
    compare(
        "min.insync.replicas",
        plain("min.insync.replicas"),
        plan.min_insync.to_string(),
    );
    let metadata = admin.inner().fetch_metadata(Some(topic), REQUEST_TIMEOUT)?;
    let described = metadata.topics().iter().find(|found| found.name() == topic);
    compare(
        "partitions",
        described.map(|found| found.partitions().len().to_string()),
        partitions.to_string(),
    );
    Ok(differences)
}
