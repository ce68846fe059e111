//! The fault campaign: every fault that an operator meets, in an order that a seed decides, under the
//! load of two apps, on services of its own, while children are erased and parents withdraw consents. At the end every id agrees: the apps' ledgers,
//! Kafka, PostgreSQL, ClickHouse and Rivulet's own books; and of those who left nothing is there. `./dev test --faults` runs it.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use chrono::Utc;
use rand::{Rng, SeedableRng, seq::SliceRandom as _};
use rand_chacha::ChaCha8Rng;
use reqwest::{Method, StatusCode};
use rivulet_sandbox::{Link, Mode, Sandbox, Service, TestBed};
use rivulet_simulator::{Config, family::Consents, recount::Gone, run};
use rivulet_tests::{OwnServices, Rivulet, Role, check};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const SEEDS: &str = "RIVULET_FAULT_SEEDS";

/// How long PostgreSQL is stopped, at most.
const STOPPED: Duration = Duration::from_secs(60);
/// Longer than the consumers' session time-out of 8 s.
const FROZEN: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug)]
enum Fault {
    /// kill -9 of one role.
    Crash(usize),
    /// SIGSTOP of one of each role for longer than a session, and back.
    Freeze(usize),
    /// kill -9 of a service, down for a moment.
    Kill(Service),
    /// The same of all services.
    KillAll,
    /// PostgreSQL stopped for a minute.
    PostgresStopped,
    /// PostgreSQL put back to what it was at the start of the load.
    PostgresRestored,
    /// Connections to PostgreSQL end again and again.
    PostgresCut,
    /// Everything to and from PostgreSQL takes its time.
    PostgresSlow,
    /// ClickHouse takes requests and does not answer.
    ClickhouseHangs,
    /// ClickHouse answers every request with an error.
    ClickhouseFails,
    /// Kafka down, and no room for the spill on one ingest node.
    SpillFull,
    /// Every role stopped in order and started again, one after the other.
    RollingRestart,
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes six minutes a seed: ./dev test --faults"]
async fn campaign() {
    let _turn = crate::turn::of(module_path!());
    let seeds = std::env::var(SEEDS).unwrap_or_else(|_| "1,2".to_owned());
    for seed in seeds.split(',') {
        let seed = seed.trim().parse().expect("RIVULET_FAULT_SEEDS is numbers");
        Campaign::start(seed).await.run().await;
    }
}

struct Campaign {
    seed: u64,
    rng: ChaCha8Rng,
    rivulet: Rivulet,
    roles: Vec<Role>,
    postgres: Link,
    clickhouse: Link,
    sandbox: Sandbox,
    services: OwnServices,
    gone: Gone,
}

impl Campaign {
    async fn start(seed: u64) -> Self {
        let services = OwnServices::new(&format!("faults-{seed}")).unwrap();
        let sandbox = services.sandbox().unwrap();
        let stack = sandbox.up(&BTreeMap::new()).await.unwrap();
        let bed = TestBed::on(stack).await.unwrap();
        let (postgres, database_url) = linked(&bed.database_url).await;
        let (clickhouse, clickhouse_url) = linked(&bed.clickhouse_url).await;
        let env = [
            ("DATABASE_URL", &*database_url),
            ("CLICKHOUSE_URL", &clickhouse_url),
            ("RIVULET_RATE", "2000"),
        ];
        let rivulet = Rivulet::new(bed, &env).await.unwrap();
        let mut roles = Vec::new();
        for node in ["a", "b"] {
            let spill = services.path(&format!("spill-{node}"));
            let spill = [("RIVULET_SPILL_DIR", spill.display().to_string())];
            roles.push(rivulet.start_with("ingest", &spill).await.unwrap());
        }
        for name in ["aggregate", "aggregate", "sink", "sink"] {
            roles.push(rivulet.start_with(name, &[]).await.unwrap());
        }
        Self {
            seed,
            rng: ChaCha8Rng::seed_from_u64(seed),
            rivulet,
            roles,
            postgres,
            clickhouse,
            sandbox,
            services,
            gone: Gone::default(),
        }
    }

