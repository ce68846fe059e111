-- Who did what to whom, for years, so that nobody can take a line away unseen. docs/audit.md tells the whole.
--
-- A transaction that does something writes a row into audit_intake. When it commits, PostgreSQL itself moves the row to
-- the end of audit_log: it gives the row the next number, the time, and the SHA-256 of the row and of the one before. So
-- a change and its row are committed together or not at all, and who else wants to append waits for that commit alone,
-- never for a client.

-- The end of the log. Whoever appends holds this row until the commit is through, so numbers have no gaps and rise with
-- the time.
CREATE TABLE audit_head (
    is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    seq     bigint NOT NULL,
    at      timestamptz NOT NULL,
    hash    bytea NOT NULL CHECK (octet_length(hash) = 32)
) WITH (fillfactor = 10);

INSERT INTO audit_head (seq, at, hash) VALUES (0, now(), decode(repeat('00', 32), 'hex'));

-- What a transaction has to say, until it commits. Empty otherwise.
CREATE TABLE audit_intake (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    transaction  xid8 NOT NULL DEFAULT pg_current_xact_id(),
    action       text NOT NULL CHECK (action ~ '^[a-z_.]{1,40}$'),
    outcome      text NOT NULL CHECK (outcome IN ('done', 'refused', 'failed')),
    actor_kind   text NOT NULL CHECK (actor_kind IN ('key', 'token', 'user', 'unknown')),
    actor        text CHECK (octet_length(actor) <= 800),
    subject_kind text CHECK (octet_length(subject_kind) <= 40),
    subjects     text[] NOT NULL DEFAULT '{}' CHECK (cardinality(subjects) <= 500),
    times        bigint NOT NULL DEFAULT 1 CHECK (times > 0),
    first_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    request_id   text CHECK (octet_length(request_id) <= 200),
    details      json NOT NULL DEFAULT '{}' CHECK (octet_length(details::text) <= 16384)
);

CREATE TABLE audit_log (
    seq          bigint NOT NULL,       -- 1, 2, 3, … without gaps
    at           timestamptz NOT NULL,  -- when it was committed, by PostgreSQL's clock; never before the row before
    action       text NOT NULL,
    outcome      text NOT NULL,         -- done, refused, failed
    actor_kind   text NOT NULL,         -- key, token, user (of the operating system), unknown
    actor        text,                  -- the key's name, the SHA-256 of the token's subject, the user's name
    subject_kind text,
    subjects     text[] NOT NULL,       -- of a child or parent the SHA-256 of the id, as in tombstones
    times        bigint NOT NULL,       -- how often, where a row stands for several
    first_at     timestamptz NOT NULL,
    last_at      timestamptz NOT NULL,
    request_id   text,
    details      json NOT NULL,
    login        text NOT NULL,         -- PostgreSQL's login that wrote it
    previous     bytea NOT NULL,        -- the hash of the row before; 32 zero bytes of the first
    hash         bytea NOT NULL,
    PRIMARY KEY (seq, at)
) PARTITION BY RANGE (at);

CREATE INDEX audit_log_at ON audit_log (at);
CREATE INDEX audit_log_subjects ON audit_log USING gin (subjects);

-- The clock of the log, for tests that move it.
CREATE FUNCTION audit_now() RETURNS timestamptz LANGUAGE sql VOLATILE AS 'SELECT clock_timestamp()';

