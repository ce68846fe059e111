-- A login for each role, with what it needs and no more: who takes over one process has what that process had, and not all
-- of the database. `rivulet migrate` gives them their passwords. Until then nobody logs in as them, but other logins may be
-- made members of them. rivulet_boards and rivulet_auditor are older (0013, 0019).
--
-- None of them owns anything. What only the owner of a table may do, to make and drop partitions and to write a file anew,
-- they do by the functions below, which do that and nothing else.
--
-- Partitions have no grants, but where they are read by their own name. A later migration that makes a table grants it and
-- says so in migrations/src/logins.rs: a test compares every table with that.

-- Roles belong to the whole cluster: another database, or another node at this moment, may have them.
DO $$
DECLARE
    role text;
BEGIN
    FOREACH role IN ARRAY ARRAY['rivulet_ingest', 'rivulet_aggregate', 'rivulet_sink', 'rivulet_api', 'rivulet_operator']
    LOOP
        BEGIN
            IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) THEN
                -- The API takes a parent's role for a transaction, and has nothing of it otherwise.
                EXECUTE format('CREATE ROLE %I NOLOGIN %s', role,
                               CASE role WHEN 'rivulet_api' THEN 'NOINHERIT' ELSE '' END);
            END IF;
        EXCEPTION
            WHEN duplicate_object OR unique_violation THEN NULL;
            WHEN insufficient_privilege THEN
                RAISE EXCEPTION '% may not make the role %: have somebody who may make the roles that '
                    'docs/production.md names, and run `rivulet migrate` again', current_user, role
                    USING ERRCODE = 'insufficient_privilege';
        END;
    END LOOP;
    BEGIN
        IF NOT pg_has_role('rivulet_api', 'rivulet_parent', 'MEMBER') THEN
            GRANT rivulet_parent TO rivulet_api;
        END IF;
    EXCEPTION
        WHEN unique_violation THEN NULL;
        WHEN insufficient_privilege THEN
            RAISE EXCEPTION '% may not make rivulet_api a member of rivulet_parent: have somebody who may do '
                'GRANT rivulet_parent TO rivulet_api, and run `rivulet migrate` again', current_user
                USING ERRCODE = 'insufficient_privilege';
    END;
END
$$;

-- As it is in databases that PostgreSQL 15 and later made.
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO rivulet_ingest, rivulet_aggregate, rivulet_sink, rivulet_api, rivulet_operator;

-- The registry.
GRANT SELECT ON parents, children, consent_changes, api_keys TO rivulet_ingest, rivulet_api, rivulet_operator;
GRANT INSERT, UPDATE ON parents, children TO rivulet_ingest, rivulet_operator;
GRANT DELETE ON parents, children, consent_changes TO rivulet_operator;
GRANT INSERT, UPDATE ON api_keys TO rivulet_operator;
CREATE POLICY logins ON children TO rivulet_ingest, rivulet_api, rivulet_operator USING (true);

-- Where consumers are, and their books: a consumer has its own.
ALTER TABLE kafka_positions ENABLE ROW LEVEL SECURITY;
ALTER TABLE consumer_ledger ENABLE ROW LEVEL SECURITY;
GRANT SELECT, INSERT, UPDATE ON kafka_positions TO rivulet_aggregate, rivulet_sink;
GRANT SELECT, UPDATE ON kafka_positions TO rivulet_operator;
GRANT SELECT, INSERT, UPDATE, DELETE ON consumer_ledger TO rivulet_aggregate, rivulet_sink;
GRANT SELECT, DELETE ON consumer_ledger TO rivulet_operator;
CREATE POLICY aggregator ON kafka_positions TO rivulet_aggregate USING (consumer = 'aggregator');
CREATE POLICY history ON kafka_positions TO rivulet_sink USING (consumer = 'history');
CREATE POLICY logins ON kafka_positions TO rivulet_operator USING (true);
CREATE POLICY aggregator ON consumer_ledger TO rivulet_aggregate USING (consumer = 'aggregator');
CREATE POLICY history ON consumer_ledger TO rivulet_sink USING (consumer = 'history');
CREATE POLICY logins ON consumer_ledger TO rivulet_operator USING (true);