    async fn run(mut self) {
        let enough = CancellationToken::new();
        let mut ledgers = Vec::new();
        let mut apps = Vec::new();
        for (node, ingest) in (1_u64..).zip(&self.roles[..2]) {
            let app = Config {
                children: 80,
                history_days: 5,
                rate: 150.0,
                ..self.rivulet.simulator(ingest, self.seed * 100 + node)
            };
            ledgers.extend(app.ledger.clone());
            let stop = enough.clone();
            apps.push(tokio::spawn(async move {
                run(&app, Utc::now(), |_| {}, &stop).await
            }));
        }
        // The families are registered by then, and there is something to lose.
        tokio::time::sleep(Duration::from_secs(6)).await;
        let backup = self.back_up_postgres().await;

        let mut faults: Vec<_> = (0..6).map(Fault::Crash).collect();
        faults.extend([Service::Kafka, Service::Postgres, Service::Clickhouse].map(Fault::Kill));
        faults.extend([
            Fault::Freeze(0),
            Fault::Freeze(1),
            Fault::KillAll,
            Fault::PostgresStopped,
            Fault::PostgresRestored,
            Fault::PostgresCut,
            Fault::PostgresSlow,
            Fault::ClickhouseHangs,
            Fault::ClickhouseFails,
            Fault::SpillFull,
            Fault::RollingRestart,
        ]);
        faults.shuffle(&mut self.rng);
        println!("seed {}", self.seed);
        let mut leaving = self.some_of("children", faults.len()).await;
        let mut withdrawing = self.some_of("parents", faults.len()).await;
        for fault in faults {
            // A child leaves and a parent withdraws a consent, and the fault meets that wherever it is.
            let child = leaving.pop().unwrap();
            self.erase(child).await;
            self.gone.erased.insert(child);
            let consent = self.gone.withdrawn.len() % 3;
            let consents = Consents {
                coppa: consent == 0,
                audio: consent == 1,
                analytics: consent == 2,
            };
            let parent = withdrawing.pop().unwrap();
            self.withdraw(parent, consents).await;
            self.gone.withdrawn.insert(parent, consents);
            let pause = self.rng.random_range(200..1_800);
            tokio::time::sleep(Duration::from_millis(pause)).await;
            self.inflict(fault, &backup).await;
            let over = Instant::now();
            for role in &mut self.roles {
                role.ready().await.unwrap();
            }
            let ready = over.elapsed().as_secs_f64();
            self.rivulet.settle().await.unwrap();
            println!(
                "  {:20} every role ready after {ready:4.1} s, all that was in Kafka then stored after {:4.1} s",
                format!("{fault:?}"),
                over.elapsed().as_secs_f64()
            );
        }
        enough.cancel();
        for app in apps {
            println!("  {}", app.await.unwrap().unwrap());
        }
        for ingest in &self.roles[..2] {
            while ingest
                .counter("rivulet_ingest_spill_records")
                .await
                .unwrap()
                > 0.0
            {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
        let began = Instant::now();
        self.erasures_are_done().await;
        // A PostgreSQL that was put back has the consents of then.
        for (parent, consents) in self.gone.withdrawn.clone() {
            self.withdraw(parent, consents).await;
        }
        self.rivulet.withdrawals_are_done().await.unwrap();
        println!(
            "  {} children erased, {} consents withdrawn ({:.1} s until the last is done)",
            self.gone.erased.len(),
            self.gone.withdrawn.len(),
            began.elapsed().as_secs_f64()
        );
        let began = Instant::now();
        let checked = check::exact_without(&self.rivulet, &ledgers, self.gone.clone())
            .await
            .unwrap();
        let mut rewound = 0.0;
        for role in &self.roles[2..] {
            rewound += role
                .counter("rivulet_consumer_rewound_records_total")
                .await
                .unwrap();
        }
        println!("  {rewound} records seen to be missing from a PostgreSQL that was put back");
        println!(
            "  lost 0, twice 0, risen again 0 ({:.1} s to settle and compare): {checked:?}",
            began.elapsed().as_secs_f64()
        );
        assert!(checked.events > 2_000, "{checked:?}");
        for role in self.roles {
            role.stop().await.unwrap();
        }
    }

    /// So many of the apps' children or parents, by the seed.
    async fn some_of(&mut self, table: &str, count: usize) -> Vec<Uuid> {
        let all = format!("SELECT id FROM {table} ORDER BY id");
        let mut all: Vec<Uuid> = sqlx::query_scalar(sqlx::AssertSqlSafe(all))
            .fetch_all(&self.rivulet.bed.pool)
            .await
            .unwrap();
        all.shuffle(&mut self.rng);
        all.truncate(count);
        assert_eq!(all.len(), count);
        all
    }

    /// Asks for an erasure as a product does, until it is taken; returns its id.
    async fn erase(&self, child: Uuid) -> String {
        let path = format!("/v1/admin/children/{child}?erase=true");
        loop {
            let (_, answer) = self.ask(Method::DELETE, &path, None).await;
            if let Some(id) = answer["erasure_id"].as_str() {
                return id.to_owned();
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// Waits until each is done. One that PostgreSQL has lost, because it was put back to a state from before the log of
    /// erasures had it, is asked for again, as a product does that has no certificate yet.
    async fn erasures_are_done(&self) {
        for child in &self.gone.erased {
            let path = format!("/v1/admin/erasures/{}", self.erase(*child).await);
            let mut waited = 0;
            loop {
                let (_, status) = self.ask(Method::GET, &path, None).await;
                if status["state"] == "done" {
                    break;
                }
                waited += 1;
                assert!(waited < 600, "{status}");
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }
    }

    /// Withdraws a consent as a product does, until it is taken.
    async fn withdraw(&self, parent: Uuid, consents: Consents) {
        let consents = [
            ("coppa", consents.coppa),
            ("audio", consents.audio),
            ("analytics", consents.analytics),
        ];
        let withdrawn = consents
            .into_iter()
            .filter(|(_, is_withdrawn)| *is_withdrawn);
        let consents: Map<_, _> = withdrawn
            .map(|(name, _)| (name.to_owned(), false.into()))
            .collect();
        let path = format!("/v1/admin/parents/{parent}");
        loop {
            let (_, known) = self.ask(Method::GET, &path, None).await;
            let body = json!({"timezone": known["timezone"], "consents": consents});
            let (status, _) = self.ask(Method::PUT, &path, Some(body)).await;
            if status == Some(StatusCode::NO_CONTENT) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// Of the second ingest node, with the admin's key. `null` where there is no answer.
    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> (Option<StatusCode>, Value) {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let url = format!("http://{}{path}", self.roles[1].address);
        let mut asked = client
            .request(method, url)
            .bearer_auth(&self.rivulet.admin_key);
        if let Some(body) = body {
            asked = asked
                .header("Content-Type", "application/json")
                .body(body.to_string());
        }
        match asked.send().await {
            Ok(answer) => {
                let status = answer.status();
                let bytes = answer.bytes().await.unwrap_or_default();
                (
                    Some(status),
                    serde_json::from_slice(&bytes).unwrap_or_default(),
                )
            }
            Err(_) => (None, Value::Null),
        }
    }

    async fn inflict(&mut self, fault: Fault, backup: &PathBuf) {
        match fault {
            Fault::Crash(role) => self.roles[role].crash().await.unwrap(),
            Fault::Freeze(which) => {
                let frozen = [0, 2, 4].map(|first| &self.roles[first + which]);
                frozen.iter().for_each(|role| role.freeze().unwrap());
                tokio::time::sleep(FROZEN).await;
                frozen.iter().for_each(|role| role.thaw().unwrap());
            }
            Fault::Kill(service) => {
                self.kill(service);
                tokio::time::sleep(Duration::from_millis(1_500)).await;
                self.sandbox.up(&BTreeMap::new()).await.unwrap();
            }
            Fault::KillAll => {
                [Service::Kafka, Service::Postgres, Service::Clickhouse]
                    .into_iter()
                    .for_each(|service| self.kill(service));
                tokio::time::sleep(Duration::from_millis(1_500)).await;
                self.sandbox.up(&BTreeMap::new()).await.unwrap();
            }
            Fault::PostgresStopped => {
                self.kill(Service::Postgres);
                tokio::time::sleep(STOPPED).await;
                self.sandbox.up(&BTreeMap::new()).await.unwrap();
            }
            Fault::PostgresRestored => {
                self.kill(Service::Postgres);
                self.gone(Service::Postgres).await;
                let data = self.data();
                std::fs::remove_dir_all(&data).unwrap();
                copy(backup, &data);
                self.sandbox.up(&BTreeMap::new()).await.unwrap();
            }
            Fault::PostgresCut => {
                for _ in 0..6 {
                    self.postgres.set(Mode::Cut);
                    let down = self.rng.random_range(50..900);
                    tokio::time::sleep(Duration::from_millis(down)).await;
                    self.postgres.set(Mode::Open);
                    let up = self.rng.random_range(50..900);
                    tokio::time::sleep(Duration::from_millis(up)).await;
                }
            }
            Fault::PostgresSlow => {
                self.postgres.set(Mode::Slow(Duration::from_millis(30)));
                tokio::time::sleep(Duration::from_secs(8)).await;
                self.postgres.set(Mode::Open);
            }
            Fault::ClickhouseHangs => self.clickhouse_for_a_while(Mode::Hang).await,
            Fault::ClickhouseFails => self.clickhouse_for_a_while(Mode::Fail).await,
            Fault::SpillFull => {
                self.roles[0].limit_files(Some(64 << 10)).unwrap();
                self.kill(Service::Kafka);
                tokio::time::sleep(Duration::from_secs(6)).await;
                self.roles[0].limit_files(None).unwrap();
                tokio::time::sleep(Duration::from_secs(2)).await;
                self.sandbox.up(&BTreeMap::new()).await.unwrap();
            }
            Fault::RollingRestart => {
                for role in &mut self.roles {
                    role.restart().await.unwrap();
                    role.ready().await.unwrap();
                }
            }
        }
    }

    async fn clickhouse_for_a_while(&self, mode: Mode) {
        self.clickhouse.set(mode);
        tokio::time::sleep(Duration::from_secs(8)).await;
        // What hung is never answered.
        self.clickhouse.set(Mode::Cut);
        tokio::time::sleep(Duration::from_millis(100)).await;
        self.clickhouse.set(Mode::Open);
    }

    fn kill(&self, service: Service) {
        let pid = self.sandbox.pid(service).and_then(Pid::from_raw).unwrap();
        kill_process(pid, Signal::KILL).unwrap();
    }

    /// Waits for a killed service's last process.
    async fn gone(&self, service: Service) {
        while self.sandbox.pid(service).is_some() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        // PostgreSQL's children notice that their parent is gone.
        tokio::time::sleep(Duration::from_secs(2)).await;
    }

    /// As a crash would leave it, which is a state that PostgreSQL recovers from.
    async fn back_up_postgres(&mut self) -> PathBuf {
        self.kill(Service::Postgres);
        self.gone(Service::Postgres).await;
        let backup = self.services.path("backup");
        copy(&self.data(), &backup);
        self.sandbox.up(&BTreeMap::new()).await.unwrap();
        backup
    }

    fn data(&self) -> PathBuf {
        self.services.path("postgres/data")
    }
}

/// With owners and modes: root's PostgreSQL runs as another user.
fn copy(from: &PathBuf, to: &PathBuf) {
    let copied = Command::new("cp").arg("-a").args([from, to]).status();
    assert!(copied.unwrap().success());
}

/// A link to the service of a URL, and the URL by way of it.
async fn linked(url: &str) -> (Link, String) {
    let rest = url.split_once("://").unwrap().1;
    let rest = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    let host = rest.split('/').next().unwrap();
    let link = Link::to(host).await.unwrap();
    let url = url.replacen(host, &link.address, 1);
    (link, url)
}
