-- `child_days_recounted` of 0004 read the months of ids from 35 days before `since`. An id is made by a device's clock,
-- which may be wrong by years while `sent_at` puts the event right: every count of the last dates forgot such events
-- again that the count of all dates had found.
--
-- Now the ids' dates are looked up first, which reads two small columns; only months that have one of them are read.
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
    WHERE event.local_date >= {since:Date}
        AND event.id_day IN (SELECT id_day FROM {database}.events WHERE local_date >= {since:Date})
        AND event.child_id != 'ca9a0000-0000-8000-8000-000000000002'
    GROUP BY local_date, child_id, event_type, activity_id, conversation_id, subject, topic
) AS part
GROUP BY local_date, child_id;
