//! Sends records to Kafka, and waits until all in-sync replicas have acknowledged them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use parking_lot::Mutex;
use rdkafka::{
    ClientContext,
    config::{FromClientConfigAndContext as _, RDKafkaLogLevel},
    error::{KafkaError, RDKafkaErrorCode},
    message::{DeliveryResult, Header, Message as _, OwnedHeaders, ToBytes},
    producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer},
};
use rivulet_events::{ChildId, EventType, sabotage::sabotaged};
use rivulet_kafka::Cluster;
use rivulet_telemetry::{Readiness, Span, TRACEPARENT};
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

use crate::metrics::{DELIVERY_ERRORS, PRODUCER_QUEUE_RECORDS};
use crate::{
    Config,
    shares::Reservation,
    spill::{Spill, pack},
};

/// How often the broker is asked whether it is there.
const PROBE_EVERY: Duration = Duration::from_secs(1);
/// How long the broker may take to answer.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);

/// The one producer of a process.
pub(crate) struct Producer {
    client: ThreadedProducer<Context>,
    topics: [String; EventType::ALL.len()],
    /// Brokers answer and the topics are there. While they do not, events are answered `retry`, or
    /// spilled, at once instead of after [`Config::message_timeout`].
    up: AtomicBool,
    queue_messages: usize,
    ack_timeout: Duration,
}

impl Producer {
    pub(crate) fn new(
        config: &Config,
        cluster: &Cluster,
        fatal: CancellationToken,
    ) -> Result<Self, KafkaError> {
        let mut client = cluster.client_config();
        client
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("compression.type", "lz4")
            // The partitioner of Java's clients, so that other producers put a child into the same partition.
            .set("partitioner", "murmur2_random")
            .set("linger.ms", config.linger.as_millis().to_string())
            .set("batch.size", rivulet_kafka::BATCH_BYTES.to_string())
            .set(
                "message.timeout.ms",
                config.message_timeout.as_millis().to_string(),
            )
            .set(
                "queue.buffering.max.messages",
                config.queue_messages.to_string(),
            )
            .set(
                "queue.buffering.max.kbytes",
                (config.queue_bytes >> 10).max(1).to_string(),
            )
            // Reconnects within a second after the broker is back. librdkafka's default is ten seconds.
            .set("reconnect.backoff.max.ms", "1000");
        let context = Context {
            fatal,
            keep: config.spill.is_some(),
        };
        Ok(Self {
            client: ThreadedProducer::from_config_and_context(&client, context)?,
            topics: cluster.topics(),
            up: AtomicBool::new(false),
            queue_messages: config.queue_messages,
            ack_timeout: config.ack_timeout,
        })
    }

    /// The topic of events of this type.
    pub(crate) fn topic(&self, kind: EventType) -> &str {
        &self.topics[kind as usize]
    }

    /// Whether it is worth handing over records now.
    pub(crate) fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    /// Whether Kafka can be given more than what requests bring now.
    pub(crate) fn has_spare_room(&self) -> bool {
        let queued = usize::try_from(self.client.in_flight_count()).unwrap_or(0);
        self.is_up() && queued < self.queue_messages / 2
    }

