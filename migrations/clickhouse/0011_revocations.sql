-- The same of consents that were withdrawn: up to the number of which change in PostgreSQL this database was cleaned.
ALTER TABLE {database}.erased_to
    ADD COLUMN IF NOT EXISTS revocation Int64 DEFAULT 0 COMMENT 'The number of the newest withdrawal of a consent of which nothing was left here.' AFTER tombstone;
