//! A thousand listeners on one node while their children play, connections are cut and the aggregator
//! is killed: in the end each was told what PostgreSQL has.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use chrono::{NaiveDate, Utc};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use reqwest::{Client, StatusCode};
use rivulet_simulator::{Config, run};
use rivulet_tests::Rivulet;
use serde_json::Value;
use tokio::{sync::watch, task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const LISTENERS: usize = 1_000;

/// Events of each day.
type Days = BTreeMap<NaiveDate, i64>;

/// One that watches a child, and now and then loses its connection.
struct Listener {
    url: String,
    key: String,
    client: Client,
    rng: ChaCha8Rng,
    last_id: Option<String>,
    told: Days,
    updates: u64,
}

impl Listener {
    /// Until it was told what `truth` says, once that is known.
    async fn run(
        mut self,
        child: Uuid,
        mut truth: watch::Receiver<Arc<BTreeMap<Uuid, Days>>>,
    ) -> u64 {
        loop {
            let patience = Duration::from_millis(self.rng.random_range(2_000..20_000));
            let _cut = timeout(patience, self.listen(child, &mut truth)).await;
            if self.knows(child, &truth.borrow()) {
                return self.updates;
            }
        }
    }

    fn knows(&self, child: Uuid, truth: &BTreeMap<Uuid, Days>) -> bool {
        truth.get(&child).is_some_and(|days| *days == self.told)
    }

    /// Until the stream ends, or all is known.
    async fn listen(
        &mut self,
        child: Uuid,
        truth: &mut watch::Receiver<Arc<BTreeMap<Uuid, Days>>>,
    ) {
        let request = self.client.get(&self.url).bearer_auth(&self.key);
        let request = match &self.last_id {
            Some(id) => request.header("last-event-id", id),
            None => request,
        };
        let Ok(mut response) = request.send().await else {
            return tokio::time::sleep(Duration::from_millis(500)).await;
        };
        if response.status() == StatusCode::SERVICE_UNAVAILABLE {
            // A thousand came at once.
            return tokio::time::sleep(Duration::from_secs(2)).await;
        }
        assert_eq!(response.status(), StatusCode::OK);
        let mut text = String::new();
        while !self.knows(child, &truth.borrow()) {
            let chunk = tokio::select! {
                chunk = response.chunk() => chunk,
                _ = truth.changed() => continue,
            };
            let Ok(Some(chunk)) = chunk else { return };
            text.push_str(std::str::from_utf8(&chunk).unwrap());
            while let Some(end) = text.find("\n\n") {
                let event: String = text.drain(..end + 2).collect();
                let field = |name| event.lines().find_map(|line: &str| line.strip_prefix(name));
                let Some(data) = field("data: ") else {
                    continue;
                };
                let data: Value = serde_json::from_str(data).unwrap();
                for day in data["days"].as_array().unwrap() {
                    let date = day["local_date"].as_str().unwrap().parse().unwrap();
                    self.told.insert(date, day["events"].as_i64().unwrap());
                }
                self.last_id = field("id: ").map(str::to_owned);
                self.updates += 1;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_listeners_miss_nothing() {
    let _turn = crate::turn::of(module_path!());
    let (rivulet, [ingest, mut aggregate, sink, api]) =
        Rivulet::running(&[], ["ingest", "aggregate", "sink", "api"])
            .await
            .unwrap();
    let app = Config {
        children: 250,
        history_days: 3,
        rate: 100.0,
        duration: Some(Duration::from_secs(20)),
        ledger: None,
        ..rivulet.simulator(&ingest, 1)
    };
    let app =
        tokio::spawn(async move { run(&app, Utc::now(), |_| {}, &CancellationToken::new()).await });
    let pool = &rivulet.bed.pool;
    // The families are all registered before anybody plays.
    let children: Vec<Uuid> = loop {
        let found = sqlx::query_scalar(
            "SELECT id FROM children WHERE EXISTS (SELECT FROM daily_child_metrics) ORDER BY id",
        );
        let found = found.fetch_all(pool).await.unwrap();
        if !found.is_empty() {
            break found;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    let key = rivulet
        .command(&["keys", "create", "--name", "page", "--scope", "read"])
        .await
        .unwrap();
    let (tell, truth) = watch::channel(Arc::new(BTreeMap::new()));
    let client = Client::builder().no_proxy().build().unwrap();
    let mut listeners = JoinSet::new();
    for number in 0..LISTENERS {
        let child = children[number % children.len()];
        let listener = Listener {
            url: format!("http://{}/v1/children/{child}/live", api.address),
            key: key.clone(),
            client: client.clone(),
            rng: ChaCha8Rng::seed_from_u64(number as u64),
            last_id: None,
            told: Days::new(),
            updates: 0,
        };
        listeners.spawn(listener.run(child, truth.clone()));
    }
    tokio::time::sleep(Duration::from_secs(8)).await;
    aggregate.crash().await.unwrap();
    println!("{}", app.await.unwrap().unwrap());
    aggregate.ready().await.unwrap();
    rivulet.settle().await.unwrap();

    let rows: Vec<(Uuid, NaiveDate, i64)> =
        sqlx::query_as("SELECT child_id, local_date, events FROM daily_child_metrics")
            .fetch_all(pool)
            .await
            .unwrap();
    let mut days: BTreeMap<Uuid, Days> = children.iter().map(|id| (*id, Days::new())).collect();
    for (child, date, events) in rows {
        days.entry(child).or_default().insert(date, events);
    }
    tell.send(Arc::new(days)).unwrap();
    let updates = timeout(Duration::from_secs(120), listeners.join_all());
    let updates: u64 = updates.await.unwrap().iter().sum();
    let peak = api.peak_memory().unwrap() >> 20;
    println!("{LISTENERS} listeners were told {updates} updates; api's peak memory {peak} MiB");
    assert!(peak < 150, "{peak} MiB");
    for role in [ingest, aggregate, sink, api] {
        role.stop().await.unwrap();
    }
}
