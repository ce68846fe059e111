-- What the users of ClickHouse need, and no more, as roles: `rivulet migrate` makes these where the server keeps roles.
-- A user is made by whoever administers the server, with a password of its own, and goes into the CLICKHOUSE_URL of the
-- process that it is for:
--
--   CREATE USER sink IDENTIFIED BY '…' DEFAULT ROLE rivulet_sink
--
-- The migration's own user needs all of it, and the right to grant it (CLICKHOUSE_DEFAULT_ACCESS_MANAGEMENT, or
-- `GRANT ALL ON *.* … WITH GRANT OPTION`). A view is read with its reader's rights: who reads a view reads what it is of.
-- All of them bring settings with their queries, so that none of them may be readonly = 1.

CREATE ROLE IF NOT EXISTS rivulet_sink;
GRANT INSERT ON {database}.events TO rivulet_sink;
GRANT SHOW TABLES, SHOW COLUMNS ON {database}.* TO rivulet_sink;
GRANT SELECT ON system.columns TO rivulet_sink;
GRANT SELECT ON system.settings TO rivulet_sink;
GRANT SELECT ON system.tables TO rivulet_sink;

-- Exports of a child.
CREATE ROLE IF NOT EXISTS rivulet_api;
GRANT SELECT ON {database}.events TO rivulet_api;
GRANT SELECT ON {database}.history TO rivulet_api;
GRANT SELECT ON system.columns TO rivulet_api;

-- An operator's commands, and whoever carries erasures on.
CREATE ROLE IF NOT EXISTS rivulet_operator;
GRANT SELECT ON {database}.* TO rivulet_operator;
GRANT SHOW TABLES, SHOW COLUMNS ON {database}.* TO rivulet_operator;
GRANT INSERT ON {database}.erased_to TO rivulet_operator;
GRANT ALTER DELETE, ALTER SETTINGS ON {database}.events TO rivulet_operator;
GRANT ALTER UPDATE(parent_id) ON {database}.events TO rivulet_operator;
GRANT INSERT, ALTER DELETE, ALTER SETTINGS ON {database}.child_day_rollup TO rivulet_operator;
GRANT SYSTEM SYNC FILE CACHE ON *.* TO rivulet_operator;
GRANT SELECT ON system.columns TO rivulet_operator;
GRANT SELECT ON system.mutations TO rivulet_operator;
GRANT SELECT ON system.parts TO rivulet_operator;
GRANT SELECT ON system.settings TO rivulet_operator;
GRANT SELECT ON system.tables TO rivulet_operator;
GRANT SELECT ON system.view_refreshes TO rivulet_operator;

-- Analysts and boards: every view, and what these are of. docs/analysts.md has the limits that belong to such a user.
CREATE ROLE IF NOT EXISTS rivulet_analyst;
GRANT SELECT ON {database}.events TO rivulet_analyst;
GRANT SELECT ON {database}.history TO rivulet_analyst;
GRANT SELECT ON {database}.daily_active_children TO rivulet_analyst;
GRANT SELECT ON {database}.retention_cohorts TO rivulet_analyst;
GRANT SELECT ON {database}.content_performance TO rivulet_analyst;
GRANT SELECT ON {database}.learning_effectiveness TO rivulet_analyst;
GRANT SELECT ON {database}.speech_development TO rivulet_analyst;
GRANT SELECT ON {database}.conversation_depth TO rivulet_analyst;
GRANT SELECT ON {database}.child_day_rollup TO rivulet_analyst;
GRANT SELECT ON {database}.child_days TO rivulet_analyst;
GRANT SELECT ON {database}.child_day_activities TO rivulet_analyst;
GRANT SELECT ON {database}.child_day_conversations TO rivulet_analyst;
