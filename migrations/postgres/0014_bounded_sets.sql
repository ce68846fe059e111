-- A child's day keeps the first 256 of its topics and of its badges, bytewise, and says whether there are
-- others. Without a bound an app that makes ids into topics, or a sender who means harm, makes every
-- update of the row, and every answer that has it, as expensive as it likes. The first 256 of a union are a
-- function of the sets, so the row stays the same to the bit in any order of arrival.

ALTER TABLE daily_child_metrics
    ADD COLUMN topics_more boolean NOT NULL DEFAULT false,
    ADD COLUMN badges_more boolean NOT NULL DEFAULT false;

UPDATE daily_child_metrics
SET topics_more = cardinality(topics) > 256, topics = topics[1:256],
    badges_more = cardinality(badges) > 256, badges = badges[1:256]
WHERE cardinality(topics) > 256 OR cardinality(badges) > 256;

-- The same over a week's days: at most seven sets of 256 are united before they are cut.
CREATE OR REPLACE VIEW weekly_summaries WITH (security_invoker = true) AS
SELECT child_id, week_start, active_days,
       events, sessions, active_ms, interactions, starts, answers, correct_answers, hints, skips, completions,
       response_time_ms, response_time_count, xp, stars, messages_sent, messages_received, questions_asked,
       conversations_started, aha_moments, messages_filtered, tokens_used, max_depth, speech_windows, speech_ms,
       child_words, adult_words, conversational_turns, child_vocalizations, utterances, new_words,
       max_unique_words,
       topics[1:256] AS topics,
       badges[1:256] AS badges,
       qualifying_events, first_event_at, last_event_at, withheld_events, updated_at,
       topics_more OR cardinality(topics) > 256 AS topics_more,
       badges_more OR cardinality(badges) > 256 AS badges_more
FROM (
    SELECT child_id,
           date_trunc('week', local_date::timestamp)::date AS week_start,
           count(*) FILTER (WHERE qualifying_events > 0)   AS active_days,
           sum(events)::bigint                AS events,
           sum(sessions)::bigint              AS sessions,
           sum(active_ms)::bigint             AS active_ms,
           sum(interactions)::bigint          AS interactions,
           sum(starts)::bigint                AS starts,
           sum(answers)::bigint               AS answers,
           sum(correct_answers)::bigint       AS correct_answers,
           sum(hints)::bigint                 AS hints,
           sum(skips)::bigint                 AS skips,
           sum(completions)::bigint           AS completions,
           sum(response_time_ms)::bigint      AS response_time_ms,
           sum(response_time_count)::bigint   AS response_time_count,
           sum(xp)::bigint                    AS xp,
           sum(stars)::bigint                 AS stars,
           sum(messages_sent)::bigint         AS messages_sent,
           sum(messages_received)::bigint     AS messages_received,
           sum(questions_asked)::bigint       AS questions_asked,
           sum(conversations_started)::bigint AS conversations_started,
           sum(aha_moments)::bigint           AS aha_moments,
           sum(messages_filtered)::bigint     AS messages_filtered,
           sum(tokens_used)::bigint           AS tokens_used,
           max(max_depth)                     AS max_depth,
           sum(speech_windows)::bigint        AS speech_windows,
           sum(speech_ms)::bigint             AS speech_ms,
           sum(child_words)::bigint           AS child_words,
           sum(adult_words)::bigint           AS adult_words,
           sum(conversational_turns)::bigint  AS conversational_turns,
           sum(child_vocalizations)::bigint   AS child_vocalizations,
           sum(utterances)::bigint            AS utterances,
           sum(new_words)::bigint             AS new_words,
           max(max_unique_words)              AS max_unique_words,
           text_set_union_agg(topics)         AS topics,
           text_set_union_agg(badges)         AS badges,
           sum(qualifying_events)::bigint     AS qualifying_events,
           min(first_event_at)                AS first_event_at,
           max(last_event_at)                 AS last_event_at,
           sum(withheld_events)::bigint       AS withheld_events,
           max(updated_at)                    AS updated_at,
           bool_or(topics_more)               AS topics_more,
           bool_or(badges_more)               AS badges_more
    FROM daily_child_metrics
    GROUP BY child_id, week_start
) AS week;
