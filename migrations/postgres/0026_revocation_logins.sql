-- What 0025 made, for the logins of 0024. Withdrawals are written by the triggers of the registry, with the owner's rights.
GRANT SELECT ON revocation_state
    TO rivulet_ingest, rivulet_aggregate, rivulet_sink, rivulet_api, rivulet_operator;
GRANT SELECT ON revocations TO rivulet_ingest, rivulet_aggregate, rivulet_sink, rivulet_operator;
GRANT UPDATE (clickhouse_at), DELETE ON revocations TO rivulet_operator;
CREATE POLICY logins ON revocation_state
    TO rivulet_ingest, rivulet_aggregate, rivulet_sink, rivulet_api, rivulet_operator USING (true);
CREATE POLICY logins ON revocations TO rivulet_ingest, rivulet_aggregate, rivulet_sink, rivulet_operator USING (true);
-- Ingest does it before a consent is given again.
GRANT EXECUTE ON FUNCTION settle_revocations(uuid) TO rivulet_ingest, rivulet_operator;
