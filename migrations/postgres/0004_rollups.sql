-- What parents see. Written by the aggregator alone; docs/rollups.md explains every number.
--
-- Counts and sums are bigint: integer addition commutes, so no order, split or replay shows.
-- There is no index on a number that changes, and partitions keep room on the page, so that an
-- update stays on its page and touches no index (HOT).
-- daily_child_metrics and learning_analytics are partitioned by month; the program makes the
-- months, and they are kept.

CREATE TABLE daily_child_metrics (
    child_id              uuid   NOT NULL,
    local_date            date   NOT NULL,
    events                bigint NOT NULL,
    sessions              bigint NOT NULL,
    active_ms             bigint NOT NULL,
    interactions          bigint NOT NULL,
    starts                bigint NOT NULL,
    answers               bigint NOT NULL,
    correct_answers       bigint NOT NULL,
    hints                 bigint NOT NULL,
    skips                 bigint NOT NULL,
    completions           bigint NOT NULL,
    response_time_ms      bigint NOT NULL,
    response_time_count   bigint NOT NULL,
    xp                    bigint NOT NULL,
    stars                 bigint NOT NULL,
    messages_sent         bigint NOT NULL,
    messages_received     bigint NOT NULL,
    questions_asked       bigint NOT NULL,
    conversations_started bigint NOT NULL,
    aha_moments           bigint NOT NULL,
    messages_filtered     bigint NOT NULL,
    tokens_used           bigint NOT NULL,
    max_depth             bigint,
    speech_windows        bigint NOT NULL,
    speech_ms             bigint NOT NULL,
    child_words           bigint NOT NULL,
    adult_words           bigint NOT NULL,
    conversational_turns  bigint NOT NULL,
    child_vocalizations   bigint NOT NULL,
    utterances            bigint NOT NULL,
    new_words             bigint NOT NULL,
    max_unique_words      bigint,
    topics                text[] NOT NULL,
    badges                text[] NOT NULL,
    qualifying_events     bigint NOT NULL,
    first_event_at        timestamptz NOT NULL,
    last_event_at         timestamptz NOT NULL,
    withheld_events       bigint NOT NULL,
    updated_at            timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (child_id, local_date)
) PARTITION BY RANGE (local_date);

CREATE TABLE learning_analytics (
    child_id             uuid   NOT NULL,
    local_date           date   NOT NULL,
    subject              text   COLLATE "C" NOT NULL,
    interactions         bigint NOT NULL,
    starts               bigint NOT NULL,
    completions          bigint NOT NULL,
    answers              bigint NOT NULL,
    correct_answers      bigint NOT NULL,
    hints                bigint NOT NULL,
    skips                bigint NOT NULL,
    response_time_ms     bigint NOT NULL,
    response_time_count  bigint NOT NULL,
    duration_ms          bigint NOT NULL,
    difficulty_sum       bigint NOT NULL,
    difficulty_count     bigint NOT NULL,
    rating_sum           bigint NOT NULL,
    rating_count         bigint NOT NULL,
    confidence_milli_sum bigint NOT NULL,
    confidence_count     bigint NOT NULL,
    withheld_events      bigint NOT NULL,
    updated_at           timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (child_id, local_date, subject)
) PARTITION BY RANGE (local_date);

CREATE TABLE topic_progress (
    child_id         uuid   NOT NULL,
    topic            text   COLLATE "C" NOT NULL,
    interactions     bigint NOT NULL,
    answers          bigint NOT NULL,
    correct_answers  bigint NOT NULL,
    duration_ms      bigint NOT NULL,
    messages         bigint NOT NULL,
    questions_asked  bigint NOT NULL,
    conversations    bigint NOT NULL,
    max_depth        bigint,
    first_depth_5_at timestamptz,
    first_seen_at    timestamptz NOT NULL,
    last_seen_at     timestamptz NOT NULL,
    -- Laplace's rule of succession: one lucky answer is not mastery.
    mastery_score    numeric GENERATED ALWAYS AS (
        CASE WHEN answers > 0 THEN round(100 * (correct_answers + 1.0) / (answers + 2.0), 2) END
    ) STORED,
    withheld_events  bigint NOT NULL,
    updated_at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (child_id, topic)
) WITH (fillfactor = 75);

-- A function of the set of active days alone, hence no count of events here.
CREATE TABLE streaks (
    child_id          uuid PRIMARY KEY,
    current_streak    bigint NOT NULL,
    longest_streak    bigint NOT NULL,
    streak_started_on date   NOT NULL,
    last_active_date  date   NOT NULL,
    freezes_available bigint NOT NULL,
    active_days       datemultirange NOT NULL,
    rule_version      integer NOT NULL,
    updated_at        timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 75);

-- Streak rule 1 over a set of days; null everywhere for the empty set. It walks the unbroken runs
-- of days, not the days: a run of n days that takes the streak from s to s + n passes
-- (s + n) / 7 - s / 7 multiples of seven, each of which earns a freeze, at most two held.
CREATE FUNCTION streak_of(
    days datemultirange,
    OUT current_streak bigint,
    OUT longest_streak bigint,
    OUT streak_started_on date,
    OUT last_active_date date,
    OUT freezes_available bigint
) LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
    run daterange;
    missed bigint;
    before bigint;
BEGIN
    FOR run IN SELECT unnest(days) LOOP
        missed := lower(run) - last_active_date - 1;
        IF missed <= freezes_available THEN
            freezes_available := freezes_available - missed;
            before := current_streak;
        ELSE  -- also the first run, where `missed` is null
            streak_started_on := lower(run);
            before := 0;
        END IF;
        last_active_date := upper(run) - 1;
        current_streak := before + (upper(run) - lower(run));
        freezes_available := least(2, coalesce(freezes_available, 0) + current_streak / 7 - before / 7);
        longest_streak := greatest(longest_streak, current_streak);
    END LOOP;
END
$$;

-- Both sets as one: distinct, sorted bytewise.
CREATE FUNCTION text_set_union(a text[], b text[]) RETURNS text[]
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT ARRAY(SELECT DISTINCT e COLLATE "C" FROM unnest(a || b) AS e ORDER BY 1)
$$;
