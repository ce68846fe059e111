-- Records that a consumer could not process: set aside in the transaction that moves the consumer
-- past them, so that one poisonous record never stops a partition and is never lost.
-- They may hold a child's data: no grants, and row-level security without a policy.
CREATE TABLE quarantine (
    consumer          text   NOT NULL,
    topic             text   NOT NULL,
    partition         integer NOT NULL,
    kafka_offset      bigint NOT NULL,
    topic_incarnation text   NOT NULL,
    code              text   NOT NULL,  -- stable, for filters and metrics
    detail            text   NOT NULL,  -- for a person; may quote the record
    record            bytea  NOT NULL,
    quarantined_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (consumer, topic, partition, kafka_offset, topic_incarnation)
);
ALTER TABLE quarantine ENABLE ROW LEVEL SECURITY;
