-- Ready-made views for analysts, all over `history`; docs/analysts.md documents their columns.
-- "Active" means here what it means on a parent's dashboard: an interaction other than `view`, a
-- message the child wrote, or a speech window with words of the child.
-- A ratio whose denominator is 0 is NULL. The child that is left out is the canary's (`rivulet canary`).

-- One row per local date: how many children used the app, and how many were active.
CREATE OR REPLACE VIEW {database}.daily_active_children AS
SELECT
    local_date,
    uniqExact(child_id) AS children,
    uniqExactIf(child_id, active) AS active_children,
    uniqExactIf(child_id, active AND age_group = 'wonder_cubs') AS active_wonder_cubs,
    uniqExactIf(child_id, active AND age_group = 'curious_explorers') AS active_curious_explorers,
    uniqExactIf(child_id, active AND age_group = 'mind_masters') AS active_mind_masters,
    countIf(ifNull(session_action = 'start', false)) AS sessions,
    sum(ifNull(active_ms, 0)) / 60000 AS active_minutes,
    count() AS events
FROM
(
    SELECT
        local_date, child_id, age_group, session_action, active_ms,
        ifNull(interaction_action != 'view', false)
            OR ifNull(role = 'user', false)
            OR ifNull(child_words > 0, false) AS active
    FROM {database}.history
    WHERE child_id != 'ca9a0000-0000-8000-8000-000000000002'
)
GROUP BY local_date
ORDER BY local_date;

-- Children by the week they were first active in, and how many of them were active n weeks later.
-- Weeks start on Monday. Each cohort has a row for every week up to the newest active week.
CREATE OR REPLACE VIEW {database}.retention_cohorts AS
SELECT
    cohort_week,
    week_number,
    cohort_size,
    active.2[indexOf(active.1, week_number)] AS active_children,
    active_children / cohort_size AS retention
FROM
(
    SELECT
        cohort_week,
        count() AS cohort_size,
        sumMap(arrayMap(week -> toUInt32(dateDiff('day', cohort_week, week) / 7), weeks),
               arrayMap(week -> toUInt64(1), weeks)) AS active,
        max(max(last_week)) OVER () AS newest_week
    FROM
    (
        SELECT
            child_id,
            groupUniqArray(toMonday(local_date)) AS weeks,
            arrayMin(weeks) AS cohort_week,
            arrayMax(weeks) AS last_week
        FROM {database}.history
        WHERE child_id != 'ca9a0000-0000-8000-8000-000000000002'
            AND (ifNull(interaction_action != 'view', false)
                OR ifNull(role = 'user', false)
                OR ifNull(child_words > 0, false))
        GROUP BY child_id
    )
    GROUP BY cohort_week
)
ARRAY JOIN range(toUInt32(dateDiff('day', cohort_week, newest_week) / 7) + 1) AS week_number
ORDER BY cohort_week, week_number;

-- One row per piece of content: how often it is begun and finished, how hard and how liked it is.
CREATE OR REPLACE VIEW {database}.content_performance AS
SELECT
    ifNull(toString(subject), 'general') AS subject,
    toString(topic) AS topic,
    activity_id,
    uniqExact(child_id) AS children,
    count() AS interactions,
    countIf(interaction_action = 'start') AS starts,
    countIf(interaction_action = 'complete') AS completions,
    completions / nullIf(starts, 0) AS completion_rate,
    countIf(interaction_action = 'answer') AS answers,
    countIf(interaction_action = 'answer' AND is_correct) AS correct_answers,
    correct_answers / nullIf(answers, 0) AS accuracy,
    countIf(interaction_action = 'hint') AS hints,
    countIf(interaction_action = 'skip') AS skips,
    avgIf(response_time_ms, interaction_action = 'answer') / 1000 AS mean_response_seconds,
    sum(ifNull(duration_ms, 0)) / 60000 AS minutes,
    avgOrNull(difficulty) AS mean_difficulty,
    avgOrNull(rating) AS mean_rating,
    count(rating) AS ratings