-- A consumer sets records aside and never sees them again. The one column is what locking a row asks for.
GRANT INSERT ON quarantine TO rivulet_aggregate, rivulet_sink;
GRANT SELECT, UPDATE (quarantined_at), DELETE ON quarantine TO rivulet_operator;
GRANT SELECT, INSERT, UPDATE, DELETE ON quarantine_actions TO rivulet_operator;
GRANT SELECT, INSERT, UPDATE, DELETE ON quarantine_pauses TO rivulet_aggregate, rivulet_sink;
GRANT SELECT, UPDATE ON quarantine_pauses TO rivulet_operator;
CREATE POLICY aggregator ON quarantine FOR INSERT TO rivulet_aggregate WITH CHECK (consumer = 'aggregator');
CREATE POLICY history ON quarantine FOR INSERT TO rivulet_sink WITH CHECK (consumer = 'history');
CREATE POLICY logins ON quarantine TO rivulet_operator USING (true);
CREATE POLICY logins ON quarantine_actions TO rivulet_operator USING (true);
CREATE POLICY aggregator ON quarantine_pauses TO rivulet_aggregate USING (consumer = 'aggregator');
CREATE POLICY history ON quarantine_pauses TO rivulet_sink USING (consumer = 'history');
CREATE POLICY logins ON quarantine_pauses TO rivulet_operator USING (true);

-- What the consumers remember of events.
GRANT SELECT, INSERT ON event_seen TO rivulet_aggregate;
GRANT SELECT, DELETE ON event_seen_19700101 TO rivulet_aggregate;
GRANT SELECT ON event_seen TO rivulet_operator;
GRANT SELECT, INSERT, DELETE ON withheld_seen TO rivulet_sink;
GRANT SELECT, DELETE ON withheld_seen TO rivulet_operator;
CREATE POLICY logins ON event_seen TO rivulet_aggregate, rivulet_operator USING (true);
CREATE POLICY logins ON event_seen_19700101 TO rivulet_aggregate USING (true);
CREATE POLICY logins ON withheld_seen TO rivulet_sink, rivulet_operator USING (true);

-- The rollups. An operator puts recounts in their place, and erases.
GRANT SELECT, INSERT, UPDATE, DELETE ON daily_child_metrics, learning_analytics, topic_progress, streaks
    TO rivulet_aggregate;
GRANT SELECT, INSERT, DELETE ON daily_child_metrics, learning_analytics, topic_progress, streaks TO rivulet_operator;
GRANT SELECT ON daily_child_metrics, learning_analytics, topic_progress, streaks, learning_metrics, weekly_summaries
    TO rivulet_api;
CREATE POLICY logins ON daily_child_metrics TO rivulet_aggregate, rivulet_api, rivulet_operator USING (true);
CREATE POLICY logins ON learning_analytics TO rivulet_aggregate, rivulet_api, rivulet_operator USING (true);
CREATE POLICY logins ON topic_progress TO rivulet_aggregate, rivulet_api, rivulet_operator USING (true);
CREATE POLICY logins ON streaks TO rivulet_aggregate, rivulet_api, rivulet_operator USING (true);

-- Erasures: ingest takes requests and searches its spill, an operator carries them on. The sink tells how old the oldest is.
GRANT SELECT ON tombstones
    TO rivulet_ingest, rivulet_aggregate, rivulet_sink, rivulet_api, rivulet_operator;
GRANT INSERT ON tombstones TO rivulet_ingest, rivulet_operator;
GRANT UPDATE (is_logged) ON tombstones TO rivulet_operator;
GRANT SELECT, INSERT ON erasures, erasure_stores TO rivulet_ingest, rivulet_operator;
GRANT UPDATE (removed) ON erasure_stores TO rivulet_ingest;
GRANT UPDATE, DELETE ON erasures, erasure_stores TO rivulet_operator;
GRANT SELECT (state, requested_at) ON erasures TO rivulet_sink;
GRANT INSERT ON erasure_subjects TO rivulet_ingest;
GRANT SELECT, INSERT, DELETE ON erasure_subjects, erasure_rewrites TO rivulet_operator;
GRANT SELECT, INSERT, UPDATE ON spills TO rivulet_ingest;
GRANT SELECT, DELETE ON spills TO rivulet_operator;
CREATE POLICY logins ON tombstones
    TO rivulet_ingest, rivulet_aggregate, rivulet_sink, rivulet_api, rivulet_operator USING (true);
