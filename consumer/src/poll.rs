//! The polling thread: Kafka on one side, a bounded channel for each lane on the other.

use std::{
    mem,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use rdkafka::{
    Message, Offset,
    consumer::{BaseConsumer, Consumer as _},
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
    message::BorrowedMessage,
};
use tokio::sync::mpsc::{Sender, error::TrySendError};

use crate::{Batch, Error, context::Context, metrics, state::Taken, trace};

/// The longest the thread waits for Kafka before it looks after everything else.
const WAIT: Duration = Duration::from_millis(100);

/// How long the thread waits for room in a full channel before it pauses fetching. A pause throws away what librdkafka
/// has fetched ahead, so it is meant for a store that hangs and not for one that is slow. A rebalance has to wait for
/// as long.
const GRACE: Duration = Duration::from_secs(3);

/// How many records are taken from Kafka before the thread looks after everything else.
const ROUND: usize = 1_000;

const TELL_EVERY: Duration = Duration::from_secs(5);

/// Makes the consumer ready for this thread to poll it.
pub(crate) fn prepare(mut consumer: BaseConsumer<Context>) -> Arc<BaseConsumer<Context>> {
    let _ = consumer.context().poller.set(thread::current());
    let has_queues = consumer.context().config.lanes.is_some();
    if has_queues {
        let thread = thread::current();
        consumer.set_nonempty_callback(move || thread.unpark());
    }
    let consumer = Arc::new(consumer);
    if has_queues {
        let _ = consumer.context().consumer.set(Arc::downgrade(&consumer));
    }
    consumer
}

/// Polls until the consumer has ended. There is a channel for each lane.
pub(crate) fn run(consumer: &BaseConsumer<Context>, lanes: &[Sender<Batch>]) -> Result<(), Error> {
    let context = consumer.context();
    let config = &context.config;
    let mut paused = false;
    let mut assignments = 0;
    let (mut reconcile_at, mut tell_at) = (Instant::now(), Instant::now() + TELL_EVERY);
    while !context.ended.is_cancelled() {
        let now = Instant::now();
        let reopen = {
            let mut state = context.state();
            state.beat(now);
            mem::take(&mut state.reopen)
        };
        if !reopen.is_empty() {
            context.reopen(consumer, &reopen, config.patience)?;
        }
        if now >= reconcile_at {
            context.reconcile(consumer);
            reconcile_at = Instant::now() + config.reconcile_every;
        }
        if now >= tell_at {
            context.commit_to_kafka(consumer);
            tell_at = now + TELL_EVERY;
        }
        let counted = context.state().assignments;
        if mem::replace(&mut assignments, counted) != counted {
            // Partitions that were assigned meanwhile are not paused. If need be, all of them are paused again.
            paused = false;
        }

        let (pause, resume) = context.state().holds();
        if !pause.is_empty() {
            metrics::pause(config.name);
            consumer.pause(&context.list(&pause, Offset::Invalid)?)?;
        }
        if !resume.is_empty() && !paused {
            consumer.resume(&context.list(&resume, Offset::Invalid)?)?;
        }

        let Handed { any, mut wait } = hand_out(context, lanes, now)?;
        if any {
            if paused {
                consumer.resume(&context.wanted()?)?;
                paused = false;
            }
            continue;
        }
        // With a queue for each partition, a queue is left alone while its lane is full, and librdkafka fetches no more
        // than fits into it. Without them the common queue must be emptied, so fetching must be paused.
        if config.lanes.is_none() && context.state().is_full(0) && !paused {
            if context.runtime.block_on(room(&lanes[0], context)) {
                continue;
            }
            metrics::pause(config.name);
            consumer.pause(&context.wanted()?)?;
            paused = true;
            wait = WAIT / 2;
        }
        take(consumer, context, wait)?;
    }
    Ok(())
}

/// The result of one pass over all lanes.
struct Handed {
    /// A batch was handed out.
    any: bool,
    /// How long it takes until another batch is due.
    wait: Duration,
}

/// Hands out the batches that are due, where there is room for them. A lane that is stuck keeps its own, and
/// the others get theirs.
fn hand_out(context: &Context, lanes: &[Sender<Batch>], now: Instant) -> Result<Handed, Error> {
    // A closed channel counts as one with room, so that it is noticed.
    let has_room = |lane: usize| lanes[lane].capacity() > 0 || lanes[lane].is_closed();
    let (due, wait) = context.state().due(has_room, now);
    let mut any = false;
    for lane in due {
        match lanes[lane].try_reserve() {
            Ok(permit) => {
                let batch = context.state().cut(lane, now);
                let records = batch.parts.iter().map(|part| part.records.len()).sum();
                metrics::records(context.config.name, records);
                // The batch is empty if all of it became void just now.
                if !batch.parts.is_empty() {
                    permit.send(batch);
                }
                any = true;
            }
            // Either the lane's worker has failed, and its owner is about to report why, or the consumer has ended.
            Err(TrySendError::Closed(())) => context.ended.cancel(),
            // This cannot happen: there was room, and only this thread sends.
            Err(TrySendError::Full(())) => {}
        }
    }
    let wait = wait.unwrap_or(WAIT).min(WAIT);
    Ok(Handed { any, wait })
}

/// Waits for room in the channel. Returns `false` if it takes too long.
async fn room(batches: &Sender<Batch>, context: &Context) -> bool {
    tokio::select! {
        () = context.ended.cancelled() => true,
        _ = batches.reserve() => true,
        () = tokio::time::sleep(GRACE) => false,
    }
}

/// Takes what Kafka has, until the batches are full.
fn take(
    consumer: &BaseConsumer<Context>,
    context: &Context,
    mut wait: Duration,
) -> Result<(), Error> {
    if context.config.lanes.is_some() {
        let now = Instant::now();
        let has_room = |key| {
            let state = context.state();
            !state.is_full(state.lane(key))
        };
        let keep =
            |message: KafkaResult<BorrowedMessage<'_>>| keep(consumer, context, message, now);
        if context.queues.lock().take(ROUND, has_room, keep)? == 0 {
            thread::park_timeout(wait);
        }
        // Then the common queue has only the callbacks.
        wait = Duration::ZERO;
    }
    for _ in 0..ROUND {
        let Some(message) = consumer.poll(wait) else {
            break;
        };
        if !keep(consumer, context, message, Instant::now())? {
            break;
        }
        wait = Duration::ZERO;
    }
    Ok(())
}

/// Takes a message or an error. Returns `false` if the batch that the message goes into is full.
fn keep(
    consumer: &BaseConsumer<Context>,
    context: &Context,
    message: KafkaResult<BorrowedMessage<'_>>,
    now: Instant,
) -> Result<bool, Error> {
    let message = match message {
        Ok(message) => message,
        Err(error) => return trouble(consumer, context, error).map(|()| true),
    };
    let Some(key) = context.key(message.topic(), message.partition()) else {
        return Ok(true);
    };
    let payload = message.payload().unwrap_or_default();
    let timestamp = message.timestamp().to_millis().unwrap_or(0);
    let link = trace::link(&message);
    let mut state = context.state();
    match state.take(key, message.offset(), timestamp, payload, link, now) {
        Taken::Kept => return Ok(!state.is_full(state.lane(key))),
        Taken::Foreign => {}
        Taken::Again => metrics::redelivered(context.config.name),
    }
    Ok(true)
}

fn trouble(
    consumer: &BaseConsumer<Context>,
    context: &Context,
    error: KafkaError,
) -> Result<(), Error> {
    if let KafkaError::MessageConsumptionFatal(_) = error {
        return Err(Error::Kafka(error));
    }
    if let Some((code, reason)) = consumer.client().fatal_error() {
        tracing::warn!(consumer = context.config.name, "fatal: {reason}");
        return Err(Error::Kafka(KafkaError::MessageConsumptionFatal(code)));
    }
    match error.rdkafka_error_code() {
        // librdkafka does not say which partition it means. So all of them are read again, and those whose position is
        // no longer in Kafka are stopped by that.
        Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => {
            let now = Instant::now();
            let mut state = context.state();
            let keys: Vec<_> = state.open.keys().copied().collect();
            for key in keys {
                state.void(key, now);
            }
            Ok(())
        }
        // The group has removed this member, because the thread did not poll for minutes.
        Some(RDKafkaErrorCode::PollExceeded) => Err(Error::Kafka(error)),
        // The context has logged it. librdkafka retries, or the regular check finds what is wrong.
        _ => Ok(()),
    }
}