    /// Begins to send the records of a request. If the request is traced, each record carries the span in a header. `places`
    /// is told where Kafka puts each record.
    pub(crate) fn begin(
        &self,
        span: Option<&Span>,
        room: Room,
        places: Option<Places>,
    ) -> Sending<'_> {
        let has_room = !matches!(room, Room::None);
        let ack = RequestAck {
            // One more than there are records, until all of them are handed over.
            left: AtomicUsize::new(1),
            failed: Mutex::default(),
            done: Notify::new(),
            places,
            _room: room,
        };
        Sending {
            producer: self,
            has_room,
            ack: Arc::new(ack),
            sent: Vec::new(),
            failed: Vec::new(),
            traceparent: span.map(Span::traceparent),
        }
    }

    /// Watches the broker from a thread of its own, because librdkafka's metadata call blocks. Returns a future that
    /// waits for the end of the thread.
    ///
    /// The role can do its work without Kafka as long as the spill takes records. A load balancer that took the node
    /// out would make the spill useless.
    pub(crate) fn watch(
        self: &Arc<Self>,
        spill: Option<Arc<Spill>>,
        readiness: Readiness,
        stop: CancellationToken,
    ) -> std::io::Result<impl Future<Output = ()> + Send + use<>> {
        let producer = Arc::clone(self);
        let (watching, watched) = oneshot::channel::<()>();
        thread::Builder::new()
            .name("kafka probe".to_owned())
            .spawn(move || {
                // Dropped with the thread, by a panic too.
                let _watching = watching;
                let mut was_up = true;
                while !stop.is_cancelled() {
                    let probed = producer.probe();
                    if spill.is_some() && probed.is_ok() != was_up {
                        was_up = probed.is_ok();
                        match &probed {
                            Ok(()) => tracing::info!("Kafka is back, the spill is drained"),
                            Err(reason) => {
                                tracing::warn!(reason, "Kafka is down, events go to the spill");
                            }
                        }
                    }
                    match (probed, spill.as_ref().map(|spill| spill.has_room())) {
                        (Ok(()), _) | (Err(_), Some(Ok(()))) => readiness.pass("kafka"),
                        (Err(reason), None) => readiness.fail("kafka", reason),
                        (Err(reason), Some(Err(refused))) => {
                            readiness.fail("kafka", format!("{reason}; and {refused}"));
                        }
                    }
                    PRODUCER_QUEUE_RECORDS.set(f64::from(producer.client.in_flight_count()));
                    thread::sleep(PROBE_EVERY);
                }
            })?;
        Ok(async { drop(watched.await) })
    }

    fn probe(&self) -> Result<(), String> {
        let client = self.client.client();
        if let Some((code, reason)) = client.fatal_error() {
            self.client.context().fatal(code, &reason);
        }
        let mut leaderless = None;
        for topic in &self.topics {
            let metadata = client
                .fetch_metadata(Some(topic), PROBE_TIMEOUT)
                .map_err(|error| {
                    self.up.store(false, Ordering::Relaxed);
                    format!("no broker answers: {error}")
                })?;
            let found = metadata.topics().iter().find(|found| found.name() == topic);
            let Some(found) = found.filter(|found| found.error().is_none()) else {
                self.up.store(false, Ordering::Relaxed);
                return Err(format!(
                    "topic {topic} does not exist: `rivulet topics` creates it"
                ));
            };
            if found.partitions().iter().any(|one| one.leader() < 0) {
                leaderless = Some(topic);
            }
        }
        // Records of the other partitions can still be stored.
        self.up.store(true, Ordering::Relaxed);
        match leaderless {
            Some(topic) => Err(format!("a partition of {topic} has no leader")),
            None => Ok(()),
        }
    }

    /// Waits until nothing is left to deliver. Returns how many records were not.
    pub(crate) fn flush(&self, limit: Duration) -> usize {
        match self.client.flush(limit) {
            Ok(()) => 0,
            Err(_) => usize::try_from(self.client.in_flight_count()).unwrap_or(0),
        }
    }
}

/// How much of librdkafka's queue the records of a request may take.
pub(crate) enum Room {
    /// A part of their sender's share, until Kafka has answered for all of them.
    Share { _held: Reservation },
    /// All of the queue. The caller bounds the number of records itself.
    Any,
    /// Nothing. They are treated as if the queue were full.
    None,
}

/// Where Kafka has put the records of a request.
pub(crate) type Places = Arc<Mutex<Vec<Place>>>;

/// Where a record is in Kafka.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// The index of its event in the request.
    pub(crate) index: u32,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
}

/// The records of one request on their way.
pub(crate) struct Sending<'p> {
    producer: &'p Producer,
    /// Whether they may be queued.
    has_room: bool,
    ack: Arc<RequestAck>,
    /// The index in the request of each record's event.
    sent: Vec<u32>,
    /// Records that librdkafka did not put into its queue.
    failed: Vec<Failed>,
    /// The value of their header [`TRACEPARENT`].
    traceparent: Option<String>,
}

/// A record that Kafka did not take, or may have taken without saying so.
pub(crate) struct Failed {
    /// The index of its event in the request.
    pub(crate) index: u32,
    /// The record for the spill. `None` if there is no spill, if Kafka would never take the record, or if Kafka may
    /// have it.
    pub(crate) record: Option<Vec<u8>>,
}

impl Sending<'_> {
    /// Whether no record can be stored now, neither by Kafka nor by the spill.
    pub(crate) fn is_hopeless(&self) -> bool {
        !self.producer.is_up() && !self.producer.client.context().keep
    }

    /// Hands over one record. `index` is the index of its event in the request.
    pub(crate) fn send(&mut self, index: u32, kind: EventType, child: ChildId, payload: &[u8]) {
        let mut key = [0; uuid::fmt::Hyphenated::LENGTH];
        let key: &str = child.uuid().hyphenated().encode_lower(&mut key);
        let context = self.producer.client.context();
        if !self.producer.is_up() || !self.has_room {
            let record = context.keep.then(|| pack(kind, key.as_bytes(), payload));
            self.failed.push(Failed { index, record });
            return;
        }
        let ticket = Box::new(Ticket {
            ack: Arc::clone(&self.ack),
            index,
            kind,
        });
        self.ack.left.fetch_add(1, Ordering::Relaxed);
        let topic = self.producer.topic(kind);
        let mut record = BaseRecord::with_opaque_to(topic, ticket)
            .key(key)
            .payload(payload);
        if let Some(traceparent) = &self.traceparent {
            record = record.headers(OwnedHeaders::new_with_capacity(1).insert(Header {
                key: TRACEPARENT,
                value: Some(traceparent),
            }));
        }
        match self.producer.client.send(record) {
            Ok(()) => self.sent.push(index),
            // The queue is full, because Kafka is slow or gone, or librdkafka refuses the record.
            Err((error, record)) => {
                self.ack.left.fetch_sub(1, Ordering::Relaxed);
                count_error(&error);
                let record = context.for_spill(&error, kind, record.key, record.payload);
                self.failed.push(Failed { index, record });
            }
        }
    }

    /// Waits for every acknowledgement. Returns the records that were not stored, or of which that
    /// cannot be said.
    pub(crate) async fn wait(mut self) -> Vec<Failed> {
        if sabotaged("ack-counter") {
            return Vec::new();
        }
        if self.ack.left.fetch_sub(1, Ordering::AcqRel) > 1 {
            let done = self.ack.done.notified();
            if tokio::time::timeout(self.producer.ack_timeout, done)
                .await
                .is_err()
            {
                // This does not happen while message.timeout.ms is shorter, as the configuration demands: librdkafka
                // reports every record by then.
                DELIVERY_ERRORS
                    .with(["no_word"])
                    .increment(self.sent.len() as u64);
                let unknown = |index| Failed {
                    index,
                    record: None,
                };
                self.failed.extend(self.sent.into_iter().map(unknown));
                return self.failed;
            }
        }
        let failed = std::mem::take(&mut *self.ack.failed.lock());
        if failed.len() < self.sent.len() {
            self.producer.up.store(true, Ordering::Relaxed);
        }
        self.failed.extend(failed);
        self.failed
    }
}

