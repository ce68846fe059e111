-- How long what is kept: the periods of the file retention.toml as `rivulet migrate` brought them here last. Roles of
-- another file do not start; who deletes goes by these. docs/retention.md tells the whole.
CREATE TABLE retention_periods (
    class       text PRIMARY KEY,
    days        integer NOT NULL CHECK (days > 0),
    -- Nothing that came since then was deleted for its age. Where a period was made longer, this is later than `days`
    -- ago: what is older is gone, and its absence is no difference.
    kept_since  date NOT NULL DEFAULT '2000-01-01',
    -- What is of days before this one was deleted; NULL where nobody looked since the period was changed.
    swept_until date,
    applied_at  timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE retention_periods ENABLE ROW LEVEL SECURITY;

-- The periods of the file that is built in.
INSERT INTO retention_periods (class, days) VALUES
    ('speech', 1095), ('interactions', 1825), ('messages', 1825), ('sessions', 1825), ('daily', 1825), ('learning', 1825),
    ('identities', 45), ('quarantine', 45), ('consents', 2555), ('audit', 2555), ('erasures', 2555);

-- The history forgot after 25 months until now.
UPDATE retention_periods SET kept_since = (CURRENT_DATE - interval '25 months')::date + 1
WHERE class IN ('speech', 'interactions', 'messages', 'sessions');

-- The range partitions of a table, by dates or times, that end on or before a day: the oldest first. None where there
-- is no such table.
CREATE FUNCTION partitions_before(parent text, cut date)
RETURNS TABLE (name text, ends date) LANGUAGE sql STABLE AS $$
    SELECT inhrelid::regclass::text, bound.ends
    FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
    CROSS JOIN LATERAL (
        SELECT left(substring(pg_get_expr(relpartbound, pg_class.oid) FROM 'TO \(''([^'']+)'''), 10)::date AS ends
    ) AS bound
    WHERE inhparent = to_regclass(parent) AND bound.ends <= cut
    ORDER BY bound.ends
$$;

ALTER TABLE quarantine_actions DROP CONSTRAINT quarantine_actions_action_check,
    ADD CONSTRAINT quarantine_actions_action_check CHECK (action IN ('replayed', 'dropped', 'erased', 'expired'));

CREATE INDEX quarantine_by_age ON quarantine (quarantined_at);

-- The day before which what is of a class is to be deleted; NULL where that was done up to there.
CREATE FUNCTION retention_due(asked text, today date) RETURNS date LANGUAGE sql STABLE AS $$
    SELECT today - days FROM retention_periods
    WHERE class = asked AND (swept_until IS NULL OR swept_until < today - days)
$$;
