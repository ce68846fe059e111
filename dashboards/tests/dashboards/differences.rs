//! Live streams tell differences: whoever takes them up has what PostgreSQL has, to the column, whatever is
//! committed and however often they leave and come back.

use std::collections::BTreeMap;

use chrono::{Days, NaiveDate};
use rand::{Rng as _, SeedableRng as _, seq::IndexedRandom as _};
use rand_chacha::ChaCha8Rng;
use rivulet_events::{ChildId, changes};
use serde_json::json;
use sqlx::PgPool;
use uuid::Uuid;

use crate::common::{
    Api, insert_day,
    listener::{Copy, Stream},
    today,
};

const ROUNDS: usize = 12;

/// What an aggregator or a recount may do to a child's day, `$1` and `$2`, with some texts, `$3`.
const CHANGES: [&str; 8] = [
    "UPDATE daily_child_metrics SET events = events + 1, xp = xp + 7, last_event_at = now(), updated_at = now()
     WHERE child_id = $1 AND local_date = $2 AND cardinality($3::text[]) > 0",
    "UPDATE daily_child_metrics SET max_depth = cardinality($3::text[]) % 9, updated_at = now()
     WHERE child_id = $1 AND local_date = $2",
    GROW,
    GROW,
    GROW,
    "UPDATE daily_child_metrics SET events = 1, badges = $3::text[], badges_more = false, max_depth = NULL
     WHERE child_id = $1 AND local_date = $2",
    "UPDATE daily_child_metrics SET topics = topics[2:200], topics_more = false, withheld_events = 1
     WHERE child_id = $1 AND local_date = $2 AND cardinality($3::text[]) > 0",
    "DELETE FROM daily_child_metrics
     WHERE child_id = $1 AND local_date = $2 AND cardinality($3::text[]) > 0",
];

