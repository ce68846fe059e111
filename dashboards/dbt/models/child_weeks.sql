{# A row for each child and week (from Monday), of the days that the history is counted into. #}
{{ config(materialized='table', order_by='(week_start, child_id)') }}

SELECT
    toMonday(local_date) AS week_start,
    child_id,
    argMax(age_group, local_date) AS age_group,
    countIf(qualifying_events > 0) AS active_days,
    sum(events) AS events,
    sum(sessions) AS sessions,
    sum(active_ms) / 60000 AS active_minutes
FROM {{ source('rivulet', 'child_days') }}
GROUP BY week_start, child_id
