-- Up to which tombstone of PostgreSQL this database was cleaned. One that is put back to a state from before an erasure
-- has an older number than PostgreSQL, and is cleaned again.
CREATE TABLE IF NOT EXISTS {database}.erased_to
(
    tombstone Int64,
    at        DateTime DEFAULT now()
)
ENGINE = ReplacingMergeTree(tombstone)
ORDER BY tuple();