-- A field of what is hashed: its length in bytes, a colon and the field; `~` for NULL. So no two rows give the same text.
CREATE FUNCTION audit_field(field text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT coalesce(octet_length(field)::text || ':' || field, '~')
$$;

CREATE FUNCTION audit_micros(at timestamptz) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT (extract(epoch FROM at) * 1000000)::bigint::text
$$;

-- The hash of a row. auditlog/src/row.rs says the same in Rust, and `rivulet audit verify` asks only that.
CREATE FUNCTION audit_hash(r audit_log) RETURNS bytea LANGUAGE plpgsql STABLE SET search_path = public, pg_temp AS $$
DECLARE
    subjects text := '';
    subject  text;
BEGIN
    FOREACH subject IN ARRAY r.subjects LOOP
        subjects := subjects || audit_field(subject);
    END LOOP;
    RETURN sha256(r.previous || convert_to(
        audit_field(r.seq::text) || audit_field(audit_micros(r.at)) || audit_field(r.action)
        || audit_field(r.outcome) || audit_field(r.actor_kind) || audit_field(r.actor) || audit_field(r.subject_kind)
        || audit_field(subjects) || audit_field(r.times::text) || audit_field(audit_micros(r.first_at))
        || audit_field(audit_micros(r.last_at)) || audit_field(r.request_id) || audit_field(r.details::text)
        || audit_field(r.login), 'UTF8'));
END
$$;

-- Makes the month's partition where there is none yet.
CREATE FUNCTION audit_month(at timestamptz) RETURNS void LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    first timestamp := date_trunc('month', at AT TIME ZONE 'UTC');
    name  text := 'audit_log_' || to_char(first, 'YYYYMM');
BEGIN
    IF to_regclass('public.' || name) IS NOT NULL THEN
        RETURN;
    END IF;
    EXECUTE format('CREATE TABLE %I (LIKE audit_log INCLUDING ALL)', name);
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
    EXECUTE format('ALTER TABLE audit_log ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', name,
                   first AT TIME ZONE 'UTC', (first + interval '1 month') AT TIME ZONE 'UTC');
    EXECUTE format('CREATE TRIGGER nothing_goes BEFORE TRUNCATE ON %I EXECUTE FUNCTION audit_refuse()', name);
END
$$;

-- Appends what the transaction has put into the intake. It runs when the transaction commits, after all that a client
-- does: for its first row it takes all of them, so that the head moves once.
CREATE FUNCTION audit_append() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    head  audit_head;
    entry audit_intake;
    row_  audit_log;
BEGIN
    PERFORM FROM audit_intake WHERE id = NEW.id;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    SELECT * INTO STRICT head FROM audit_head FOR UPDATE;
    head.at := greatest(audit_now(), head.at);
    PERFORM audit_month(head.at);
    FOR entry IN SELECT * FROM audit_intake WHERE id >= NEW.id AND transaction = pg_current_xact_id() ORDER BY id LOOP
        row_ := ROW (head.seq + 1, head.at, entry.action, entry.outcome, entry.actor_kind, entry.actor,
                     entry.subject_kind, entry.subjects, entry.times, entry.first_at, entry.last_at, entry.request_id,
                     entry.details, session_user, head.hash, NULL);
        row_.hash := audit_hash(row_);
        INSERT INTO audit_log SELECT row_.*;
        head.seq := row_.seq;
        head.hash := row_.hash;
    END LOOP;
    UPDATE audit_head SET seq = head.seq, at = head.at, hash = head.hash;
    DELETE FROM audit_intake WHERE id >= NEW.id AND transaction = pg_current_xact_id();
    RETURN NULL;
END
$$;

CREATE CONSTRAINT TRIGGER append AFTER INSERT ON audit_intake DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION audit_append();

-- What is written stays as it was written. The owner of a table can switch a trigger off: what that hides,
-- `rivulet audit verify` finds.
CREATE FUNCTION audit_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- audit_append() alone may do this: it is a trigger itself.
    IF TG_ARGV[0] = 'but the chain' AND pg_trigger_depth() > 1 THEN
        RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
    END IF;
    RAISE EXCEPTION 'the audit log is append-only: % of % is refused', TG_OP, TG_TABLE_NAME
        USING HINT = 'Write to audit_intake. Old months go by `SELECT audit_drop_month(…)`.', ERRCODE = '42501';
END
$$;

CREATE TRIGGER nothing_changes BEFORE UPDATE OR DELETE ON audit_log FOR EACH ROW EXECUTE FUNCTION audit_refuse();
CREATE TRIGGER only_the_chain BEFORE INSERT ON audit_log FOR EACH ROW EXECUTE FUNCTION audit_refuse('but the chain');
CREATE TRIGGER nothing_goes BEFORE TRUNCATE ON audit_log EXECUTE FUNCTION audit_refuse();
CREATE TRIGGER only_the_chain BEFORE UPDATE ON audit_head FOR EACH ROW EXECUTE FUNCTION audit_refuse('but the chain');
CREATE TRIGGER nothing_changes BEFORE INSERT OR DELETE ON audit_head FOR EACH ROW EXECUTE FUNCTION audit_refuse();
CREATE TRIGGER nothing_goes BEFORE TRUNCATE ON audit_head EXECUTE FUNCTION audit_refuse();
CREATE TRIGGER only_the_chain BEFORE DELETE ON audit_intake FOR EACH ROW EXECUTE FUNCTION audit_refuse('but the chain');
CREATE TRIGGER nothing_changes BEFORE UPDATE ON audit_intake FOR EACH ROW EXECUTE FUNCTION audit_refuse();
CREATE TRIGGER nothing_goes BEFORE TRUNCATE ON audit_intake EXECUTE FUNCTION audit_refuse();

-- Drops the oldest month, and leaves a row that says which rows are gone and what the hash of the last one was: `verify`
-- goes on from there. Only the oldest, and never the month that is being written. For whoever owns the table.
CREATE FUNCTION audit_drop_month(month date) RETURNS bigint LANGUAGE plpgsql
    SET search_path = public, pg_temp SET lock_timeout = '2s' AS $$
DECLARE
    name   text := 'audit_log_' || to_char(month, 'YYYYMM');
    oldest text;
    last   record;
    rows   bigint;
BEGIN
    PERFORM FROM audit_head FOR UPDATE;
    SELECT min(c.relname) INTO oldest FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'public.audit_log'::regclass;
    IF oldest IS DISTINCT FROM name THEN
        RAISE EXCEPTION 'the oldest month of the audit log is %, not %: months go in their order', oldest, name;
    END IF;
    IF month + interval '2 months' > audit_now() THEN
        RAISE EXCEPTION 'the month % of the audit log is still young', name;
    END IF;
    EXECUTE format('SELECT count(*) FROM %I', name) INTO rows;
    EXECUTE format('SELECT seq, hash FROM %I ORDER BY seq DESC LIMIT 1', name) INTO last;
    EXECUTE format('DROP TABLE %I', name);
    IF last.seq IS NOT NULL THEN
        INSERT INTO audit_intake (action, outcome, actor_kind, actor, subject_kind, subjects, details)
        VALUES ('audit.drop_month', 'done', 'user', session_user, 'month', ARRAY[to_char(month, 'YYYY-MM')],
                json_build_object('rows', rows, 'last_seq', last.seq, 'last_hash', encode(last.hash, 'hex')));
    END IF;
    RETURN rows;
END
$$;

-- Who writes needs these two; who reads the log for an audit, the others. As rivulet_parent: roles belong to the whole
-- cluster.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'rivulet_audited') THEN
        CREATE ROLE rivulet_audited NOLOGIN;
    END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
