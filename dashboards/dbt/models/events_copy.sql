{#
  A copy of the history that is brought up to date by what is new: by partition and offset, because `received_at` is
  no watermark (an event that waited in a spill comes hours later with the time at which it was received).

  * A partition is read from its largest offset that is here, less 100 000. The sink inserts 50 000 records of a
    partition at most, then the next ones; those of one insert may show one after the other, so only below that
    nothing comes any more.
  * Offsets say nothing across incarnations: of one that is not here yet, everything is new.
  * What is here already is replaced by what the history shows now, by its identity: it may be another copy.
  * Who was erased there is erased here, and what expires there expires here: the variables `speech_days` and `events_days` are those of
    the operator's retention.toml.
#}
{{ config(
    materialized='incremental',
    incremental_strategy='delete_insert',
    unique_key='child_id, id_day, event_type, event_id',
    order_by='(child_id, id_day, event_type, event_id)',
    on_schema_change='append_new_columns',
    ttl="toDateTime(received_at) + toIntervalDay(if(event_type = 'speech', " ~ var('speech_days', 1095) ~ ", " ~ var('events_days', 1825) ~ "))",
    post_hook="DELETE FROM {{ this }} WHERE child_id NOT IN (SELECT child_id FROM {{ source('rivulet', 'history') }})"
) }}

SELECT event.*
FROM {{ source('rivulet', 'history') }} AS event
{% if is_incremental() %}
LEFT ANY JOIN
(
    SELECT kafka_topic, kafka_partition, topic_incarnation, max(kafka_offset) AS newest
    FROM {{ this }}
    GROUP BY kafka_topic, kafka_partition, topic_incarnation
) AS here USING (kafka_topic, kafka_partition, topic_incarnation)
WHERE event.kafka_offset + 100000 >= here.newest
{% endif %}
