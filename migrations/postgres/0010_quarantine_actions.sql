-- What operators did with quarantined records, and consumers that stopped because of too many.

-- Written in the transaction that deletes the row of `quarantine`: no record leaves it unexplained.
CREATE TABLE quarantine_actions (
    consumer          text   NOT NULL,
    topic             text   NOT NULL,
    partition         integer NOT NULL,
    kafka_offset      bigint NOT NULL,
    topic_incarnation text   NOT NULL,
    code              text   NOT NULL,
    action            text   NOT NULL CHECK (action IN ('replayed', 'dropped')),
    acted_by          text   NOT NULL,
    acted_at          timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (consumer, topic, partition, kafka_offset, topic_incarnation)
);
ALTER TABLE quarantine_actions ENABLE ROW LEVEL SECURITY;

-- A record that several consumers set aside is replayed once, for all of them.
CREATE INDEX quarantine_by_record ON quarantine (topic, partition, kafka_offset, topic_incarnation);

-- A consumer that found too large a share of a topic's records unfit and waits for an operator. Once
-- resumed it stays so, across restarts, until the share has been small again.
CREATE TABLE quarantine_pauses (
    consumer   text   NOT NULL,
    topic      text   NOT NULL,
    paused_at  timestamptz NOT NULL DEFAULT now(),
    unfit      bigint NOT NULL,  -- of so many
    records    bigint NOT NULL,
    resumed_by text,
    resumed_at timestamptz,
    PRIMARY KEY (consumer, topic)
);
ALTER TABLE quarantine_pauses ENABLE ROW LEVEL SECURITY;
