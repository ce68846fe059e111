-- The right to erasure: who was erased, and how far each erasure has come. docs/privacy.md tells the whole.

-- Who was erased, for ever, and nothing but that: the SHA-256 of the id as text, from which nobody gets the id.
-- Numbers rise in the order of commits (who writes here takes turns, `erase`), so a reader that has seen a number
-- has seen all below it.
CREATE TABLE tombstones (
    number     bigint PRIMARY KEY CHECK (number > 0),
    sha256     bytea NOT NULL CHECK (octet_length(sha256) = 32),
    kind       text NOT NULL CHECK (kind IN ('child', 'parent')),
    erasure_id uuid NOT NULL,
    erased_at  timestamptz NOT NULL DEFAULT now(),
    -- A child and a parent may have the same id.
    UNIQUE (sha256, kind)
);

CREATE FUNCTION tombstone_hash(id uuid) RETURNS bytea LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT sha256(convert_to(id::text, 'UTF8'))
$$;

CREATE TABLE erasures (
    id           uuid PRIMARY KEY,
    state        text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'running', 'done')),
    requested_by text NOT NULL,
    requested_at timestamptz NOT NULL DEFAULT now(),
    done_at      timestamptz,
    subjects     bigint NOT NULL,
    -- The largest number of its tombstones.
    tombstone    bigint NOT NULL,
    -- Nobody's transaction that could have missed the tombstones can still commit.
    is_told      boolean NOT NULL DEFAULT false,
    -- What it waits for, in words; NULL while it works.
    waits_for    text,
    certificate  json
);

CREATE INDEX erasures_open ON erasures (requested_at) WHERE state <> 'done';

-- The ids, for as long as there may be something to find by them. Emptied, and the file with it, at the end.
CREATE TABLE erasure_subjects (
    erasure_id uuid NOT NULL REFERENCES erasures (id),
    kind       text NOT NULL CHECK (kind IN ('child', 'parent')),
    id         uuid NOT NULL,
    PRIMARY KEY (erasure_id, kind, id)
);

CREATE TABLE erasure_stores (
    erasure_id uuid NOT NULL REFERENCES erasures (id),
    store      text NOT NULL CHECK (store IN ('postgres', 'clickhouse', 'quarantine', 'spill', 'kafka')),
    removed    bigint NOT NULL DEFAULT 0,
    clean_at   timestamptz,
    gone_by    timestamptz,
    -- What was removed by table, and the queries that found nothing afterwards.
    proof      json,
    PRIMARY KEY (erasure_id, store)
);

-- Tables whose files still hold what was deleted of them: they are written anew.
CREATE TABLE erasure_rewrites (
    relation regclass PRIMARY KEY
);

-- The spills there are: an erasure waits until each has looked through its files.
CREATE TABLE spills (
    id        uuid PRIMARY KEY,
    host      text NOT NULL,
    directory text NOT NULL,
    seen_at   timestamptz NOT NULL DEFAULT now(),
    -- Up to which tombstone its files were searched.
    tombstone bigint NOT NULL DEFAULT 0,
    removed   bigint NOT NULL DEFAULT 0
);

ALTER TABLE tombstones ENABLE ROW LEVEL SECURITY;
ALTER TABLE erasures ENABLE ROW LEVEL SECURITY;
ALTER TABLE erasure_subjects ENABLE ROW LEVEL SECURITY;
ALTER TABLE erasure_stores ENABLE ROW LEVEL SECURITY;
ALTER TABLE erasure_rewrites ENABLE ROW LEVEL SECURITY;
ALTER TABLE spills ENABLE ROW LEVEL SECURITY;

-- A range that is begun is formed again without those, and only those, who were erased when it was begun: so it is
-- the same block, whoever forms it. An erasure after that waits for the range.
ALTER TABLE kafka_positions ADD COLUMN pending_tombstone bigint;

ALTER TABLE consumer_ledger ADD COLUMN erased bigint NOT NULL DEFAULT 0;  -- dropped, because the child was erased

ALTER TABLE quarantine_actions DROP CONSTRAINT quarantine_actions_action_check,
    ADD CONSTRAINT quarantine_actions_action_check CHECK (action IN ('replayed', 'dropped', 'erased'));

-- PostgreSQL keeps samples of a column's values for its planner, where no DELETE reaches them. Of what children did
-- it gets none: these columns are found by key, which needs no statistics.
ALTER TABLE children ALTER COLUMN id SET STATISTICS 0, ALTER COLUMN parent_id SET STATISTICS 0;
ALTER TABLE parents ALTER COLUMN id SET STATISTICS 0;
ALTER TABLE consent_changes ALTER COLUMN parent_id SET STATISTICS 0;
ALTER TABLE streaks ALTER COLUMN child_id SET STATISTICS 0, ALTER COLUMN active_days SET STATISTICS 0;
ALTER TABLE topic_progress ALTER COLUMN child_id SET STATISTICS 0, ALTER COLUMN topic SET STATISTICS 0;
ALTER TABLE quarantine ALTER COLUMN detail SET STATISTICS 0, ALTER COLUMN record SET STATISTICS 0;
ALTER TABLE withheld_seen ALTER COLUMN child_id SET STATISTICS 0, ALTER COLUMN keys SET STATISTICS 0;
ALTER TABLE erasure_subjects ALTER COLUMN id SET STATISTICS 0;
-- Partitions that are made later take this from their parent.
DO $$
DECLARE
    part regclass;
BEGIN
    FOR part IN SELECT 'daily_child_metrics'::regclass UNION ALL
                SELECT inhrelid FROM pg_inherits WHERE inhparent = 'daily_child_metrics'::regclass
    LOOP
        EXECUTE format('ALTER TABLE %s ALTER COLUMN child_id SET STATISTICS 0, ALTER COLUMN topics SET STATISTICS 0,
            ALTER COLUMN badges SET STATISTICS 0', part);
    END LOOP;
    FOR part IN SELECT 'learning_analytics'::regclass UNION ALL
                SELECT inhrelid FROM pg_inherits WHERE inhparent = 'learning_analytics'::regclass
    LOOP
        EXECUTE format('ALTER TABLE %s ALTER COLUMN child_id SET STATISTICS 0, ALTER COLUMN subject SET STATISTICS 0', part);
    END LOOP;
END
$$;
