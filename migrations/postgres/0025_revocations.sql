-- A consent that is withdrawn: what is on its way is not stored any more, and what was stored goes, or stays, as
-- retention.toml says. docs/privacy.md tells the whole.

-- The number of the newest change below, and what becomes of what was stored (`on_revoke`).
CREATE TABLE revocation_state (
    is_only   boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    number    bigint NOT NULL DEFAULT 0,
    on_revoke text NOT NULL DEFAULT 'erase' CHECK (on_revoke IN ('erase', 'keep'))
) WITH (fillfactor = 10);
INSERT INTO revocation_state DEFAULT VALUES;

-- How often a consent to what a child does was given again after it had been withdrawn. Each record carries it, so
-- consumers tell what was taken before from what was taken after, whatever the clocks say.
ALTER TABLE children ADD COLUMN consent_epoch bigint NOT NULL DEFAULT 0;

-- Which consent was withdrawn of which child, from when and until when.
CREATE TABLE revocations (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    child_id       uuid NOT NULL,
    consent        text NOT NULL CHECK (consent IN ('coppa', 'audio', 'analytics')),
    erases         boolean NOT NULL,
    revoked_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- Numbers rise in the order of commits: a reader that has seen one has seen all below it.
    number         bigint,
    -- The same of the end. Records of this epoch and later ones were taken after it.
    granted_at     timestamptz,
    granted_epoch  bigint,
    granted_number bigint,
    -- When nothing of it was left.
    postgres_at    timestamptz,
    clickhouse_at  timestamptz
);
CREATE UNIQUE INDEX revocations_open ON revocations (child_id, consent) WHERE granted_at IS NULL;
CREATE INDEX revocations_of_child ON revocations (child_id);
CREATE INDEX revocations_number ON revocations (number);
CREATE INDEX revocations_granted_number ON revocations (granted_number);
CREATE INDEX revocations_to_erase ON revocations (id) WHERE erases AND (postgres_at IS NULL OR clickhouse_at IS NULL);
-- As 0017 says.
ALTER TABLE revocations ALTER COLUMN child_id SET STATISTICS 0;

ALTER TABLE revocation_state ENABLE ROW LEVEL SECURITY;
ALTER TABLE revocations ENABLE ROW LEVEL SECURITY;

-- A range that is begun is formed again without those, and only those, that were withdrawn when it was begun.
ALTER TABLE kafka_positions ADD COLUMN pending_revocation bigint;
ALTER TABLE consumer_ledger ADD COLUMN revoked bigint NOT NULL DEFAULT 0;  -- dropped, because a consent was withdrawn

-- What of a day's row is of speech, so that it can be taken out of the row. Of days before this it is not known: there
-- the times stay, and as many qualifying events are taken for speech as can have been.
ALTER TABLE daily_child_metrics
    ADD COLUMN speech_qualifying_events bigint NOT NULL DEFAULT 0,
    ADD COLUMN speech_withheld_events   bigint NOT NULL DEFAULT 0,
    ADD COLUMN other_first_event_at     timestamptz,
    ADD COLUMN other_last_event_at      timestamptz;
UPDATE daily_child_metrics SET
    speech_qualifying_events = least(speech_windows, qualifying_events
        - (starts + answers + hints + skips + completions + messages_sent)),
    speech_withheld_events = CASE WHEN withheld_events = events THEN speech_windows ELSE least(speech_windows, withheld_events) END,
    other_first_event_at = CASE WHEN events > speech_windows THEN first_event_at END,
    other_last_event_at = CASE WHEN events > speech_windows THEN last_event_at END;

-- Gives a change its number when its transaction commits: after all that a client does, so nobody waits for a client.
-- The end of the audit log is locked first, as by every transaction that changes a consent.
CREATE FUNCTION number_revocation() RETURNS trigger LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    next bigint;
BEGIN
    PERFORM FROM audit_head FOR UPDATE;
    -- The time in microseconds, or more: larger than any that was given before PostgreSQL was put back.
    UPDATE revocation_state
    SET number = greatest(number + 1, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)
    RETURNING number INTO next;
    UPDATE revocations
    SET number = coalesce(number, next),
        granted_number = CASE WHEN granted_at IS NOT NULL THEN next END
    WHERE id = NEW.id;
    RETURN NULL;
