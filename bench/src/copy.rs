//! The aggregator's baseline: PostgreSQL's COPY of the events into one plain table.

use std::time::{Duration, Instant};

use anyhow::Result;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::{corpus::Corpus, process, row::EventRow};

/// Typed columns, no index, no constraint, logged: the least that stores events.
const TABLE: &str = "
    CREATE TABLE plain_events (
        event_id uuid, event_type text, child_id uuid, parent_id uuid, age_group text,
        session_id uuid, occurred_at timestamptz, event_time timestamptz, received_at timestamptz,
        local_date date, device_id text, device_platform text, device_app_version text,
        action text, activity_id uuid, subject text, topic text, is_correct boolean,
        response_time_ms integer, duration_ms integer, confidence double precision,
        difficulty smallint, rating smallint, xp smallint, stars smallint, badge text,
        conversation_id uuid, sequence bigint, role text, chars integer, words integer,
        is_question boolean, is_free_form boolean, aha_moment boolean, was_filtered boolean,
        selected_choice smallint, depth_level smallint, tokens_used integer,
        processing_time_ms integer, filter_reason text,
        audio_session_id uuid, window_ms integer, child_words integer, adult_words integer,
        child_vocalizations integer, conversational_turns integer, utterances integer,
        unique_words integer, new_words integer, snr_db double precision, language text,
        model_version text, active_ms integer, kind text, device_type text, attributes text)
    WITH (autovacuum_enabled = false)";
const COLUMNS: i16 = 56;

/// Bytes handed to the connection at a time.
const CHUNK: usize = 1 << 20;

pub(crate) async fn create_table(pool: &PgPool) -> Result<()> {
    sqlx::query(TABLE).execute(pool).await?;
    Ok(())
}

/// What one COPY took.
pub(crate) struct Copied {
    pub(crate) wall: Duration,
    pub(crate) backend_cpu: Option<Duration>,
}

/// Copies rows encoded before, in one statement and transaction.
pub(crate) async fn copy(pool: &PgPool, rows: &[u8]) -> Result<Copied> {
    let mut conn = pool.acquire().await?;
    let backend = backend(&mut conn).await?;
    let before = process::cpu(backend);
    let started = Instant::now();
    let mut copy = conn
        .copy_in_raw("COPY plain_events FROM STDIN (FORMAT binary)")
        .await?;
    for chunk in rows.chunks(CHUNK) {
        copy.send(chunk).await?;
    }
    copy.finish().await?;
    let wall = started.elapsed();
    let backend_cpu = before.and_then(|before| Some(process::cpu(backend)? - before));
    Ok(Copied { wall, backend_cpu })
}

async fn backend(conn: &mut PgConnection) -> Result<u32> {
    let pid: i32 = sqlx::query_scalar("SELECT pg_backend_pid()")
        .fetch_one(conn)
        .await?;
    Ok(pid.unsigned_abs())
}

/// The corpus in COPY's binary format.
pub(crate) fn encode(corpus: &Corpus) -> Result<Vec<u8>> {
    let mut out = Encoder(b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0".to_vec());
    for (index, record) in corpus.decoded().enumerate() {
        out.row(&EventRow::new(&record?, index));
    }
    out.0.extend_from_slice(&(-1_i16).to_be_bytes());
    Ok(out.0)
}

struct Encoder(Vec<u8>);

impl Encoder {
    fn row(&mut self, row: &EventRow<'_>) {
        self.0.extend_from_slice(&COLUMNS.to_be_bytes());
        self.uuid(Some(row.event_id));
        self.text(Some(row.event_type));
        self.uuid(Some(row.child_id));
        self.uuid(Some(row.parent_id));
        self.text(Some(row.age_group));
        self.uuid(row.session_id);
        self.time(row.occurred_at);
        self.time(row.event_time);
        self.time(row.received_at);
        // Days since 2000, PostgreSQL's zero.
        self.int4(Some(u32::from(row.local_date) - 10_957));
        self.text(row.device_id);
        self.text(row.device_platform);
        self.text(row.device_app_version);
        self.text(row.interaction_action.or(row.session_action));
        self.uuid(row.activity_id);
        self.text(row.subject);
        self.text(row.topic);
        self.boolean(row.is_correct);
        self.int4(row.response_time_ms);
        self.int4(row.duration_ms);
        self.float(row.confidence);
        self.int2(row.difficulty.map(u16::from));
        self.int2(row.rating.map(u16::from));
        self.int2(row.xp);
        self.int2(row.stars);
        self.text(row.badge);
        self.uuid(row.conversation_id);
        self.field(row.sequence.map(u64::to_be_bytes));
        self.text(row.role);
        self.int4(row.chars);
        self.int4(row.words);
        self.boolean(row.is_question);
        self.boolean(row.is_free_form);
        self.boolean(row.aha_moment);
        self.boolean(row.was_filtered);
        self.int2(row.selected_choice.map(u16::from));
        self.int2(row.depth_level.map(u16::from));
        self.int4(row.tokens_used);
        self.int4(row.processing_time_ms);
        self.text(row.filter_reason);
        self.uuid(row.audio_session_id);
        self.int4(row.window_ms);
        self.int4(row.child_words);
        self.int4(row.adult_words);
        self.int4(row.child_vocalizations);
        self.int4(row.conversational_turns);
        self.int4(row.utterances);
        self.int4(row.unique_words);
        self.int4(row.new_words);
        self.float(row.snr_db);
        self.text(row.language);
        self.text(row.model_version);
        self.int4(row.active_ms);
        self.text(row.kind);
        self.text(row.device_type);
        let attributes: Vec<_> = row
            .attributes
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        self.text(
            (!attributes.is_empty())
                .then(|| attributes.join(","))
                .as_deref(),
        );
    }

    fn field(&mut self, value: Option<impl AsRef<[u8]>>) {
        match value {
            Some(value) => {
                let value = value.as_ref();
                self.0
                    .extend_from_slice(&(value.len() as i32).to_be_bytes());
                self.0.extend_from_slice(value);
            }
            None => self.0.extend_from_slice(&(-1_i32).to_be_bytes()),
        }
    }

    fn uuid(&mut self, value: Option<Uuid>) {
        self.field(value.map(Uuid::into_bytes));
    }

    fn text(&mut self, value: Option<&str>) {
        self.field(value);
    }

    fn boolean(&mut self, value: Option<bool>) {
        self.field(value.map(|value| [u8::from(value)]));
    }

    fn int2(&mut self, value: Option<u16>) {
        self.field(value.map(u16::to_be_bytes));
    }

    fn int4(&mut self, value: Option<u32>) {
        self.field(value.map(u32::to_be_bytes));
    }

    fn float(&mut self, value: Option<f64>) {
        self.field(value.map(f64::to_be_bytes));
    }

    /// Microseconds since 2000.
    fn time(&mut self, unix_ms: i64) {
        self.field(Some(((unix_ms - 946_684_800_000) * 1_000).to_be_bytes()));
    }
}
