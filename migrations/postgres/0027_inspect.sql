-- What the read API tells an admin of events that arrive (docs/inspecting.md): whether they are counted, and where the
-- consumers are. No id is in either, and no content.
GRANT SELECT ON event_seen TO rivulet_api;
CREATE POLICY api ON event_seen FOR SELECT TO rivulet_api USING (true);
GRANT SELECT (consumer, topic, partition, next_offset) ON kafka_positions TO rivulet_api;
CREATE POLICY api ON kafka_positions FOR SELECT TO rivulet_api USING (true);
