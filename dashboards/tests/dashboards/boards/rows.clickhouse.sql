-- Sixty children, begun in the last four weeks, fifteen a week and five an age group of those; each with
-- a visit on most days since. As the sink would write it, in what analysts look at.
INSERT INTO events (
    event_id, event_type, id_day, child_id, parent_id, age_group, session_id, occurred_at, event_time, received_at,
    local_date, device_id, device_platform, device_app_version,
    interaction_action, activity_id, subject, topic, is_correct, response_time_ms, duration_ms, confidence,
    difficulty, rating, xp, stars, badge,
    conversation_id, sequence, role, chars, words, is_question, is_free_form, aha_moment, was_filtered, depth_level,
    tokens_used, processing_time_ms, filter_reason,
    audio_session_id, window_ms, child_words, adult_words, child_vocalizations, conversational_turns, utterances,
    unique_words, new_words, snr_db, language, model_version,
    session_action, active_ms, kind, device_type, attributes,
    kafka_topic, kafka_partition, kafka_offset, topic_incarnation)
WITH
    number % 60 AS child,
    intDiv(number, 60) % 28 AS ago,
    intDiv(number, 60 * 28) AS nth,
    number % 60 % 4 AS cohort,
    now64(3) - toIntervalDay(ago) - toIntervalSecond(3600 - nth * 60) AS at,
    multiIf(nth < 14, 'interaction', nth < 22, 'message', nth < 26, 'speech', 'session') AS type,
    type = 'interaction' AS i,
    type = 'message' AS m,
    type = 'speech' AS s,
    type = 'session' AS z,
    ['start', 'answer', 'answer', 'hint', 'answer', 'complete', 'rate'][nth % 7 + 1] AS action
SELECT
    generateUUIDv4(), type, toDate(at), reinterpretAsUUID(sipHash128('child', child)), reinterpretAsUUID(sipHash128('parent', child)),
    ['wonder_cubs', 'curious_explorers', 'mind_masters'][intDiv(child, 4) % 3 + 1],
    reinterpretAsUUID(sipHash128('session', child, ago)), at, at, at,
    toDate(at), concat('device-', toString(child)), ['ios', 'android', 'web'][child % 3 + 1], ['3.1.0', '3.2.0'][child % 2 + 1],
    if(i, action, NULL), if(i, reinterpretAsUUID(sipHash128('activity', intDiv(nth, 7), child % 2)), NULL),
    if(i, ['math', 'reading'][intDiv(nth, 7) + 1], NULL), if(i OR m, ['fractions', 'rhymes'][child % 2 + 1], NULL),
    if(i AND action = 'answer', (child + nth + ago) % 3 > 0, NULL), if(i AND action = 'answer', 3000 + 100 * nth, NULL),
    if(i, 20000, NULL), if(i AND action = 'answer', 0.75, NULL),
    if(i, 1 + child % 5, NULL), if(i AND action = 'rate', 3 + child % 3, NULL), if(i AND action = 'complete', 20, NULL),
    if(i AND action = 'complete', 2, NULL), if(i AND action = 'complete' AND ago % 7 = 0, 'explorer', NULL),
    if(m, reinterpretAsUUID(sipHash128('conversation', child, ago)), NULL), if(m, nth - 13, NULL),
    if(m, if(nth % 2 = 0, 'user', 'assistant'), NULL), if(m, 60, NULL), if(m, 12, NULL), if(m, nth % 4 = 0, NULL),
    if(m, nth % 2 = 0, NULL), if(m, nth = 20, NULL), if(m, nth = 17 AND child % 5 = 0, NULL), if(m, nth - 14, NULL),
    if(m AND nth % 2 = 1, 150, NULL), if(m AND nth % 2 = 1, 800, NULL), if(m AND nth = 17 AND child % 5 = 0, 'unsafe_topic', NULL),
    if(s, reinterpretAsUUID(sipHash128('audio', child, ago)), NULL), if(s, 300000, NULL), if(s, 200 + child, NULL),
    if(s, 400, NULL), if(s, 20, NULL), if(s, 25, NULL), if(s, 50, NULL), if(s, 70, NULL), if(s, 3, NULL), if(s, 18.5, NULL),
    if(s, ['en', 'it'][child % 2 + 1], NULL), if(s, 'm-2', NULL),
    if(z, ['start', 'heartbeat', 'heartbeat', 'end'][nth % 4 + 1], NULL), if(z, 300000, NULL),
    if(z, ['learning', 'story'][child % 2 + 1], NULL), if(z, ['tablet', 'mobile'][child % 2 + 1], NULL), map('room', 'kitchen'),
    concat('rivulet.', type), 0, number, 'test'
FROM numbers(60 * 28 * 30)
WHERE ago <= 27 - 7 * cohort AND (child + ago) % 5 > 0;
