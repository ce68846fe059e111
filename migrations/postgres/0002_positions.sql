-- Where each consumer is in each partition. Moved in the same transaction as what the records up to
-- there did, by comparing next_offset and setting it: whoever is beaten to it has done nothing.
CREATE TABLE kafka_positions (
    consumer text NOT NULL,
    topic text NOT NULL COLLATE "C",
    partition integer NOT NULL,
    -- "<cluster id>/<topic id>": a topic deleted and made again starts over at offset 0.
    topic_incarnation text NOT NULL,
    -- The first record not yet processed.
    next_offset bigint NOT NULL CHECK (next_offset >= 0),
    -- Set while the records [next_offset, pending_end) are on their way to a store that takes no part
    -- in the transaction: after a crash exactly these are sent again, as one block.
    pending_end bigint CHECK (pending_end > next_offset),
    -- Everything received before this was consumed; 1970 while nothing is known.
    consumed_until timestamptz NOT NULL DEFAULT 'epoch',
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (consumer, topic, partition)
    -- Updated with every batch: half of each page is kept free, so that the new version of a row
    -- fits beside the old one and no index is touched.
) WITH (fillfactor = 50);