/// The first 256 of the union.
const GROW: &str = "UPDATE daily_child_metrics SET (events, topics, topics_more) =
         (SELECT events + 1, (array_agg(t ORDER BY t))[1:256], topics_more OR count(*) > 256
          FROM (SELECT DISTINCT t COLLATE \"C\" AS t FROM unnest(topics || $3::text[]) AS t) AS u)
     WHERE child_id = $1 AND local_date = $2";

/// What may be done to the registry, with a family, `$1`, and a child, `$2`.
const REGISTRATIONS: [&str; 3] = [
    "UPDATE parents SET streaks = NOT streaks WHERE id = $1 AND $2::uuid IS NOT NULL",
    "UPDATE parents SET timezone = CASE timezone WHEN 'Pacific/Auckland' THEN 'Pacific/Pago_Pago'
                                                 ELSE 'Pacific/Auckland' END
     WHERE id = $1 AND $2::uuid IS NOT NULL",
    "UPDATE children SET parent_id = $1 WHERE id = $2",
];

async fn change(pool: &PgPool, rng: &mut ChaCha8Rng, child: Uuid) {
    let day = match rng.random_range(0..10) {
        0 => today() - Days::new(rng.random_range(33..60)),
        1..4 => today() - Days::new(rng.random_range(1..33)),
        _ => today(),
    };
    let is_there =
        "SELECT EXISTS (SELECT FROM daily_child_metrics WHERE child_id = $1 AND local_date = $2)";
    let is_there = sqlx::query_scalar(is_there).bind(child).bind(day);
    let is_there: bool = is_there.fetch_one(pool).await.unwrap();
    if !is_there {
        for table in ["learning_analytics", "topic_progress"] {
            let delete = format!("DELETE FROM {table} WHERE child_id = $1");
            let delete = sqlx::query(sqlx::AssertSqlSafe(delete)).bind(child);
            delete.execute(pool).await.unwrap();
        }
        insert_day(pool, child, day).await;
    }
    let text = |_| format!("{:.6} 🦊 \"{child}\"", rng.random::<f64>());
    let mut texts: Vec<_> = (0..60).map(text).collect();
    texts.truncate(rng.random_range(1..60));
    texts.sort_unstable();
    let mut tx = pool.begin().await.unwrap();
    if is_there {
        let change = sqlx::query(*CHANGES.choose(rng).unwrap());
        let change = change.bind(child).bind(day).bind(texts);
        change.execute(&mut *tx).await.unwrap();
    }
    for payload in changes::payloads([(ChildId::new(child), day)]) {
        let notify = sqlx::query("SELECT pg_notify($1, $2)").bind(changes::CHANNEL);
        notify.bind(payload).execute(&mut *tx).await.unwrap();
    }
    match rng.random_range(0..10) {
        0 if is_there => tx.rollback().await.unwrap(),
        _ => tx.commit().await.unwrap(),
    }
}

/// As the endpoints have it.
async fn truth(api: &Api, child: Uuid) -> Copy {
    let path = format!("/v1/children/{child}");
    let streak = api.json(&api.key, &format!("{path}/streak")).await;
    let today: NaiveDate = streak["today"].as_str().unwrap().parse().unwrap();
    let (from, to) = (today - Days::new(70), today + Days::new(2));
    let path = format!("{path}/daily?from={from}&to={to}");
    let daily = api.json(&api.key, &path).await;
    let mut copy = Copy {
        today,
        timezone: daily["timezone"].as_str().unwrap().to_owned(),
        ..Copy::default()
    };
    for day in daily["days"].as_array().unwrap() {
        let date = day["local_date"].as_str().unwrap().parse().unwrap();
        copy.days.insert(date, day.clone());
    }
    if streak["shown"] == json!(true) {
        copy.streak = streak;
    }
    copy
}

/// A client that comes and goes.
struct Listener {
    credential: String,
    path: String,
    /// Whether it never leaves: then it knows of all days that it was ever told of.
    is_steady: bool,
    stream: Option<Stream>,
    last: Option<String>,
    copies: BTreeMap<Uuid, Copy>,
}

impl Listener {
    fn new(credential: &str, path: String, is_steady: bool) -> Self {
        Self {
            credential: credential.to_owned(),
            path,
            is_steady,
            stream: None,
            last: None,
            copies: BTreeMap::new(),
        }
    }

    /// Takes up what it is told until that is the truth.
    async fn learn(&mut self, api: &Api, truth: &BTreeMap<Uuid, Copy>) {
        while !truth.iter().all(|(child, truth)| self.knows(*child, truth)) {
            let stream = match &mut self.stream {
                Some(stream) => stream,
                none => {
                    let last = self.last.as_deref();
                    let stream = Stream::open(api, &self.credential, &self.path, last).await;
                    none.insert(stream)
                }
            };
            match stream.next().await {
                Some((id, update)) => {
                    Copy::take(&mut self.copies, &update);
                    self.last = Some(id);
                }
                // A child of the family has moved.
                None => self.stream = None,
            }
        }
    }

    fn knows(&self, child: Uuid, truth: &Copy) -> bool {
        let Some(copy) = self.copies.get(&child) else {
            return false;
        };
        let first = truth.today - Days::new(30);
        let is_told = |day: &&NaiveDate| self.is_steady || **day >= first;
        let mut days = copy.days.keys().filter(is_told);
        (copy.today, &copy.timezone, &copy.streak) == (truth.today, &truth.timezone, &truth.streak)
            && days.all(|day| copy.days.get(day) == truth.days.get(day))
            && truth
                .days
                .range(first..)
                .all(|(day, _)| copy.days.contains_key(day))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_takes_up_what_is_told_has_what_postgresql_has() {
    let api = Api::start().await;
    let pool = &api.bed.pool;
    let seed = rand::random();
    println!("seed {seed}");
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let days: Vec<_> = (0..70)
        .step_by(3)
        .map(|ago| today() - Days::new(ago))
        .collect();
    let [ours, theirs] = [api.family(&days).await, api.family(&days[..1]).await];
    let tomorrow = today() + Days::new(1);
    crate::common::make_month(pool, tomorrow).await;
    let mover = Uuid::new_v4();
    sqlx::query("INSERT INTO children (id, parent_id, age_group) VALUES ($1, $2, 'mind_masters')")
        .bind(mover)
        .bind(ours.parent)
        .execute(pool)
        .await
        .unwrap();

    let mut listeners = Vec::new();
    for (family, child) in [(&ours, ours.child), (&ours, mover), (&theirs, theirs.child)] {
        let path = format!("/v1/children/{child}/live");
        for is_steady in [true, false, false] {
            listeners.push((child, Listener::new(&api.key, path.clone(), is_steady)));
        }
        if child != mover {
            listeners.push((child, Listener::new(&family.token, path, false)));
            let path = format!("/v1/families/{}/live", family.parent);
            listeners.push((family.parent, Listener::new(&family.token, path, false)));
        }
    }
    for round in 0..ROUNDS {
        for _ in 0..rng.random_range(1..20) {
            let child = *[ours.child, ours.child, mover, theirs.child]
                .choose(&mut rng)
                .unwrap();
            change(pool, &mut rng, child).await;
        }
        if rng.random_ratio(1, 3) {
            let family = [ours.parent, theirs.parent];
            let registration = sqlx::query(*REGISTRATIONS.choose(&mut rng).unwrap());
            let registration = registration
                .bind(family.choose(&mut rng).unwrap())
                .bind(mover);
            registration.execute(pool).await.unwrap();
        }
        let mut truths = BTreeMap::new();
        for child in [ours.child, mover, theirs.child] {
            truths.insert(child, truth(&api, child).await);
        }
        let now_with: Uuid = sqlx::query_scalar("SELECT parent_id FROM children WHERE id = $1")
            .bind(mover)
            .fetch_one(pool)
            .await
            .unwrap();
        for (of, listener) in &mut listeners {
            let mut told = truths.clone();
            told.retain(|child, _| {
                let family = match child {
                    _ if *child == ours.child => ours.parent,
                    _ if *child == mover => now_with,
                    _ => theirs.parent,
                };
                child == of || family == *of
            });
            if !listener.copies.keys().eq(told.keys()) {
                // A child of the family came or went: it is in the next connection, or no more.
                (listener.copies, listener.last, listener.stream) = Default::default();
            }
            if !listener.is_steady && rng.random_ratio(1, 2) {
                listener.stream = None;
            }
            // Some are away for longer.
            if listener.is_steady || round + 1 == ROUNDS || rng.random_ratio(3, 4) {
                listener.learn(&api, &told).await;
            }
        }
    }
    api.stop().await;
}
