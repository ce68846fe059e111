-- What the history sink remembers of events that `analytics` kept out of ClickHouse.
--
-- Of an event's copies the one with the lowest Kafka offset is the event, in every store. When that
-- one was withheld and consent is granted before the device sends it again, the copy must stay out
-- of ClickHouse as well; this table is how the sink knows. One row holds a child's withheld events
-- of one range of offsets; `keys` are their identities (the same key as in event_seen).
-- Rows are dropped 45 days behind what has been consumed, when no copy can come any more.
CREATE TABLE withheld_seen (
    child_id          uuid   NOT NULL,
    topic             text   NOT NULL,
    topic_incarnation text   NOT NULL,
    partition         int    NOT NULL,
    first_offset      bigint NOT NULL,
    received_on       date   NOT NULL,
    keys              uuid[] NOT NULL,
    PRIMARY KEY (child_id, topic, topic_incarnation, partition, first_offset)
);

CREATE INDEX withheld_seen_by_age ON withheld_seen (received_on);

-- Names children: no grants, and row-level security without a policy.
ALTER TABLE withheld_seen ENABLE ROW LEVEL SECURITY;
