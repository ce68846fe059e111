-- What a key of scope ingest may be limited to; nothing in a column is no limit of that kind. A
-- key in a web page or an app can be taken out of it by anybody, so it should be good for little.

ALTER TABLE api_keys
    ADD COLUMN origins     text[] NOT NULL DEFAULT '{}'
        CHECK (array_position(origins, NULL) IS NULL),
    ADD COLUMN event_types text[] NOT NULL DEFAULT '{}'
        CHECK (event_types <@ ARRAY['interaction', 'message', 'speech', 'session']),
    ADD CONSTRAINT only_ingest_is_limited
        CHECK (scope = 'ingest' OR (origins = '{}' AND event_types = '{}'));
