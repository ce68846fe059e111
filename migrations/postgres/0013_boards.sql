-- Whoever draws boards reads what they are made of: how families and children are spread, and the rollups.
-- No keys, no identities, no raw records, and nothing is written. A login becomes a member of this role
-- (dashboards/grafana/login.sql makes Grafana's).

-- As rivulet_parent: roles belong to the whole cluster.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'rivulet_boards') THEN
        CREATE ROLE rivulet_boards NOLOGIN;
    END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
END
$$;

GRANT USAGE ON SCHEMA public TO rivulet_boards;
GRANT SELECT (id, timezone, coppa, audio, analytics, deleted_at) ON parents TO rivulet_boards;
GRANT SELECT (id, parent_id, age_group, deleted_at) ON children TO rivulet_boards;
GRANT SELECT ON daily_child_metrics, learning_analytics, streaks TO rivulet_boards;

CREATE POLICY boards ON children FOR SELECT TO rivulet_boards USING (true);
CREATE POLICY boards ON daily_child_metrics FOR SELECT TO rivulet_boards USING (true);
CREATE POLICY boards ON learning_analytics FOR SELECT TO rivulet_boards USING (true);
CREATE POLICY boards ON streaks FOR SELECT TO rivulet_boards USING (true);
