//! `child_days` against a recount of the history, whatever happens around a refresh.

use std::ops::Range;

use crate::bed::Bed;

/// Made-up history, 37 rows for each child's day.
const FILL: &str = include_str!("../../../bench/src/history.sql");

/// All 20 000 children have so many days; the last ones lie in the nine months up to yesterday.
pub(crate) const DAYS: u32 = 68;

impl Bed {
    pub(crate) async fn execute(&self, sql: &str) {
        // `query_raw`, because `query` takes a `?` for a parameter.
        let clickhouse = &self.test.clickhouse;
        clickhouse.query_raw(sql).execute().await.unwrap();
    }

    /// Inserts a day of the made-up history (`day` < [`DAYS`]) for each of `children` (below 20 000).
    pub(crate) async fn fill(&self, day: u32, children: Range<u32>) {
        let number = |child| (day * 20_000 + child) * 37;
        let (from, to) = (number(children.start), number(children.end));
        self.execute(
            &FILL
                .replace("{from}", &from.to_string())
                .replace("{to}", &to.to_string()),
        )
        .await;
    }

    /// Runs a refreshable view now, as an operator would.
    pub(crate) async fn refresh(&self, which: &str) {
        let view = format!("VIEW child_day_rollup_{which}");
        self.execute(&format!("SYSTEM REFRESH {view}")).await;
        self.execute(&format!("SYSTEM WAIT {view}")).await;
    }

    async fn strings(&self, sql: &str) -> Vec<String> {
        self.test.clickhouse.query(sql).fetch_all().await.unwrap()
    }

    /// The rollup, which is what the history says.
    async fn exact(&self) -> Vec<String> {
        let query = "SELECT toString(tuple(* EXCEPT recounted_at)) FROM child_day_rollup FINAL ORDER BY local_date, child_id";
        let rows = self.strings(query).await;
        let query = "SELECT toString(tuple(*)) FROM child_days_recounted(since = '2000-01-01') ORDER BY local_date, child_id";
        let recount = self.strings(query).await;
        assert_eq!(rows, recount);
        let events = self.number("SELECT sum(events) FROM child_days").await;
        assert_eq!(events, self.number("SELECT count() FROM history").await);
        rows
    }

    async fn late_event(&self, days_ago: u32) {
        self.execute(&format!(
            "INSERT INTO events (event_id, event_type, id_day, child_id, event_time, received_at, local_date, interaction_action)
             SELECT generateUUIDv4(), 'interaction', date, toUUID('00000000-0000-0000-0000-00000000000a'), date, now(), date, 'start'
             FROM (SELECT today() - {days_ago} AS date)"
        ))
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_count_once_however_often_it_is_refreshed() {
    let bed = Bed::new().await;
    bed.execute("SYSTEM STOP MERGES events").await;
    bed.fill(DAYS - 1, 0..300).await;
    bed.fill(DAYS - 1, 0..200).await;
    assert_eq!(bed.raw_rows().await, 500 * 37);
    bed.refresh("all").await;
    let rows = bed.exact().await;
    assert_eq!(rows.len(), 300);
    for which in ["all", "recent", "all"] {
        bed.refresh(which).await;
        assert_eq!(bed.exact().await, rows);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn late_events_arrive() {
    let bed = Bed::new().await;
    bed.refresh("all").await;
    for days_ago in [0, 30, 44] {
        bed.late_event(days_ago).await;
        bed.refresh("recent").await;
        bed.exact().await;
    }
    // Later than ingest takes any: out of quarantine. What is recounted often leaves it to the other.
    bed.late_event(70).await;
    bed.refresh("recent").await;
    assert_eq!(bed.number("SELECT sum(events) FROM child_days").await, 3);
    bed.refresh("all").await;
    assert_eq!(bed.exact().await.len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn inserts_beside_refreshes_are_counted_by_the_next() {
    let bed = Bed::new().await;
    let inserts = async {
        for part in 0..10 {
            bed.fill(DAYS - 1, part * 50..part * 50 + 60).await;
        }
    };
    let refreshes = async {
        for _ in 0..5 {
            bed.refresh("all").await;
            bed.refresh("recent").await;
        }
    };
    tokio::join!(inserts, refreshes);
    bed.refresh("all").await;
    assert_eq!(bed.exact().await.len(), 510);
}

/// An id carries the device's clock, which may be wrong by years while the event is placed right.
#[tokio::test(flavor = "multi_thread")]
async fn an_id_of_another_year_is_counted_by_every_recount() {
    let bed = Bed::new().await;
    for id_day in ["today()", "'2025-01-01'", "'1970-01-01'", "'2037-12-31'"] {
        bed.execute(&format!(
            "INSERT INTO events (event_id, event_type, id_day, child_id, event_time, received_at, local_date)
             SELECT generateUUIDv4(), 'session', {id_day}, toUUID('00000000-0000-0000-0000-00000000000a'), now(), now(),
                    today()"
        ))
        .await;
    }
    // What one finds, the next must not forget.
    for which in ["all", "recent", "all"] {
        bed.refresh(which).await;
        assert_eq!(bed.exact().await.len(), 1, "after {which}");
    }
}

/// Two refreshes may overlap, and one may be cut short: what began last is read.
#[tokio::test(flavor = "multi_thread")]
async fn an_older_recount_that_ends_later_changes_nothing() {
    let bed = Bed::new().await;
    bed.fill(DAYS - 1, 0..50).await;
    bed.refresh("all").await;
    let rows = bed.exact().await;
    bed.execute(
        "INSERT INTO child_day_rollup SELECT * REPLACE (events + 1 AS events, recounted_at - 1 AS recounted_at)
         FROM child_day_rollup FINAL LIMIT 20",
    )
    .await;
    assert_eq!(bed.exact().await, rows);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_expires_with_its_last_event() {
    let bed = Bed::new().await;
    bed.execute(
        "INSERT INTO child_day_rollup (local_date, child_id, last_received_at) VALUES
            (today() - 790, generateUUIDv4(), now() - INTERVAL 1826 DAY),
            (today() - 790, generateUUIDv4(), now() - INTERVAL 1824 DAY)",
    )
    .await;
    bed.execute("OPTIMIZE TABLE child_day_rollup FINAL").await;
    assert_eq!(bed.number("SELECT count() FROM child_days").await, 1);
}
