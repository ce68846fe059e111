-- A row for each child and local date, so that a board over a year need not read a year of events.
--
-- `events` may hold copies of an event until they are merged, so nothing may add up what is inserted:
-- a row is always recounted as a whole from `history`, and a newer count replaces an older one. Any
-- refresh may therefore be repeated, cut short, started by hand (SYSTEM REFRESH VIEW) or run beside
-- inserts and other refreshes: the row of the recount that began last is the one that is read.
--
-- * Every ten minutes the last 45 dates are recounted. Ingest refuses what is older than 30 days, and
--   what it takes may wait for 3 days in a spill and 7 in Kafka.
-- * Once a day, when ClickHouse starts and when this is installed, all of history is: for whatever came
--   later still, out of quarantine or while refreshes were stopped.
--
-- No recount tells of a child that has no events any more: who deletes events deletes here, too
-- (docs/analysts.md says in which order). Rows expire with the last of their events.
--
-- The child that is left out is the canary's (`rivulet canary`).
--
-- Needs ClickHouse 25.3. In a `Replicated` database, and in ClickHouse Cloud, one replica at a time
-- refreshes; where several refresh, their rows meet as those of repeated refreshes do.

-- What the rows must be, from the events: exact, and slow over a year. `since` is the first local date.
-- An event's id may be made 35 days before its local date, which bounds the months that are read.
CREATE OR REPLACE VIEW {database}.child_days_recounted AS
WITH
    -- As tuples, because groupArray leaves NULLs out.
    arraySort(groupArrayIf((activity_id, subject, topic, part.events, starts, answers, correct_answers, hints, skips,
        completions, duration_ms, response_time_ms, response_time_count, rating_sum, rating_count),
        event_type = 'interaction')) AS day_activities,
    arraySort(groupArrayIf((conversation_id, part.events, child_messages, questions, aha_moments, filtered, max_depth),
        event_type = 'message')) AS day_conversations
SELECT
    local_date,
    child_id,
    argMax(age_group, last_event) AS age_group,
    sum(events) AS events,
    sum(qualifying_events) AS qualifying_events,
    sum(sessions) AS sessions,
    sum(active_ms) AS active_ms,
    sum(speech_windows) AS speech_windows,
    sum(speech_ms) AS speech_ms,
    sum(child_words) AS child_words,
    sum(adult_words) AS adult_words,
    sum(conversational_turns) AS conversational_turns,
    sum(child_vocalizations) AS child_vocalizations,
    sum(utterances) AS utterances,
    sum(new_words) AS new_words,
    day_activities.1 AS `activities.activity_id`,
    day_activities.2 AS `activities.subject`,
    day_activities.3 AS `activities.topic`,
    day_activities.4 AS `activities.interactions`,
    day_activities.5 AS `activities.starts`,
    day_activities.6 AS `activities.answers`,
    day_activities.7 AS `activities.correct_answers`,
    day_activities.8 AS `activities.hints`,
    day_activities.9 AS `activities.skips`,
    day_activities.10 AS `activities.completions`,
    day_activities.11 AS `activities.duration_ms`,
    day_activities.12 AS `activities.response_time_ms`,
    day_activities.13 AS `activities.response_time_count`,
    day_activities.14 AS `activities.rating_sum`,
    day_activities.15 AS `activities.rating_count`,
    day_conversations.1 AS `conversations.conversation_id`,
    day_conversations.2 AS `conversations.messages`,
    day_conversations.3 AS `conversations.child_messages`,
    day_conversations.4 AS `conversations.questions`,
    day_conversations.5 AS `conversations.aha_moments`,
    day_conversations.6 AS `conversations.filtered`,
    day_conversations.7 AS `conversations.max_depth`,
    max(last_received_at) AS last_received_at
FROM
(
    -- The parts of a day: each activity, each conversation, all speech, all sessions.
    SELECT
        local_date,
        child_id,
        event_type,
        activity_id,
        conversation_id,
        if(event_type = 'interaction', ifNull(toString(event.subject), 'general'), '') AS subject,
        if(event_type = 'interaction', toString(event.topic), NULL) AS topic,
        argMax(event.age_group, (event_time, event_id)) AS age_group,
        max((event_time, event_id)) AS last_event,
        max(received_at) AS last_received_at,
        count() AS events,
        countIf(ifNull(interaction_action != 'view', false)
            OR ifNull(role = 'user', false)
            OR ifNull(event.child_words > 0, false)) AS qualifying_events,
        countIf(session_action = 'start') AS sessions,
        sum(ifNull(event.active_ms, 0)) AS active_ms,
        countIf(event_type = 'speech') AS speech_windows,
        sum(ifNull(window_ms, 0)) AS speech_ms,
        sum(ifNull(event.child_words, 0)) AS child_words,
        sum(ifNull(event.adult_words, 0)) AS adult_words,
        sum(ifNull(event.conversational_turns, 0)) AS conversational_turns,
        sum(ifNull(event.child_vocalizations, 0)) AS child_vocalizations,
        sum(ifNull(event.utterances, 0)) AS utterances,
        sum(ifNull(event.new_words, 0)) AS new_words,
        countIf(interaction_action = 'start') AS starts,
        countIf(interaction_action = 'answer') AS answers,
        countIf(interaction_action = 'answer' AND is_correct) AS correct_answers,
        countIf(interaction_action = 'hint') AS hints,
        countIf(interaction_action = 'skip') AS skips,
        countIf(interaction_action = 'complete') AS completions,
        sum(ifNull(event.duration_ms, 0)) AS duration_ms,
        sumIf(ifNull(event.response_time_ms, 0), interaction_action = 'answer') AS response_time_ms,
        countIf(interaction_action = 'answer' AND event.response_time_ms IS NOT NULL) AS response_time_count,
        sum(ifNull(rating, 0)) AS rating_sum,
        count(rating) AS rating_count,
        countIf(role = 'user') AS child_messages,
        countIf(role = 'user' AND is_question) AS questions,
        countIf(aha_moment) AS aha_moments,
        countIf(was_filtered) AS filtered,
        max(depth_level) AS max_depth
    FROM {database}.history AS event
    WHERE event.local_date >= {since:Date} AND (event.id_day >= {since:Date} - 35 OR event.id_day = '1970-01-01')
        AND event.child_id != 'ca9a0000-0000-8000-8000-000000000002'
    GROUP BY local_date, child_id, event_type, activity_id, conversation_id, subject, topic
) AS part
GROUP BY local_date, child_id;

