-- {families} families with a child each, and their rollups of a month: as the aggregator would leave
-- them, in what the boards look at.
CREATE TABLE daily_of_test PARTITION OF daily_child_metrics DEFAULT;
CREATE TABLE learning_of_test PARTITION OF learning_analytics DEFAULT;

CREATE TEMPORARY TABLE family AS
SELECT n, md5('parent ' || n)::uuid AS parent, md5('child ' || n)::uuid AS child
FROM generate_series(1, {families}) AS n;

INSERT INTO parents (id, timezone, coppa, audio, analytics)
SELECT parent, 'Europe/Rome', true, n % 2 = 0, n % 3 > 0 FROM family;

INSERT INTO children (id, parent_id, age_group)
SELECT child, parent, CASE WHEN n % 2 = 0 THEN 'wonder_cubs' ELSE 'mind_masters' END FROM family;

INSERT INTO daily_child_metrics (
    child_id, local_date, events, sessions, active_ms, interactions, starts, answers, correct_answers,
    hints, skips, completions, response_time_ms, response_time_count, xp, stars, messages_sent,
    messages_received, questions_asked, conversations_started, aha_moments, messages_filtered, tokens_used,
    max_depth, speech_windows, speech_ms, child_words, adult_words, conversational_turns,
    child_vocalizations, utterances, new_words, max_unique_words, topics, badges, qualifying_events,
    first_event_at, last_event_at, withheld_events)
SELECT child, current_date - ago, 60, 2, 1200000, 40, 8, 20, 12 + n % 5,
       2, 1, 6, 160000, 20, 100, 5, 5,
       5, 3, 1, 1, n % 2, 900,
       4, 4, 600000, 400, 900, 40,
       30, 80, 6, 90, '{fractions}', '{}', 40,
       now() - ago * interval '1 day', now() - ago * interval '1 day', 0
FROM family, generate_series(0, 27) AS ago;

INSERT INTO learning_analytics (
    child_id, local_date, subject, interactions, starts, completions, answers, correct_answers, hints,
    skips, response_time_ms, response_time_count, duration_ms, difficulty_sum, difficulty_count,
    rating_sum, rating_count, confidence_milli_sum, confidence_count, withheld_events)
SELECT child, current_date - ago, subject, 20, 4, 3, 10, 6 + n % 3, 1,
       1, 80000, 10, 400000, 30, 10,
       8, 2, 7000, 10, 0
FROM family, generate_series(0, 27) AS ago, (VALUES ('math'), ('general')) AS s (subject);

INSERT INTO streaks (
    child_id, current_streak, longest_streak, streak_started_on, last_active_date, freezes_available,
    active_days, rule_version)
SELECT child, 28, 28, current_date - 27, current_date, 2,
       datemultirange(daterange(current_date - 27, current_date, '[]')), 1
FROM family;
