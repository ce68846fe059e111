-- One row per distinct event that `analytics` allows. docs/analysts.md is the analyst's page.
--
-- The sort key is the identity of an event (type, child, id, id-day) with the child first, so that
-- copies of an event always meet, and so that one child's events lie together for dashboards and
-- erasure. The partition is a function of that key: copies never sit in different partitions.
-- Of copies that differ the lowest Kafka offset is the event: `version` falls as the offset grows.
--
-- The TTL is the default of retention.toml; `rivulet migrate` brings it to the operator's file (migrations/src/retention.rs).
--
-- Without non_replicated_deduplication_window a plain MergeTree ignores insert_deduplication_token.
-- Materialized views that add up, and projections, do not belong on this table: the first see every
-- inserted copy, the second forbid the deletes that erasure needs.
CREATE TABLE IF NOT EXISTS {database}.events
(
    event_id             UUID                             COMMENT 'The client''s id of the event',
    event_type           LowCardinality(String)           COMMENT 'interaction, message, speech or session',
    id_day               Date                             COMMENT 'UTC date inside a UUIDv7 event_id, else of occurred_at; 1970-01-01 when before 2025',
    child_id             UUID                             COMMENT 'The child',
    parent_id            UUID                             COMMENT 'The child''s parent when the event was received',
    age_group            LowCardinality(String)           COMMENT 'The child''s age group when the event was received',
    session_id           Nullable(UUID)                   COMMENT 'The app session; always there on sessions'      CODEC(ZSTD(1)),
    occurred_at          DateTime64(3, 'UTC')             COMMENT 'The device''s clock as sent, within 1900..2299' CODEC(Delta(8), ZSTD(1)),
    event_time           DateTime64(3, 'UTC')             COMMENT 'occurred_at corrected for the device''s skew'   CODEC(Delta(8), ZSTD(1)),
    received_at          DateTime64(3, 'UTC')             COMMENT 'The server''s clock at arrival'                 CODEC(Delta(8), ZSTD(1)),
    local_date           Date                             COMMENT 'The date of event_time in the child''s zone'    CODEC(Delta(2), ZSTD(1)),
    device_id            Nullable(String)                CODEC(ZSTD(1)),
    device_platform      LowCardinality(Nullable(String)),
    device_app_version   LowCardinality(Nullable(String)),

    interaction_action   LowCardinality(Nullable(String)),
    activity_id          Nullable(UUID)                  CODEC(ZSTD(1)),
    subject              LowCardinality(Nullable(String)),
    topic                LowCardinality(Nullable(String)),
    is_correct           Nullable(Bool),
    response_time_ms     Nullable(UInt32)                CODEC(T64, ZSTD(1)),
    duration_ms          Nullable(UInt32)                CODEC(T64, ZSTD(1)),
    confidence           Nullable(Float64)               CODEC(ZSTD(1)),
    difficulty           Nullable(UInt8),
    rating               Nullable(UInt8),
    xp                   Nullable(UInt16)                CODEC(T64, ZSTD(1)),
    stars                Nullable(UInt16)                CODEC(T64, ZSTD(1)),
    badge                LowCardinality(Nullable(String)),

    conversation_id      Nullable(UUID)                  CODEC(ZSTD(1)),
    sequence             Nullable(UInt64)                CODEC(T64, ZSTD(1)),
    role                 LowCardinality(Nullable(String)),
    chars                Nullable(UInt32)                CODEC(T64, ZSTD(1)),
    words                Nullable(UInt32)                CODEC(T64, ZSTD(1)),
    is_question          Nullable(Bool),
    is_free_form         Nullable(Bool),
    aha_moment           Nullable(Bool),
    was_filtered         Nullable(Bool),
    selected_choice      Nullable(UInt8),
    depth_level          Nullable(UInt8),
    tokens_used          Nullable(UInt32)                CODEC(T64, ZSTD(1)),
    processing_time_ms   Nullable(UInt32)                CODEC(T64, ZSTD(1)),
    filter_reason        LowCardinality(Nullable(String)),

    audio_session_id     Nullable(UUID)                  CODEC(ZSTD(1)),
    window_ms            Nullable(UInt32)                CODEC(T64, ZSTD(1)),
    child_words          Nullable(UInt32)                CODEC(T64, ZSTD(1)),
    adult_words          Nullable(UInt32)                CODEC(T64, ZSTD(1)),
    child_vocalizations  Nullable(UInt32)                CODEC(T64, ZSTD(1)),
    conversational_turns Nullable(UInt32)                CODEC(T64, ZSTD(1)),
    utterances           Nullable(UInt32)                CODEC(T64, ZSTD(1)),
    unique_words         Nullable(UInt32)                CODEC(T64, ZSTD(1)),
    new_words            Nullable(UInt32)                CODEC(T64, ZSTD(1)),
    snr_db               Nullable(Float64)               CODEC(ZSTD(1)),
    language             LowCardinality(Nullable(String)),
    model_version        LowCardinality(Nullable(String)),

    session_action       LowCardinality(Nullable(String)),
    active_ms            Nullable(UInt32)                CODEC(T64, ZSTD(1)),
    kind                 LowCardinality(Nullable(String)),
    device_type          LowCardinality(Nullable(String)),

    attributes           Map(String, String)              COMMENT 'Free attributes; numbers and booleans as JSON prints them' CODEC(ZSTD(1)),

    kafka_topic          LowCardinality(String)           COMMENT 'Where the event came from',
    kafka_partition      Int32                            COMMENT 'Where the event came from'                      CODEC(ZSTD(1)),
    kafka_offset         UInt64                           COMMENT 'Where the event came from'                      CODEC(Delta(8), ZSTD(1)),
    topic_incarnation    LowCardinality(String)           COMMENT 'Cluster and topic id: offsets compare only within one',

    version              UInt64 MATERIALIZED 18446744073709551615 - kafka_offset
                                                          COMMENT 'Makes the copy with the lowest offset win'      CODEC(Delta(8), ZSTD(1))
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(id_day)
ORDER BY (child_id, id_day, event_type, event_id)
TTL {events_ttl}
SETTINGS non_replicated_deduplication_window = 10000,
    cleanup_delay_period = 5, max_cleanup_delay_period = 10, cleanup_delay_period_random_add = 0;

-- Columns that came later. The view `history` is made after them, so it has them too; at its end, where they move no
-- column of who reads by position.
ALTER TABLE {database}.events
    ADD COLUMN IF NOT EXISTS consent_version LowCardinality(Nullable(String)) AFTER topic_incarnation;