END $$;

CREATE CONSTRAINT TRIGGER revocations_number AFTER INSERT OR UPDATE OF granted_at ON revocations
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION number_revocation();

-- Ends what was withdrawn of a child. What was stored before is to be gone by then: a row of sums that has both cannot be
-- told apart (settle_revocations).
CREATE FUNCTION end_revocations(child uuid, epoch bigint, coppa boolean, audio boolean, analytics boolean)
RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    ended bigint;
BEGIN
    IF EXISTS (SELECT FROM revocations
               WHERE child_id = child AND granted_at IS NULL AND erases AND postgres_at IS NULL
                 AND CASE consent WHEN 'coppa' THEN coppa WHEN 'audio' THEN audio ELSE analytics END) THEN
        RAISE EXCEPTION 'what was stored on the consent before it was withdrawn is still being erased'
            USING ERRCODE = 'object_in_use', HINT = 'Try again in a moment.';
    END IF;
    UPDATE revocations SET granted_at = clock_timestamp(), granted_epoch = epoch + 1
    WHERE child_id = child AND granted_at IS NULL
      AND CASE consent WHEN 'coppa' THEN coppa WHEN 'audio' THEN audio ELSE analytics END;
    GET DIAGNOSTICS ended = ROW_COUNT;
    RETURN epoch + least(ended, 1);
END $$;

CREATE FUNCTION revoke_or_grant() RETURNS trigger LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    INSERT INTO revocations (child_id, consent, erases)
    SELECT children.id, c.consent, state.on_revoke = 'erase'
    FROM children CROSS JOIN revocation_state AS state CROSS JOIN (VALUES
        ('coppa', OLD.coppa AND NOT NEW.coppa),
        ('audio', OLD.audio AND NOT NEW.audio),
        ('analytics', OLD.analytics AND NOT NEW.analytics)
    ) AS c (consent, is_withdrawn)
    WHERE children.parent_id = NEW.id AND c.is_withdrawn
    ORDER BY children.id
    ON CONFLICT DO NOTHING;
    UPDATE children SET consent_epoch = end_revocations(id, consent_epoch, NEW.coppa, NEW.audio, NEW.analytics)
    WHERE parent_id = NEW.id
      AND EXISTS (SELECT FROM revocations r WHERE r.child_id = children.id AND r.granted_at IS NULL
                    AND CASE r.consent WHEN 'coppa' THEN NEW.coppa WHEN 'audio' THEN NEW.audio ELSE NEW.analytics END);
    RETURN NULL;
END $$;

CREATE TRIGGER parents_revocations AFTER UPDATE OF coppa, audio, analytics ON parents
    FOR EACH ROW WHEN ((OLD.coppa, OLD.audio, OLD.analytics) IS DISTINCT FROM (NEW.coppa, NEW.audio, NEW.analytics))
    EXECUTE FUNCTION revoke_or_grant();

-- A child that moves is under the consents of its new parent.
CREATE FUNCTION end_revocations_of_moved() RETURNS trigger LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    SELECT end_revocations(NEW.id, NEW.consent_epoch, coppa, audio, analytics) INTO NEW.consent_epoch
    FROM parents WHERE id = NEW.parent_id;
    RETURN NEW;
END $$;

-- After children_hold_parent, by the alphabet: the parent is locked.
CREATE TRIGGER children_moved BEFORE UPDATE OF parent_id ON children
    FOR EACH ROW WHEN (OLD.parent_id <> NEW.parent_id) EXECUTE FUNCTION end_revocations_of_moved();

-- Erases from the rollups what was stored of a child on consents that were withdrawn, and returns the days whose rows
-- changed. To be called when every transaction has ended that may not have seen the withdrawal
-- (registry/src/revocations.rs). One child a transaction, and tables in the aggregator's order: no deadlocks.
CREATE FUNCTION settle_revocations(child uuid) RETURNS SETOF date LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    due     text[];
    changed date[];
