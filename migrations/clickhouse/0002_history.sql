-- Each event once, always, whatever copies wait to be merged. The partition is a function of the
-- sort key, so FINAL may work on each partition by itself.
CREATE OR REPLACE VIEW {database}.history AS
SELECT *
FROM {database}.events FINAL
SETTINGS do_not_merge_across_partitions_select_final = 1;
