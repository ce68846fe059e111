-- An erasure waits until the parts that its mutation replaced are off the disk. Left to itself a table with little to do
-- looks for such parts every five minutes. The tables are made so that they do every ten seconds, which costs nothing;
-- this is for those that were made before.
ALTER TABLE {database}.events
    MODIFY SETTING cleanup_delay_period = 5, max_cleanup_delay_period = 10, cleanup_delay_period_random_add = 0;
ALTER TABLE {database}.child_day_rollup
    MODIFY SETTING cleanup_delay_period = 5, max_cleanup_delay_period = 10, cleanup_delay_period_random_add = 0;
