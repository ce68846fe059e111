-- Who exists and what they consented to, and who may call the API.
--
-- Ingest nodes cache children and keys. A trigger tells them of every change with NOTIFY, which
-- PostgreSQL delivers at commit and in commit order. The registry crate says how they use it.

CREATE TABLE parents (
    id         uuid PRIMARY KEY,
    timezone   text NOT NULL,                   -- IANA name, checked by the program
    coppa      boolean NOT NULL DEFAULT false,  -- any processing at all
    audio      boolean NOT NULL DEFAULT false,  -- speech events
    analytics  boolean NOT NULL DEFAULT false,  -- history for BI
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz
);

CREATE TABLE children (
    id         uuid PRIMARY KEY,
    parent_id  uuid NOT NULL REFERENCES parents (id),
    age_group  text NOT NULL CHECK (age_group IN ('wonder_cubs', 'curious_explorers', 'mind_masters')),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz
);

CREATE INDEX children_parent ON children (parent_id);

-- Every grant and revocation with its time. A parent without a row here never granted that consent.
CREATE TABLE consent_changes (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    parent_id  uuid NOT NULL REFERENCES parents (id),
    consent    text NOT NULL CHECK (consent IN ('coppa', 'audio', 'analytics')),
    granted    boolean NOT NULL,
    changed_at timestamptz NOT NULL
);

CREATE INDEX consent_changes_parent ON consent_changes (parent_id, changed_at);

-- Only the SHA-256 of a key is here: who reads this table cannot call the API. A name is never
-- used again, so that the history of a key stays readable.
CREATE TABLE api_keys (
    name       text PRIMARY KEY,
    scope      text NOT NULL CHECK (scope IN ('ingest', 'read', 'admin')),
    sha256     bytea NOT NULL UNIQUE CHECK (octet_length(sha256) = 32),
    created_at timestamptz NOT NULL DEFAULT now(),
    revoked_at timestamptz
);

-- clock_timestamp(), not now(): the row is locked here, so two changes of one parent get their
-- times in the order in which they took effect, however long their transactions were open.
CREATE FUNCTION record_consent_changes() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO consent_changes (parent_id, consent, granted, changed_at)
    SELECT NEW.id, c.consent, c.after, clock_timestamp()
    FROM (VALUES
        ('coppa',     TG_OP = 'UPDATE' AND OLD.coppa,     NEW.coppa),
        ('audio',     TG_OP = 'UPDATE' AND OLD.audio,     NEW.audio),
        ('analytics', TG_OP = 'UPDATE' AND OLD.analytics, NEW.analytics)
    ) AS c (consent, before, after)
    WHERE c.before <> c.after;
    RETURN NULL;
END $$;

CREATE TRIGGER parents_consent_changes AFTER INSERT OR UPDATE OF coppa, audio, analytics ON parents
    FOR EACH ROW EXECUTE FUNCTION record_consent_changes();

-- A child that is being written holds its parent's row: a change of the parent waits for it and then
-- sees the child. Without this a child moving in could miss the notice of its new parent's change.
CREATE FUNCTION hold_parent() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM parents WHERE id = NEW.parent_id FOR SHARE;
    RETURN NEW;
END $$;

CREATE TRIGGER children_hold_parent BEFORE INSERT OR UPDATE ON children
    FOR EACH ROW EXECUTE FUNCTION hold_parent();

CREATE FUNCTION notify_child() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('rivulet_registry', coalesce(NEW.id, OLD.id)::text);
    RETURN NULL;
END $$;

CREATE TRIGGER children_notify AFTER INSERT OR UPDATE OR DELETE ON children
    FOR EACH ROW EXECUTE FUNCTION notify_child();

CREATE FUNCTION notify_children_of_parent() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('rivulet_registry', id::text) FROM children WHERE parent_id = NEW.id;
    RETURN NULL;
END $$;

CREATE TRIGGER parents_notify AFTER UPDATE ON parents
    FOR EACH ROW
    WHEN ((OLD.timezone, OLD.coppa, OLD.audio, OLD.analytics, OLD.deleted_at)
        IS DISTINCT FROM (NEW.timezone, NEW.coppa, NEW.audio, NEW.analytics, NEW.deleted_at))
    EXECUTE FUNCTION notify_children_of_parent();

CREATE FUNCTION notify_keys() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('rivulet_keys', '');
    RETURN NULL;
END $$;

CREATE TRIGGER api_keys_notify AFTER INSERT OR UPDATE OR DELETE ON api_keys
    FOR EACH STATEMENT EXECUTE FUNCTION notify_keys();
