//! Which topic a name means: a topic that was deleted and made again is another one, though
//! name and partitions are the same and its offsets start over.
//!
//! rust-rdkafka has neither DescribeTopics nor the cluster id, so librdkafka is called here
//! directly, and nowhere else.
#![allow(unsafe_code)]

use std::{
    collections::BTreeMap,
    ffi::{CStr, CString, c_char},
    ptr::NonNull,
    time::Duration,
};

use rdkafka::{
    ClientContext, bindings as rd,
    client::Client,
    error::{KafkaError, RDKafkaErrorCode},
};

use crate::Error;

/// For each of these topics that exists, `<cluster id>/<topic id>`. A topic that does not exist is
/// left out. A broker that gives its topics no id (Kafka before 2.8) gets `<cluster id>/-`: there,
/// a topic made again is seen only by positions that its log does not have.
///
/// Blocks for up to twice `timeout`; may be called in a rebalance callback.
///
/// # Errors
/// Kafka is out of reach, or refuses.
pub fn incarnations<C: ClientContext>(
    client: &Client<C>,
    topics: &[String],
    timeout: Duration,
) -> Result<BTreeMap<String, String>, Error> {
    let timeout_ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    let cluster = cluster_id(client, timeout_ms)?;
    let ids = topic_ids(client, topics, timeout_ms)?;
    Ok(ids
        .into_iter()
        .map(|(topic, id)| (topic, format!("{cluster}/{}", id.as_deref().unwrap_or("-"))))
        .collect())
}

fn cluster_id<C: ClientContext>(client: &Client<C>, timeout_ms: i32) -> Result<String, Error> {
    // SAFETY: the client is alive for as long as it is borrowed; the call is thread-safe.
    let id = unsafe { rd::rd_kafka_clusterid(client.native_ptr(), timeout_ms) };
    if id.is_null() {
        return Err(Error::Timeout("the id of the cluster"));
    }
    // SAFETY: not null, so a C string that librdkafka allocated for the caller.
    let owned = unsafe { text(id) };
    // SAFETY: the string is the caller's to free, by this function, once.
    unsafe { rd::rd_kafka_mem_free(client.native_ptr(), id.cast()) };
    Ok(owned)
}

/// An object of librdkafka that is given back at the end, whatever happens.
struct Owned<T> {
    object: NonNull<T>,
    free: unsafe extern "C" fn(*mut T),
}

impl<T> Owned<T> {
    /// # Safety
    /// `object` is null or an owned object that `free` frees.
    unsafe fn new(
        object: *mut T,
        free: unsafe extern "C" fn(*mut T),
        what: &'static str,
    ) -> Result<Self, Error> {
        match NonNull::new(object) {
            Some(object) => Ok(Self { object, free }),
            None => Err(Error::Timeout(what)),
        }
    }

    fn ptr(&self) -> *mut T {
        self.object.as_ptr()
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: by the promise made to `new`, and `self` is not used again.
        unsafe { (self.free)(self.object.as_ptr()) }
    }
}

/// The id of each topic that exists, `None` where the broker gives it none.
fn topic_ids<C: ClientContext>(
    client: &Client<C>,
    topics: &[String],
    timeout_ms: i32,
) -> Result<Vec<(String, Option<String>)>, Error> {
    let names: Vec<CString> = topics
        .iter()
        .map(|topic| CString::new(topic.as_str()).map_err(|nul| Error::Kafka(KafkaError::Nul(nul))))
        .collect::<Result<_, _>>()?;
    let mut pointers: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
    let client = client.native_ptr();

    // SAFETY: `client` lives through this function (the caller borrows it). The names are copied.
    // Each object is freed by the function that librdkafka names for it, in the reverse order of
    // declaration: the event before the queue, the queue before the client.
    let (options, queue, collection) = unsafe {
        (
            Owned::new(
                rd::rd_kafka_AdminOptions_new(
                    client,
                    rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS,
                ),
                rd::rd_kafka_AdminOptions_destroy,
                "admin options",
            )?,
            Owned::new(
                rd::rd_kafka_queue_new(client),
                rd::rd_kafka_queue_destroy,
                "a queue",
            )?,
            Owned::new(
                rd::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len()),
                rd::rd_kafka_TopicCollection_destroy,
                "a topic collection",
            )?,
        )
    };
    let mut reason: [c_char; 256] = [0; 256];
    // SAFETY: the options are alive; the buffer is as long as is said.
    let set = unsafe {
        rd::rd_kafka_AdminOptions_set_request_timeout(
            options.ptr(),
            timeout_ms,
            reason.as_mut_ptr(),
            reason.len(),
        )
    };
    check(set)?;

    // SAFETY: all four are alive; librdkafka copies what it needs of options and collection, and
    // answers with one event on the queue, within the request time-out.
    let event = unsafe {
        rd::rd_kafka_DescribeTopics(client, collection.ptr(), options.ptr(), queue.ptr());
        Owned::new(
            rd::rd_kafka_queue_poll(queue.ptr(), timeout_ms.saturating_add(1_000)),
            rd::rd_kafka_event_destroy,
            "the ids of the topics",
        )?
    };
    // SAFETY: the event is alive.
    check(unsafe { rd::rd_kafka_event_error(event.ptr()) })?;

    let mut count = 0;
    // SAFETY: the event is alive; a null result is caught; the array and all it points to belong to
    // the event, which outlives `described`.
    let described = unsafe {
        let result = rd::rd_kafka_event_DescribeTopics_result(event.ptr());
        if result.is_null() {
            return Err(Error::Timeout("the ids of the topics"));
        }
        let first = rd::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        if count == 0 {
            &[]
        } else {
            std::slice::from_raw_parts(first, count)
        }
    };

    let mut ids = Vec::with_capacity(described.len());
    for &topic in described {
        // SAFETY: `topic` belongs to the event; its name is a C string, never null.
        let name = unsafe { text(rd::rd_kafka_TopicDescription_name(topic)) };
        // SAFETY: as above; a null error is "no error", which this function understands.
        let error = unsafe { rd::rd_kafka_error_code(rd::rd_kafka_TopicDescription_error(topic)) };
        if error == rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART {
            continue;
        }
        if let Err(error) = check(error) {
            return Err(Error::Topic {
                topic: name,
                reason: error.to_string(),
            });
        }
        // SAFETY: as above; the id belongs to the description, its text to the id, both to the event.
        let id = unsafe {
            let id = rd::rd_kafka_TopicDescription_topic_id(topic);
            let given = !id.is_null()
                && (rd::rd_kafka_Uuid_most_significant_bits(id) != 0
                    || rd::rd_kafka_Uuid_least_significant_bits(id) != 0);
            given.then(|| text(rd::rd_kafka_Uuid_base64str(id)))
        };
        ids.push((name, id));
    }
    Ok(ids)
}

/// # Safety
/// `string` is a C string that lives through the call.
unsafe fn text(string: *const c_char) -> String {
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(string) }
        .to_string_lossy()
        .into_owned()
}

fn check(code: rd::rd_kafka_resp_err_t) -> Result<(), Error> {
    if code == rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
        return Ok(());
    }
    Err(Error::Kafka(KafkaError::AdminOp(RDKafkaErrorCode::from(
        code,
    ))))
}
