//! Ingest's baseline: an axum handler that parses the same body into typed structs, and no more.

use std::{collections::HashMap, io::Read as _};

use anyhow::Result;
use axum::{Json, Router, routing::post};
use chrono::{DateTime, Utc};
use serde::Deserialize;
use tokio::net::TcpListener;
use uuid::Uuid;

#[derive(Deserialize)]
struct Batch {
    #[expect(dead_code, reason = "parsed, as all of it")]
    sent_at: Option<DateTime<Utc>>,
    events: Vec<Event>,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "parsed, as all of it")]
struct Event {
    id: Uuid,
    r#type: String,
    child_id: Uuid,
    occurred_at: DateTime<Utc>,
    session_id: Option<Uuid>,
    device: Option<Device>,
    #[serde(default)]
    attributes: HashMap<String, serde_json::Value>,
    data: Data,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "parsed, as all of it")]
struct Device {
    id: Option<String>,
    platform: Option<String>,
    app_version: Option<String>,
}

/// The `data` of all types as one struct: what a plain handler that wants to be quick would do.
#[derive(Deserialize)]
#[expect(dead_code, reason = "parsed, as all of it")]
struct Data {
    action: Option<String>,
    activity_id: Option<Uuid>,
    subject: Option<String>,
    topic: Option<String>,
    is_correct: Option<bool>,
    response_time_ms: Option<u32>,
    duration_ms: Option<u32>,
    confidence: Option<f64>,
    difficulty: Option<u8>,
    rating: Option<u8>,
    xp: Option<u16>,
    stars: Option<u16>,
    badge: Option<String>,
    conversation_id: Option<Uuid>,
    sequence: Option<u64>,
    role: Option<String>,
    content: Option<String>,
    is_question: Option<bool>,
    is_free_form: Option<bool>,
    aha_moment: Option<bool>,
    was_filtered: Option<bool>,
    selected_choice: Option<u8>,
    depth_level: Option<u8>,
    tokens_used: Option<u32>,
    processing_time_ms: Option<u32>,
    filter_reason: Option<String>,
    audio_session_id: Option<Uuid>,
    window_ms: Option<u32>,
    child_words: Option<u32>,
    adult_words: Option<u32>,
    child_vocalizations: Option<u32>,
    conversational_turns: Option<u32>,
    utterances: Option<u32>,
    unique_words: Option<u32>,
    new_words: Option<u32>,
    snr_db: Option<f64>,
    language: Option<String>,
    model_version: Option<String>,
    active_ms: Option<u32>,
    kind: Option<String>,
    device_type: Option<String>,
}

async fn events(Json(batch): Json<Batch>) -> String {
    format!("parsed {}", batch.events.len())
}

/// Listens on a free port, prints it, and ends with its standard input: it never outlives whoever
/// started it.
pub(crate) async fn serve() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    let app = Router::new().route("/v1/events", post(events));
    let parent_left = async {
        let _ = tokio::task::spawn_blocking(|| std::io::stdin().read(&mut [0; 1])).await;
    };
    Ok(axum::serve(listener, app)
        .with_graceful_shutdown(parent_left)
        .await?)
}
