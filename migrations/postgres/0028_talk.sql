-- How a child talks: the daily rows by period, and its vocabulary by week. The terms are those of the field (adult word
-- count, conversational turn count, child vocalization count), each by the time that was analysed: a child that was heard for
-- longer says more, and that says nothing of the child.

-- Nothing below ten minutes: a few words more or less would be any number of words a minute.
CREATE VIEW speech_patterns WITH (security_invoker = true) AS
SELECT child_id, period, period_start,
       speech_ms / 60000.0::float8                                        AS analysed_minutes,
       60000.0::float8 * child_words / speech_ms                          AS child_words_per_minute,
       60000.0::float8 * adult_words / speech_ms                          AS adult_words_per_minute,
       3600000.0::float8 * conversational_turns / speech_ms               AS turns_per_hour,
       3600000.0::float8 * child_vocalizations / speech_ms                AS vocalizations_per_hour,
       -- Null where neither said a word.
       child_words::float8 / nullif(child_words + adult_words, 0)         AS child_share
FROM (
    SELECT child_id, p.period, p.period_start,
           sum(speech_ms)::bigint            AS speech_ms,
           sum(child_words)::bigint          AS child_words,
           sum(adult_words)::bigint          AS adult_words,
           sum(conversational_turns)::bigint AS conversational_turns,
           sum(child_vocalizations)::bigint  AS child_vocalizations
    FROM daily_child_metrics
    CROSS JOIN LATERAL (VALUES
        ('daily',   local_date),
        -- of a timestamp without zone: the session's TimeZone must not move a week
        ('weekly',  date_trunc('week', local_date::timestamp)::date),
        ('monthly', date_trunc('month', local_date::timestamp)::date)
    ) AS p (period, period_start)
    WHERE speech_windows > 0
    GROUP BY child_id, p.period, p.period_start
) AS s
WHERE speech_ms >= 600000;

-- The words that the app's analysis heard for the first time, and how many there were by the end of each week.
CREATE VIEW vocabulary WITH (security_invoker = true) AS
SELECT child_id, week_start, new_words,
       sum(new_words) OVER (PARTITION BY child_id ORDER BY week_start)::bigint AS new_words_total,
       max_unique_words
FROM (
    SELECT child_id,
           date_trunc('week', local_date::timestamp)::date AS week_start,
           sum(new_words)::bigint                          AS new_words,
           max(max_unique_words)                           AS max_unique_words
    FROM daily_child_metrics
    WHERE speech_windows > 0
    GROUP BY child_id, week_start
) AS s;

GRANT SELECT ON speech_patterns, vocabulary TO rivulet_parent, rivulet_api;
