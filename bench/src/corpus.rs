//! Events as ingest would have left them in Kafka.

use anyhow::{Context as _, Result, bail};
use rdkafka::{
    error::{KafkaError, RDKafkaErrorCode},
    producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer},
};
use rivulet_events::{Clocks, EventType, ParentId, Record, Registration, data::AgeGroup, parse};
use rivulet_kafka::Cluster;
use rivulet_zones::Zone;
use std::time::Duration;
use uuid::Uuid;

use crate::events::Author;

/// In what order the children's events come.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Order {
    /// As SDKs send them: 20 events of a child together.
    Together,
    /// Round and round the children: a consumer's batch has one event of each.
    Spread,
}

const TOGETHER: usize = 20;

const HOUR_MS: i64 = 3_600_000;

/// Records in the order of their arrival.
pub(crate) struct Corpus {
    records: Vec<(EventType, Uuid, Box<[u8]>)>,
}

impl Corpus {
    /// `count` events of `children` in the order in which they happened, over the hour before `now`
    /// (Unix milliseconds): SDKs send within seconds, so ids come about in the order of their time.
    pub(crate) fn compose(
        author: &mut Author,
        children: &[Uuid],
        count: usize,
        order: Order,
        now: i64,
    ) -> Result<Self> {
        let who = registration(author)?;
        let from = now - HOUR_MS;
        let mut visits: Vec<_> = match order {
            Order::Together => Vec::new(),
            Order::Spread => children
                .iter()
                .map(|child| author.visit(*child, from))
                .collect(),
        };
        let mut records = Vec::with_capacity(count);
        for index in 0..count {
            let at = from + HOUR_MS * index as i64 / count as i64;
            let visit = match order {
                Order::Together => {
                    if index % TOGETHER == 0 {
                        let child = children[index / TOGETHER % children.len()];
                        visits = vec![author.visit(child, at)];
                    }
                    &mut visits[0]
                }
                Order::Spread => {
                    let children = visits.len();
                    &mut visits[index % children]
                }
            };
            visit.at = visit.at.max(at);
            let json = author.event(visit);
            records.push(record(&json, &who, now)?);
        }
        Ok(Self { records })
    }

    /// So many events of one child, each with a topic of its own, from the `first`th on.
    pub(crate) fn topics(
        author: &mut Author,
        child: Uuid,
        first: usize,
        count: usize,
        now: i64,
    ) -> Result<Self> {
        let who = registration(author)?;
        let records = (first..first + count).map(|number| {
            let mut visit = author.visit(child, now - 60_000);
            record(
                &author.about(&mut visit, &format!("topic {number:08}")),
                &who,
                now,
            )
        });
        let records = records.collect::<Result<_>>()?;
        Ok(Self { records })
    }

    /// Puts the others evenly between these.
    pub(crate) fn mix(&mut self, others: Self) {
        let (ours, theirs) = (self.records.len(), others.records.len());
        let mut mixed = Vec::with_capacity(ours + theirs);
        let mut others = others.records.into_iter();
        for (index, record) in self.records.drain(..).enumerate() {
            mixed.push(record);
            let due = (index + 1) * theirs / ours;
            mixed.extend(others.by_ref().take(due - index * theirs / ours));
        }
        self.records = mixed;
    }

    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    /// The records, decoded.
    pub(crate) fn decoded(&self) -> impl Iterator<Item = Result<Record<'_>>> {
        self.records
            .iter()
            .map(|(kind, _, payload)| Ok(Record::decode(*kind, payload)?))
    }

    /// Puts every record into its topic, as ingest does: keyed by child.
    pub(crate) async fn fill(&self, cluster: &Cluster) -> Result<()> {
        let producer: ThreadedProducer<DefaultProducerContext> = cluster
            .client_config()
            .set("partitioner", "murmur2_random")
            .set("compression.type", "lz4")
            .set("linger.ms", "20")
            .set("batch.size", rivulet_kafka::BATCH_BYTES.to_string())
            .set("queue.buffering.max.messages", "200000")
            .create()?;
        for (kind, child, payload) in &self.records {
            let topic = cluster.topic(*kind);
            let key = child.to_string();
            let mut next = BaseRecord::to(&topic).key(&key).payload(&**payload);
            while let Err((error, back)) = producer.send(next) {
                if error != KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) {
                    return Err(error.into());
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
                next = back;
            }
        }
        tokio::task::spawn_blocking(move || producer.flush(Duration::from_secs(60)))
            .await?
            .context("Kafka did not take the events in time")
    }
}

/// A family that agreed to everything.
fn registration(author: &mut Author) -> Result<Registration> {
    Ok(Registration {
        parent_id: ParentId::new(author.id()),
        age_group: AgeGroup::CuriousExplorers,
        timezone: Zone::named("Europe/Rome").context("the zone Europe/Rome")?,
        deleted: false,
        coppa: true,
        audio: true,
        analytics: true,
        coppa_version: None,
        audio_version: None,
        consent_epoch: 0,
    })
}

fn record(json: &str, who: &Registration, now: i64) -> Result<(EventType, Uuid, Box<[u8]>)> {
    let event = match parse::event(json, parse::Limits::default()).outcome {
        Ok(event) => event,
        Err(rejection) => bail!("the benchmark's own event is refused: {rejection:?}"),
    };
    let (kind, child) = (event.event_type(), event.child_id.uuid());
    let clocks = Clocks {
        received_at: now,
        sent_at: None,
    };
    let record = event.admit(Some(who));
    let Ok(record) = record.and_then(|event| event.into_record(&clocks)) else {
        bail!("the benchmark's event is rejected")
    };
    let mut payload = Vec::with_capacity(512);
    record.encode(&mut payload)?;
    Ok((kind, child, payload.into()))
}
