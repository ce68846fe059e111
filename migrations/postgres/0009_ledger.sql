-- The books of each consumer: what became of the records that it was given, by partition and by the
-- hour of their Kafka timestamps. Written in the transaction that moves the position, so that
-- counted + duplicates + quarantined are the records it passed; `rivulet verify` compares that with
-- the log itself. For the sink `counted` is stored or withheld, and a copy of an event that was
-- withheld is a duplicate; ordinary copies meet in ClickHouse.
-- Rows are dropped 45 days behind what was consumed.
CREATE TABLE consumer_ledger (
    consumer          text NOT NULL,
    topic             text NOT NULL COLLATE "C",
    partition         integer NOT NULL,
    topic_incarnation text NOT NULL,
    hour              timestamptz NOT NULL,
    counted           bigint NOT NULL,
    duplicates        bigint NOT NULL,
    quarantined       bigint NOT NULL,
    withheld          bigint NOT NULL,  -- of the counted, those that `analytics` keeps out of ClickHouse
    PRIMARY KEY (consumer, topic, partition, topic_incarnation, hour)
) WITH (fillfactor = 50);

-- The ledger has the records from ledger_from to ledger_to. A release that keeps none moves the position
-- alone, so that ledger_to stays behind; the next step of one that does begins the ledger anew.
ALTER TABLE kafka_positions ADD COLUMN ledger_from bigint NOT NULL DEFAULT 0,
                            ADD COLUMN ledger_to   bigint NOT NULL DEFAULT -1;
