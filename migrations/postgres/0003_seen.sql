-- The identities of counted events (contract, "Identity"): what makes a repeated event count once.
--
-- Partitioned by the id-day, which is a function of what the client repeats and never of arrival:
-- a retry after midnight meets its first copy. One partition a day; the program makes them before
-- a batch needs them and drops them 45 days behind what was consumed.
--
-- `key` is 16 raw bytes (milliseconds, then a hash) in a uuid because that is the smallest type
-- that PostgreSQL compares with one memcmp. Unique per partition, and a partition is one day.
CREATE TABLE event_seen (
    day     date NOT NULL,
    seen_on date NOT NULL,  -- the UTC day of received_at; says when 1970-01-01's rows have aged out
    key     uuid NOT NULL
) PARTITION BY LIST (day);

-- The id-day of tablets whose clock was reset. Never dropped, purged by seen_on.
CREATE TABLE event_seen_19700101 PARTITION OF event_seen FOR VALUES IN ('1970-01-01');
CREATE UNIQUE INDEX event_seen_19700101_key ON event_seen_19700101 (key);
