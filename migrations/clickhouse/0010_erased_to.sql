-- Up to which tombstone of PostgreSQL this database was cleaned. One that is put back to a state from before an erasure
-- has an older number than PostgreSQL, and is cleaned again.
CREATE TABLE IF NOT EXISTS {database}.erased_to
(
    tombstone Int64 COMMENT 'The number of the newest tombstone in PostgreSQL of which nothing was left here.',
    at        DateTime DEFAULT now() COMMENT 'When that was found.'
)
ENGINE = ReplacingMergeTree(tombstone)
ORDER BY tuple();
