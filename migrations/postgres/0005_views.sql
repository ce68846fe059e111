-- Views and functions over the rollups. `security_invoker`: whoever reads a view is held to the
-- row-level security of the tables under it.

-- The long form that dashboards chart: one row a child, period, subject and metric.
-- No row where the denominator (or the time) is 0. Ratios are of the period's sums, never means
-- of daily means.
CREATE VIEW learning_metrics WITH (security_invoker = true) AS
SELECT s.child_id, s.period, s.period_start, s.subject,
       m.metric_type, m.metric_value, m.metric_unit, m.sample_count
FROM (
    SELECT child_id, p.period, p.period_start, subject,
           sum(interactions)::bigint        AS interactions,
           sum(starts)::bigint              AS starts,
           sum(completions)::bigint         AS completions,
           sum(answers)::bigint             AS answers,
           sum(correct_answers)::bigint     AS correct_answers,
           sum(skips)::bigint               AS skips,
           sum(response_time_ms)::bigint    AS response_time_ms,
           sum(response_time_count)::bigint AS response_time_count,
           sum(duration_ms)::bigint         AS duration_ms,
           sum(difficulty_sum)::bigint      AS difficulty_sum,
           sum(difficulty_count)::bigint    AS difficulty_count,
           sum(rating_sum)::bigint          AS rating_sum,
           sum(rating_count)::bigint        AS rating_count
    FROM learning_analytics
    CROSS JOIN LATERAL (VALUES
        ('daily',   local_date),
        -- of a timestamp without zone: the session's TimeZone must not move a week
        ('weekly',  date_trunc('week', local_date::timestamp)::date),
        ('monthly', date_trunc('month', local_date::timestamp)::date)
    ) AS p (period, period_start)
    GROUP BY child_id, p.period, p.period_start, subject
) AS s
CROSS JOIN LATERAL (VALUES
    ('completion_rate',   s.completions::float8 / nullif(s.starts, 0),               'ratio',   s.starts),
    ('accuracy',          s.correct_answers::float8 / nullif(s.answers, 0),          'ratio',   s.answers),
    ('time_spent',        nullif(s.duration_ms, 0) / 60000.0::float8,                'minutes', s.interactions),
    ('response_speed',    s.response_time_ms / (1000.0::float8 * nullif(s.response_time_count, 0)), 'seconds', s.response_time_count),
    ('difficulty_rating', s.difficulty_sum::float8 / nullif(s.difficulty_count, 0),  '1-5',     s.difficulty_count),
    ('satisfaction',      s.rating_sum::float8 / nullif(s.rating_count, 0),          '1-5',     s.rating_count),
    -- docs/rollups.md, "engagement_score": the mean of the parts that are known
    ('engagement_score',
     100 * ((s.interactions - s.skips)::float8 / nullif(s.interactions, 0)
            + coalesce(least(s.completions, s.starts)::float8 / nullif(s.starts, 0), 0)
            + coalesce((s.rating_sum - s.rating_count)::float8 / nullif(4 * s.rating_count, 0), 0))
         / (1 + (s.starts > 0)::int + (s.rating_count > 0)::int),
     '0-100', s.interactions)
) AS m (metric_type, metric_value, metric_unit, sample_count)
WHERE m.metric_value IS NOT NULL;

CREATE AGGREGATE text_set_union_agg(text[]) (
    sfunc = text_set_union, stype = text[], initcond = '{}', parallel = safe
);

-- A child's week, Monday to Sunday, over its daily rows.
CREATE VIEW weekly_summaries WITH (security_invoker = true) AS
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
       max(updated_at)                    AS updated_at
FROM daily_child_metrics
GROUP BY child_id, week_start;

-- The streak a parent sees on `today`: over the active days up to it, while the days missed up to
-- yesterday can still be bridged by freezes, else 0. Unlike streaks.current_streak, which is as of
-- the last active date, it falls to 0 by itself as days pass.
CREATE FUNCTION streak_as_of(child uuid, today date) RETURNS bigint
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT coalesce(max(CASE WHEN today - 1 - r.last_active_date <= r.freezes_available
                             THEN r.current_streak END), 0)
    FROM streaks,
         streak_of(active_days * datemultirange(daterange(NULL, today, '(]'))) AS r
    WHERE child_id = child
$$;
