-- Consent with evidence: which version of the text a parent was shown, and how consent was given, beside whether and
-- when. What was registered before has version NULL and method `other`.

ALTER TABLE parents
    ADD COLUMN coppa_version     text,
    ADD COLUMN coppa_method      text NOT NULL DEFAULT 'other',
    ADD COLUMN audio_version     text,
    ADD COLUMN audio_method      text NOT NULL DEFAULT 'other',
    ADD COLUMN analytics_version text,
    ADD COLUMN analytics_method  text NOT NULL DEFAULT 'other';

-- The trigger below copies `parents` into this table with each change: what is checked here is checked there.
ALTER TABLE consent_changes
    ADD COLUMN version text CHECK (version ~ '^[A-Za-z0-9._+:/-]{1,64}$'),
    -- How consent was given: the methods of 16 CFR 312.5(b)(2).
    ADD COLUMN method  text NOT NULL DEFAULT 'other'
        CHECK (method IN ('form', 'card', 'id', 'knowledge', 'text-plus', 'other'));

-- Ids of one parent rise in the order in which its changes took effect, because each has the parent's row locked: also
-- where the clock was put back. The history is read in this order.
CREATE INDEX consent_changes_of_parent ON consent_changes (parent_id, id);
DROP INDEX consent_changes_parent;

-- With the rights of its owner: nobody who changes parents need be able to write the history by themselves.
CREATE OR REPLACE FUNCTION record_consent_changes() RETURNS trigger LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    INSERT INTO consent_changes (parent_id, consent, granted, version, method, changed_at)
    SELECT NEW.id, c.consent, c.granted, c.version, c.method, clock_timestamp()
    FROM (VALUES
        ('coppa', NEW.coppa, NEW.coppa_version, NEW.coppa_method,
            OLD.coppa, OLD.coppa_version, OLD.coppa_method),
        ('audio', NEW.audio, NEW.audio_version, NEW.audio_method,
            OLD.audio, OLD.audio_version, OLD.audio_method),
        ('analytics', NEW.analytics, NEW.analytics_version, NEW.analytics_method,
            OLD.analytics, OLD.analytics_version, OLD.analytics_method)
    ) AS c (consent, granted, version, method, was_granted, was_version, was_method)
    -- OLD is NULL where the parent is new.
    WHERE (c.granted, c.version, c.method)
        IS DISTINCT FROM (coalesce(c.was_granted, false), c.was_version, coalesce(c.was_method, 'other'));
    RETURN NULL;
END $$;

DROP TRIGGER parents_consent_changes ON parents;
CREATE TRIGGER parents_consent_changes AFTER INSERT OR UPDATE OF
        coppa, coppa_version, coppa_method, audio, audio_version, audio_method,
        analytics, analytics_version, analytics_method ON parents
    FOR EACH ROW EXECUTE FUNCTION record_consent_changes();

-- What ingest nodes hold of a parent has the versions that go into records.
DROP TRIGGER parents_notify ON parents;
CREATE TRIGGER parents_notify AFTER UPDATE ON parents
    FOR EACH ROW
    WHEN ((OLD.timezone, OLD.coppa, OLD.audio, OLD.analytics, OLD.coppa_version, OLD.audio_version, OLD.streaks,
           OLD.deleted_at)
        IS DISTINCT FROM
          (NEW.timezone, NEW.coppa, NEW.audio, NEW.analytics, NEW.coppa_version, NEW.audio_version, NEW.streaks,
           NEW.deleted_at))
    EXECUTE FUNCTION notify_children_of_parent();

-- The history only grows. What is of a parent who was erased goes: its tombstone is there before. So does what is of one
-- who was deleted, years later (retention.toml).
CREATE FUNCTION keep_consent_changes() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' AND EXISTS (
        SELECT FROM tombstones WHERE sha256 = tombstone_hash(OLD.parent_id) AND kind = 'parent'
        UNION ALL SELECT FROM parents WHERE id = OLD.parent_id AND deleted_at IS NOT NULL
    ) THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'consent_changes only grows: it is the evidence of what parents allowed'
        USING ERRCODE = 'insufficient_privilege',
              HINT = 'A consent changes with its parent, and a new row tells of it. Only an erasure and the retention remove rows.';
END $$;

CREATE TRIGGER consent_changes_kept BEFORE UPDATE OR DELETE ON consent_changes
    FOR EACH ROW EXECUTE FUNCTION keep_consent_changes();
CREATE TRIGGER consent_changes_not_emptied BEFORE TRUNCATE ON consent_changes
    FOR EACH STATEMENT EXECUTE FUNCTION keep_consent_changes();

REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON consent_changes FROM PUBLIC;