CREATE POLICY logins ON erasures TO rivulet_ingest, rivulet_sink, rivulet_operator USING (true);
CREATE POLICY logins ON erasure_stores TO rivulet_ingest, rivulet_operator USING (true);
CREATE POLICY logins ON erasure_subjects TO rivulet_ingest, rivulet_operator USING (true);
CREATE POLICY logins ON erasure_rewrites TO rivulet_operator USING (true);
CREATE POLICY logins ON spills TO rivulet_ingest, rivulet_operator USING (true);

-- How long what is kept is for migrations to say; who deletes notes how far it came.
GRANT SELECT ON retention_periods, _sqlx_migrations
    TO rivulet_ingest, rivulet_aggregate, rivulet_sink, rivulet_api, rivulet_operator;
GRANT UPDATE (swept_until) ON retention_periods TO rivulet_aggregate, rivulet_operator;
CREATE POLICY logins ON retention_periods
    TO rivulet_ingest, rivulet_aggregate, rivulet_sink, rivulet_api, rivulet_operator USING (true);

-- The audit log, of those who write it.
GRANT INSERT ON audit_intake TO rivulet_ingest, rivulet_api, rivulet_operator;
GRANT SELECT ON audit_head TO rivulet_ingest, rivulet_api, rivulet_operator;
CREATE POLICY logins ON audit_intake FOR INSERT TO rivulet_ingest, rivulet_api, rivulet_operator WITH CHECK (true);
CREATE POLICY logins ON audit_head FOR SELECT TO rivulet_ingest, rivulet_api, rivulet_operator USING (true);

-- Makes the partition that holds a day, where there is none yet: a day of event_seen, a month of the two others. It is made
-- beside its parent and then attached: unlike CREATE TABLE … PARTITION OF, that does not wait for the parent's readers and
-- writers, nor make them wait. Row-level security without a policy is a second lock on it (0006).
CREATE FUNCTION make_partition(parent text, day date) RETURNS void LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    first   date := date_trunc('month', day::timestamp);
    part    text := parent || '_' || to_char(day, 'YYYYMM');
    options text := '';
    bounds  text;
BEGIN
    IF parent = 'event_seen' THEN
        part := parent || '_' || to_char(day, 'YYYYMMDD');
        bounds := format('IN (%L)', day);
    ELSIF parent IN ('daily_child_metrics', 'learning_analytics') THEN
        bounds := format('FROM (%L) TO (%L)', first, (first + interval '1 month')::date);
        -- Free room on a page keeps an updated row on that page, so that no index has to change.
        options := 'WITH (fillfactor = 75)';
    ELSE
        RAISE EXCEPTION 'no partition of % is made here', parent;
    END IF;
    -- Held by whoever makes or drops partitions, so that two instances do not make the same one.
    PERFORM pg_advisory_xact_lock(hashtextextended('rivulet.partitions', 0));
    IF NOT EXISTS (SELECT FROM pg_inherits WHERE inhrelid = to_regclass(part)) THEN
        EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL) %s', part, parent, options);
        IF parent = 'event_seen' THEN
            EXECUTE format('CREATE UNIQUE INDEX %I ON %I (key)', part || '_key', part);
        END IF;
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', part);
        EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES %s', parent, part, bounds);
    END IF;
    -- Days are read by their own name, because through the parent every day would be planned for. A release from before
    -- these logins may have made this one.
    IF parent = 'event_seen' AND NOT has_table_privilege('rivulet_aggregate', part, 'SELECT') THEN
        EXECUTE format('GRANT SELECT ON %I TO rivulet_aggregate', part);
        EXECUTE format('CREATE POLICY logins ON %I TO rivulet_aggregate USING (true)', part);
    END IF;