/// What is still outstanding of one request: a counter and one wake-up, no future a record.
struct RequestAck {
    left: AtomicUsize,
    failed: Mutex<Vec<Failed>>,
    done: Notify,
    /// Only where somebody watches.
    places: Option<Places>,
    /// Released with the last ticket, also if the client did not wait for the answer.
    _room: Room,
}

/// What comes back with a record's delivery report.
pub(crate) struct Ticket {
    ack: Arc<RequestAck>,
    index: u32,
    kind: EventType,
}

/// librdkafka's callbacks. They run on its polling thread and must be quick.
pub(crate) struct Context {
    fatal: CancellationToken,
    /// Whether there is a spill for records that failed.
    keep: bool,
}

impl Context {
    /// The record for the spill. `None` if Kafka refuses the record itself: it would wait in the spill for ever.
    fn for_spill(
        &self,
        error: &KafkaError,
        kind: EventType,
        key: Option<&(impl ToBytes + ?Sized)>,
        payload: Option<&(impl ToBytes + ?Sized)>,
    ) -> Option<Vec<u8>> {
        use RDKafkaErrorCode as Code;
        let unfit = matches!(
            error.rdkafka_error_code(),
            Some(
                Code::MessageSizeTooLarge
                    | Code::MessageBatchTooLarge
                    | Code::InvalidMessage
                    | Code::InvalidMessageSize
                    | Code::InvalidRecord
                    | Code::InvalidTimestamp
                    | Code::PolicyViolation
                    | Code::TopicAuthorizationFailed
                    | Code::ClusterAuthorizationFailed
            )
        );
        if !self.keep || unfit {
            return None;
        }
        Some(pack(kind, key?.to_bytes(), payload?.to_bytes()))
    }

    /// The idempotent producer has failed for good. Only a new process can make a new one.
    fn fatal(&self, code: RDKafkaErrorCode, reason: &str) {
        if !self.fatal.is_cancelled() {
            tracing::error!(?code, reason, "the Kafka producer cannot go on");
            self.fatal.cancel();
        }
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        rivulet_kafka::log_line(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal) {
            self.fatal(RDKafkaErrorCode::Fatal, reason);
        } else {
            rivulet_kafka::log_error(&error, reason);
        }
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = Box<Ticket>;

    fn delivery(&self, result: &DeliveryResult<'_>, ticket: Box<Ticket>) {
        match result {
            Ok(message) => {
                if let Some(places) = &ticket.ack.places {
                    places.lock().push(Place {
                        index: ticket.index,
                        partition: message.partition(),
                        offset: message.offset(),
                    });
                }
            }
            Err((error, message)) => {
                count_error(error);
                let record = self.for_spill(error, ticket.kind, message.key(), message.payload());
                let index = ticket.index;
                ticket.ack.failed.lock().push(Failed { index, record });
            }
        }
        if ticket.ack.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            ticket.ack.done.notify_one();
        }
    }
}

fn count_error(error: &KafkaError) {
    use RDKafkaErrorCode as Code;
    let reason = match error.rdkafka_error_code() {
        Some(Code::QueueFull) => "queue_full",
        Some(Code::MessageTimedOut) => "timed_out",
        Some(Code::MessageSizeTooLarge) => "too_large",
        Some(Code::NotEnoughReplicas | Code::NotEnoughReplicasAfterAppend) => "not_enough_replicas",
        Some(Code::UnknownTopic | Code::UnknownTopicOrPartition) => "unknown_topic",
        Some(Code::Fatal) => "fatal",
        Some(Code::PurgeQueue | Code::PurgeInflight) => "purged",
        _ => "other",
    };
    DELIVERY_ERRORS.with([reason]).increment(1);
}
