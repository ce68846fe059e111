-- Whether the topic of erasures has the tombstone (erasure/src/log.rs): after a restore it is learned from there.
ALTER TABLE tombstones ADD COLUMN is_logged boolean NOT NULL DEFAULT false;
CREATE INDEX tombstones_to_log ON tombstones (number) WHERE NOT is_logged;