END
$$;
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'rivulet_auditor') THEN
        CREATE ROLE rivulet_auditor NOLOGIN;
    END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
END
$$;

ALTER TABLE audit_head ENABLE ROW LEVEL SECURITY;
ALTER TABLE audit_intake ENABLE ROW LEVEL SECURITY;
ALTER TABLE audit_log ENABLE ROW LEVEL SECURITY;
REVOKE EXECUTE ON FUNCTION audit_drop_month(date), audit_month(timestamptz), audit_append() FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO rivulet_audited, rivulet_auditor;
GRANT INSERT ON audit_intake TO rivulet_audited;
GRANT SELECT (name, sha256) ON api_keys TO rivulet_audited;
GRANT SELECT ON audit_head TO rivulet_audited, rivulet_auditor;
GRANT SELECT ON audit_log, audit_intake TO rivulet_auditor;
CREATE POLICY writes ON audit_intake FOR INSERT TO rivulet_audited WITH CHECK (true);
CREATE POLICY reads ON audit_head FOR SELECT TO rivulet_audited, rivulet_auditor USING (true);
CREATE POLICY reads ON audit_intake FOR SELECT TO rivulet_auditor USING (true);
CREATE POLICY reads ON audit_log FOR SELECT TO rivulet_auditor USING (true);