END
$$;

SELECT make_partition('event_seen', to_date(right(relname, 8), 'YYYYMMDD'))
FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
WHERE inhparent = 'event_seen'::regclass AND relname <> 'event_seen_19700101';

-- Drops the days of event_seen before `until`, but the one of reset clocks, and says how many. What arrived on `until` or
-- later, long after its id-day, is remembered with those of reset clocks.
CREATE FUNCTION drop_seen_before(until date) RETURNS bigint LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    parts text[];
    part  text;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('rivulet.partitions', 0));
    SELECT coalesce(array_agg(relname::text ORDER BY relname), '{}') INTO parts
    FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
    WHERE inhparent = 'event_seen'::regclass AND relname < 'event_seen_' || to_char(until, 'YYYYMMDD')
        AND relname <> 'event_seen_19700101';
    FOREACH part IN ARRAY parts LOOP
        -- Nobody adds to it between the move and the drop.
        EXECUTE format('LOCK TABLE %I IN ACCESS EXCLUSIVE MODE', part);
        EXECUTE format('INSERT INTO event_seen_19700101 (day, seen_on, key)
                            SELECT ''1970-01-01'', seen_on, key FROM %I WHERE seen_on >= $1
                            ON CONFLICT (key) DO NOTHING', part) USING until;
        EXECUTE format('DROP TABLE %I', part);
    END LOOP;
    RETURN cardinality(parts);
END
$$;

-- Drops the oldest month of a rollup that ends on or before `cut`, and says whether there was one.
CREATE FUNCTION drop_month_before(parent text, cut date) RETURNS boolean LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    part text;
BEGIN
    IF parent NOT IN ('daily_child_metrics', 'learning_analytics') THEN
        RAISE EXCEPTION 'no month of % is dropped here', parent;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('rivulet.partitions', 0));
    SELECT name INTO part FROM partitions_before(parent, cut) ORDER BY ends LIMIT 1;
    IF part IS NULL THEN
        RETURN false;
    END IF;
    -- A regclass as text: quoted where it must be.
    EXECUTE 'DROP TABLE ' || part;
    RETURN true;
END
$$;

-- Writes the file of a table anew, of which an erasure has noted that it still has what was deleted. VACUUM (FULL), which
-- the owner uses, cannot run in a function. CLUSTER leaves out the same rows, and sorts the others by the key.
CREATE FUNCTION rewrite_erased(wanted regclass) RETURNS void LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    key name;
BEGIN
    IF NOT EXISTS (SELECT FROM erasure_rewrites WHERE relation = wanted) THEN
        RAISE EXCEPTION 'no erasure has noted % to be written anew', wanted;
    END IF;
    SELECT relname INTO STRICT key FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
    WHERE indrelid = wanted AND indisprimary;
    EXECUTE format('CLUSTER %s USING %I', wanted, key);
    EXECUTE format('ALTER TABLE %s SET WITHOUT CLUSTER', wanted);
END
$$;

-- Drops a month of the audit log that is as old as retention.toml lets it be, and no younger one.
CREATE FUNCTION audit_expire_month(month date) RETURNS bigint LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    IF (month + interval '1 month')::date > (audit_now() AT TIME ZONE 'UTC')::date
            - (SELECT days FROM retention_periods WHERE class = 'audit') THEN
        RAISE EXCEPTION 'the month % of the audit log is not as old as it is kept for', month;
    END IF;
    RETURN audit_drop_month(month);
END
$$;

REVOKE EXECUTE ON FUNCTION make_partition(text, date), drop_seen_before(date), drop_month_before(text, date),
    rewrite_erased(regclass), audit_expire_month(date) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION make_partition(text, date) TO rivulet_aggregate, rivulet_operator;
GRANT EXECUTE ON FUNCTION drop_seen_before(date), drop_month_before(text, date) TO rivulet_aggregate;
GRANT EXECUTE ON FUNCTION rewrite_erased(regclass), audit_expire_month(date) TO rivulet_operator;
