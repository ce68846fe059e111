-- A parent's session runs as the role rivulet_parent with `SET LOCAL rivulet.parent_id = '…'` and
-- sees the rows of that parent's children alone, through tables, views and functions.
--
-- Unset, current_setting(…, true) is null; after a SET LOCAL on a pooled connection it is ''.
-- nullif makes both null, which matches nothing.
--
-- Partitions have no grant, and row-level security without a policy as a second lock: through a
-- partition's own name the parent table's policy would not be asked. The program does the same to
-- every partition it makes. The roles that write (aggregator, sink, ingest) own the tables.

-- Roles belong to the whole cluster: another database, or another node at this moment, may have it.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'rivulet_parent') THEN
        CREATE ROLE rivulet_parent NOLOGIN;
    END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
END
$$;

GRANT USAGE ON SCHEMA public TO rivulet_parent;

-- What the other policies ask; a parent sees which children are theirs, and no other column.
ALTER TABLE children ENABLE ROW LEVEL SECURITY;
GRANT SELECT (id, parent_id) ON children TO rivulet_parent;
CREATE POLICY family ON children FOR SELECT TO rivulet_parent
    USING (parent_id = nullif(current_setting('rivulet.parent_id', true), '')::uuid);

ALTER TABLE daily_child_metrics ENABLE ROW LEVEL SECURITY;
GRANT SELECT ON daily_child_metrics TO rivulet_parent;
CREATE POLICY family ON daily_child_metrics FOR SELECT TO rivulet_parent
    USING (child_id IN (SELECT id FROM children
                        WHERE parent_id = nullif(current_setting('rivulet.parent_id', true), '')::uuid));

ALTER TABLE learning_analytics ENABLE ROW LEVEL SECURITY;
GRANT SELECT ON learning_analytics TO rivulet_parent;
CREATE POLICY family ON learning_analytics FOR SELECT TO rivulet_parent
    USING (child_id IN (SELECT id FROM children
                        WHERE parent_id = nullif(current_setting('rivulet.parent_id', true), '')::uuid));

ALTER TABLE topic_progress ENABLE ROW LEVEL SECURITY;
GRANT SELECT ON topic_progress TO rivulet_parent;
CREATE POLICY family ON topic_progress FOR SELECT TO rivulet_parent
    USING (child_id IN (SELECT id FROM children
                        WHERE parent_id = nullif(current_setting('rivulet.parent_id', true), '')::uuid));

ALTER TABLE streaks ENABLE ROW LEVEL SECURITY;
GRANT SELECT ON streaks TO rivulet_parent;
CREATE POLICY family ON streaks FOR SELECT TO rivulet_parent
    USING (child_id IN (SELECT id FROM children
                        WHERE parent_id = nullif(current_setting('rivulet.parent_id', true), '')::uuid));

GRANT SELECT ON learning_metrics, weekly_summaries TO rivulet_parent;
GRANT EXECUTE ON FUNCTION streak_as_of(uuid, date), streak_of(datemultirange),
    text_set_union(text[], text[]), text_set_union_agg(text[]) TO rivulet_parent;

ALTER TABLE event_seen ENABLE ROW LEVEL SECURITY;
ALTER TABLE event_seen_19700101 ENABLE ROW LEVEL SECURITY;
