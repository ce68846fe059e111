-- What the read API needs to answer of a child in pages, each of which costs the same however much there
-- is of that child.

-- The numbers that sums of learning_analytics come to, for the view below and for pages of it: what each is
-- stands here alone. None where the denominator (or the time) is 0. Ratios are of sums, never means of means.
-- Of a form that PostgreSQL inlines.
CREATE FUNCTION learning_metrics_of(
    interactions bigint, starts bigint, completions bigint, answers bigint, correct_answers bigint, skips bigint,
    response_time_ms bigint, response_time_count bigint, duration_ms bigint,
    difficulty_sum bigint, difficulty_count bigint, rating_sum bigint, rating_count bigint
) RETURNS TABLE (metric_type text, metric_value float8, metric_unit text, sample_count bigint)
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT m.* FROM (VALUES
        ('completion_rate',   completions::float8 / nullif(starts, 0),               'ratio',   starts),
        ('accuracy',          correct_answers::float8 / nullif(answers, 0),          'ratio',   answers),
        ('time_spent',        nullif(duration_ms, 0) / 60000.0::float8,              'minutes', interactions),
        ('response_speed',    response_time_ms / (1000.0::float8 * nullif(response_time_count, 0)), 'seconds', response_time_count),
        ('difficulty_rating', difficulty_sum::float8 / nullif(difficulty_count, 0),  '1-5',     difficulty_count),
        ('satisfaction',      rating_sum::float8 / nullif(rating_count, 0),          '1-5',     rating_count),
        -- docs/rollups.md, "engagement_score": the mean of the parts that are known
        ('engagement_score',
         100 * ((interactions - skips)::float8 / nullif(interactions, 0)
                + coalesce(least(completions, starts)::float8 / nullif(starts, 0), 0)
                + coalesce((rating_sum - rating_count)::float8 / nullif(4 * rating_count, 0), 0))
             / (1 + (starts > 0)::int + (rating_count > 0)::int),
         '0-100', interactions)
    ) AS m (metric_type, metric_value, metric_unit, sample_count)
    WHERE m.metric_value IS NOT NULL
$$;

CREATE OR REPLACE VIEW learning_metrics WITH (security_invoker = true) AS
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
CROSS JOIN LATERAL learning_metrics_of(
    s.interactions, s.starts, s.completions, s.answers, s.correct_answers, s.skips,
    s.response_time_ms, s.response_time_count, s.duration_ms,
    s.difficulty_sum, s.difficulty_count, s.rating_sum, s.rating_count
) AS m;

-- A child's days in order, as many as may fit into so many bytes of JSON, and one more, which shows that there
-- are others. What days name may be long and is kept apart from them: it is fetched of these days alone.
CREATE FUNCTION days_within(child uuid, first date, last date, bytes bigint)
RETURNS SETOF daily_child_metrics
LANGUAGE plpgsql STABLE AS $$
DECLARE
    day daily_child_metrics;
BEGIN
    FOR day IN SELECT * FROM daily_child_metrics
               WHERE child_id = child AND local_date BETWEEN first AND last ORDER BY local_date
    LOOP
        RETURN NEXT day;
        EXIT WHEN bytes < 0;
        -- At least: the numbers of a day are no shorter, and some letters are written with more bytes.
        bytes := bytes - 700 - octet_length(array_to_string(day.topics || day.badges, ''));
    END LOOP;
END
$$;

GRANT EXECUTE ON FUNCTION
    learning_metrics_of(bigint, bigint, bigint, bigint, bigint, bigint, bigint, bigint, bigint, bigint, bigint,
                        bigint, bigint),
    days_within(uuid, date, date, bigint) TO rivulet_parent;