FROM {database}.history
WHERE event_type = 'interaction' AND child_id != 'ca9a0000-0000-8000-8000-000000000002'
GROUP BY subject, topic, activity_id;

-- Whether practice helps: each child's answers on a topic, in the order given, are cut into an
-- earlier and a later half (the middle one of an odd number counts as later), and accuracy is
-- compared between the two. A child with one answer on a topic says nothing and is left out.
CREATE OR REPLACE VIEW {database}.learning_effectiveness AS
SELECT
    subject,
    topic,
    count() AS children,
    sum(answers) AS all_answers,
    sum(earlier_correct) / sum(earlier_answers) AS earlier_accuracy,
    sum(later_correct) / sum(answers - earlier_answers) AS later_accuracy,
    later_accuracy - earlier_accuracy AS gain,
    countIf(later_correct / (answers - earlier_answers) > earlier_correct / earlier_answers) AS children_improved
FROM
(
    SELECT
        child_id,
        ifNull(toString(subject), 'general') AS subject,
        toString(topic) AS topic,
        arraySort(groupArray((event_time, event_id, ifNull(is_correct, false)))) AS given,
        length(given) AS answers,
        intDiv(answers, 2) AS earlier_answers,
        arrayCount(answer -> answer.3, arraySlice(given, 1, earlier_answers)) AS earlier_correct,
        arrayCount(answer -> answer.3, arraySlice(given, earlier_answers + 1)) AS later_correct
    FROM {database}.history
    WHERE event_type = 'interaction' AND interaction_action = 'answer' AND child_id != 'ca9a0000-0000-8000-8000-000000000002'
    GROUP BY child_id, subject, topic
    HAVING answers >= 2
)
GROUP BY subject, topic;

-- One row per child and week of speech windows. Weeks start on Monday.
CREATE OR REPLACE VIEW {database}.speech_development AS
SELECT
    child_id,
    toMonday(local_date) AS week_start,
    argMax(toString(age_group), event_time) AS age_group,
    count() AS windows,
    sum(window_ms) / 60000 AS minutes,
    sum(child_words) AS child_words,
    sum(adult_words) AS adult_words,
    sum(child_vocalizations) AS child_vocalizations,
    sum(conversational_turns) AS conversational_turns,
    sum(utterances) AS utterances,
    sum(new_words) AS new_words,
    max(unique_words) AS max_unique_words,
    child_words / minutes AS child_words_per_minute,
    conversational_turns / minutes AS turns_per_minute,
    child_words / nullIf(child_words + adult_words, 0) AS child_share,
    child_words / nullIf(utterances, 0) AS words_per_utterance
FROM {database}.history
WHERE event_type = 'speech' AND child_id != 'ca9a0000-0000-8000-8000-000000000002'
GROUP BY child_id, week_start;

-- One row per conversation of a child with an assistant.
CREATE OR REPLACE VIEW {database}.conversation_depth AS
SELECT
    child_id,
    assumeNotNull(events.conversation_id) AS conversation_id,
    argMin(toString(age_group), event_time) AS age_group,
    min(event_time) AS started_at,
    dateDiff('millisecond', min(event_time), max(event_time)) / 60000 AS minutes,
    arraySort(groupUniqArray(toString(topic))) AS topics,
    count() AS messages,
    countIf(role = 'user') AS child_messages,
    countIf(role = 'assistant') AS assistant_messages,
    countIf(role = 'user' AND is_question) AS questions,
    countIf(role = 'user' AND is_free_form) AS free_form_messages,
    sumIf(words, role = 'user') AS child_words,
    max(depth_level) AS max_depth,
    countIf(aha_moment) AS aha_moments,
    countIf(was_filtered) AS filtered,
    sum(ifNull(tokens_used, 0)) AS tokens_used
FROM {database}.history AS events
WHERE event_type = 'message' AND child_id != 'ca9a0000-0000-8000-8000-000000000002'
GROUP BY child_id, conversation_id;