CREATE TABLE IF NOT EXISTS {database}.child_day_rollup
(
    local_date           Date,
    child_id             UUID,
    age_group            LowCardinality(String),
    events               UInt64 CODEC(T64, ZSTD(1)),
    qualifying_events    UInt64 CODEC(T64, ZSTD(1)),
    sessions             UInt64 CODEC(T64, ZSTD(1)),
    active_ms            UInt64 CODEC(T64, ZSTD(1)),
    speech_windows       UInt64 CODEC(T64, ZSTD(1)),
    speech_ms            UInt64 CODEC(T64, ZSTD(1)),
    child_words          UInt64 CODEC(T64, ZSTD(1)),
    adult_words          UInt64 CODEC(T64, ZSTD(1)),
    conversational_turns UInt64 CODEC(T64, ZSTD(1)),
    child_vocalizations  UInt64 CODEC(T64, ZSTD(1)),
    utterances           UInt64 CODEC(T64, ZSTD(1)),
    new_words            UInt64 CODEC(T64, ZSTD(1)),
    activities           Nested(
        activity_id Nullable(UUID), subject LowCardinality(String), topic LowCardinality(Nullable(String)),
        interactions UInt32, starts UInt32, answers UInt32, correct_answers UInt32, hints UInt32, skips UInt32,
        completions UInt32, duration_ms UInt64, response_time_ms UInt64, response_time_count UInt32,
        rating_sum UInt32, rating_count UInt32),
    conversations        Nested(
        conversation_id UUID, messages UInt32, child_messages UInt32, questions UInt32, aha_moments UInt32,
        filtered UInt32, max_depth Nullable(UInt8)),
    last_received_at     DateTime64(3, 'UTC') COMMENT 'received_at of the event that expires last',
    recounted_at         DateTime64(6, 'UTC') COMMENT 'When the recount began: the newest row is read'
)
ENGINE = ReplacingMergeTree(recounted_at)
PARTITION BY toYYYYMM(local_date)
ORDER BY (local_date, child_id)
TTL {days_ttl}
SETTINGS cleanup_delay_period = 5, max_cleanup_delay_period = 10, cleanup_delay_period_random_add = 0;

CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.child_day_rollup_recent
REFRESH EVERY 10 MINUTE APPEND TO {database}.child_day_rollup AS
SELECT *, now64(6, 'UTC') AS recounted_at
FROM {database}.child_days_recounted(since = today() - 45);

CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.child_day_rollup_all
REFRESH EVERY 1 DAY OFFSET 2 HOUR RANDOMIZE FOR 1 HOUR APPEND TO {database}.child_day_rollup AS
SELECT *, now64(6, 'UTC') AS recounted_at
FROM {database}.child_days_recounted(since = '2000-01-01');

-- What analysts and boards read: this view and the two below.
CREATE OR REPLACE VIEW {database}.child_days AS
SELECT
    local_date, child_id, age_group, events, qualifying_events, sessions, active_ms, speech_windows, speech_ms,
    child_words, adult_words, conversational_turns, child_vocalizations, utterances, new_words, recounted_at
FROM {database}.child_day_rollup FINAL
SETTINGS do_not_merge_across_partitions_select_final = 1;

-- One row for each child, local date and activity (with its subject and topic).
CREATE OR REPLACE VIEW {database}.child_day_activities AS
SELECT
    local_date, child_id, age_group,
    activities.activity_id AS activity_id, activities.subject AS subject, activities.topic AS topic,
    activities.interactions AS interactions, activities.starts AS starts, activities.answers AS answers,
    activities.correct_answers AS correct_answers, activities.hints AS hints, activities.skips AS skips,
    activities.completions AS completions, activities.duration_ms AS duration_ms,
    activities.response_time_ms AS response_time_ms, activities.response_time_count AS response_time_count,
    activities.rating_sum AS rating_sum, activities.rating_count AS rating_count
FROM {database}.child_day_rollup FINAL
ARRAY JOIN activities
SETTINGS do_not_merge_across_partitions_select_final = 1;

-- One row for each child, local date and conversation. One across midnight has two rows.
CREATE OR REPLACE VIEW {database}.child_day_conversations AS
SELECT
    local_date, child_id, age_group,
    conversations.conversation_id AS conversation_id, conversations.messages AS messages,
    conversations.child_messages AS child_messages, conversations.questions AS questions,
    conversations.aha_moments AS aha_moments, conversations.filtered AS filtered, conversations.max_depth AS max_depth
FROM {database}.child_day_rollup FINAL
ARRAY JOIN conversations
SETTINGS do_not_merge_across_partitions_select_final = 1;