BEGIN
    PERFORM FROM revocations WHERE child_id = child AND erases AND postgres_at IS NULL ORDER BY id FOR UPDATE;
    SELECT array_agg(consent) INTO due FROM revocations
    WHERE child_id = child AND erases AND postgres_at IS NULL AND number IS NOT NULL;
    IF due IS NULL THEN
        RETURN;
    END IF;
    SELECT array_agg(local_date) INTO changed FROM (
        SELECT local_date FROM daily_child_metrics
        WHERE child_id = child AND (speech_windows > 0 OR due <> '{audio}') ORDER BY local_date FOR UPDATE
    ) AS days;
    IF 'coppa' = ANY(due) THEN
        DELETE FROM daily_child_metrics WHERE child_id = child;
        DELETE FROM learning_analytics WHERE child_id = child;
        DELETE FROM topic_progress WHERE child_id = child;
        DELETE FROM streaks WHERE child_id = child;
    ELSE
        IF 'audio' = ANY(due) THEN
            DELETE FROM daily_child_metrics WHERE child_id = child AND speech_windows = events;
            UPDATE daily_child_metrics SET
                events = events - speech_windows,
                qualifying_events = qualifying_events - speech_qualifying_events,
                withheld_events = withheld_events - speech_withheld_events,
                first_event_at = coalesce(other_first_event_at, first_event_at),
                last_event_at = coalesce(other_last_event_at, last_event_at),
                speech_windows = 0, speech_ms = 0, child_words = 0, adult_words = 0, conversational_turns = 0,
                child_vocalizations = 0, utterances = 0, new_words = 0, max_unique_words = NULL,
                speech_qualifying_events = 0, speech_withheld_events = 0, updated_at = now()
            WHERE child_id = child AND speech_windows > 0;
        END IF;
        -- Nothing of it is in the history any more, as if it had been withheld.
        IF 'analytics' = ANY(due) THEN
            UPDATE daily_child_metrics SET withheld_events = events, speech_withheld_events = speech_windows
            WHERE child_id = child AND withheld_events < events;
            PERFORM FROM learning_analytics WHERE child_id = child ORDER BY local_date, subject FOR UPDATE;
            UPDATE learning_analytics SET withheld_events = interactions
            WHERE child_id = child AND withheld_events < interactions;
            PERFORM FROM topic_progress WHERE child_id = child ORDER BY topic FOR UPDATE;
            UPDATE topic_progress SET withheld_events = interactions + messages
            WHERE child_id = child AND withheld_events < interactions + messages;
        END IF;
        IF 'audio' = ANY(due) THEN
            PERFORM FROM streaks WHERE child_id = child FOR UPDATE;
            WITH lost AS (
                SELECT range_agg(daterange(day, day + 1)) AS days FROM unnest(changed) AS day
                WHERE NOT EXISTS (SELECT FROM daily_child_metrics
                                  WHERE child_id = child AND local_date = day AND qualifying_events > 0)
            ), gone AS (
                DELETE FROM streaks USING lost WHERE child_id = child AND isempty(active_days - lost.days)
            )
            UPDATE streaks SET
                (current_streak, longest_streak, streak_started_on, last_active_date, freezes_available)
                    = (SELECT s.* FROM streak_of(active_days - lost.days) AS s),
                active_days = active_days - lost.days, updated_at = now()
            FROM lost WHERE child_id = child AND active_days && lost.days AND NOT isempty(active_days - lost.days);
        END IF;
    END IF;
    UPDATE revocations SET postgres_at = now()
    WHERE child_id = child AND erases AND postgres_at IS NULL AND number IS NOT NULL;
    RETURN QUERY SELECT * FROM unnest(changed);
END $$;

REVOKE EXECUTE ON FUNCTION number_revocation(), end_revocations(uuid, bigint, boolean, boolean, boolean),
    revoke_or_grant(), end_revocations_of_moved(), settle_revocations(uuid) FROM PUBLIC;
