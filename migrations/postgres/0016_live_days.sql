-- What a live stream reads of a child at once: the newest of these days, as many as may fit into so many bytes of
-- JSON, and one more, which shows that there are others. As days_within does it for pages, from the other end.
CREATE FUNCTION newest_days_within(child uuid, days date[], bytes bigint)
RETURNS SETOF daily_child_metrics
LANGUAGE plpgsql STABLE AS $$
DECLARE
    day daily_child_metrics;
BEGIN
    FOR day IN SELECT * FROM daily_child_metrics
               WHERE child_id = child AND local_date = ANY (days) ORDER BY local_date DESC
    LOOP
        RETURN NEXT day;
        EXIT WHEN bytes < 0;
        bytes := bytes - 700 - octet_length(array_to_string(day.topics || day.badges, ''));
    END LOOP;
END
$$;

GRANT EXECUTE ON FUNCTION newest_days_within(uuid, date[], bigint) TO rivulet_parent;
