//! Fairness: what others notice while one sender, one child or one reader does its worst.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use chrono::Utc;
use rivulet_sandbox::{Role, TestBed};
use tokio::{sync::mpsc::unbounded_channel, task::JoinSet, time::Instant};
use uuid::Uuid;

use crate::{
    attacks::{self, Attacked},
    bed,
    events::Author,
    latency::{in_postgres, ticks, watch},
    load::{self, Client},
    process,
    report::{Report, quantile},
};

/// How long each attack lasts, and each quiet time that it is held against.
const SECONDS: u32 = 10;
/// What others do meanwhile, each so many times a second: post a batch of events, post the first event of a child
/// and wait for its row, read a month of a child.
const POSTS: u32 = 20;
const EVENTS: usize = 50;
const MARKERS: u32 = 10;
const READS: u32 = 20;
/// What they may notice: so many times the quiet p99; a row later than this.
const RATIO: f64 = 3.0;
const FRESH_MS: f64 = 2_000.0;
/// Others are not waited for beyond this: what they could not send by then counts as refused.
const LIMIT: Duration = Duration::from_secs(30);
/// A ratio of two figures below this says something of the machine alone.
const LEAST_MS: f64 = 10.0;

pub(crate) async fn run(report: &mut Report) -> Result<()> {
    let title = format!(
        "fairness: {} events/s and {READS} reads/s of others while one does its worst, {SECONDS} s each",
        POSTS * EVENTS as u32 + MARKERS
    );
    report.title("fairness", &title);
    let mut stage = Stage::set().await?;
    let mut quiet = Noticed::default();
    report.progress("quiet");
    // The first of all fills caches and is not counted.
    stage.others().await?;
    quiet.add(stage.others().await?);
    let mut met = Vec::new();
    for (name, kind) in attacks::ALL {
        report.progress(name);
        let running = attacks::start(*kind, &stage.attacked)?;
        // Its first seconds, with full buckets, are among what is measured.
        let noticed = stage.others().await?;
        let answers = running.stop().await;
        report.progress(&format!("  was answered {answers}"));
        met.push((name, noticed));
        // What it left behind, such as connections that time out, is its own affair, not the next one's.
        tokio::time::sleep(Duration::from_secs(2)).await;
        if met.len() % 3 == 0 {
            quiet.add(stage.others().await?);
        }
    }
    let base = [&quiet.posts, &quiet.reads].map(|of| quantile(of, 0.99));
    report.figure("quiet: posting, p99", base[0], "ms");
    report.figure("quiet: reading, p99", base[1], "ms");
    let fresh = quantile(&quiet.fresh, 1.0);
    report.figure("quiet: answer to row, largest", fresh, "ms");
    for (name, noticed) in met {
        for (what, of, base) in [
            ("posting", &noticed.posts, base[0]),
            ("reading", &noticed.reads, base[1]),
        ] {
            let ratio = quantile(of, 0.99).max(LEAST_MS) / base.max(LEAST_MS);
            let name = format!("{name}: {what}, p99 against quiet");
            report.at_most(&name, ratio, "x", RATIO);
        }
        let fresh = quantile(&noticed.fresh, 1.0);
        let late = format!("{name}: answer to row, largest");
        report.at_most(&late, fresh, "ms", FRESH_MS);
        let refused = format!("{name}: requests of others refused");
        report.at_most(&refused, f64::from(noticed.refused), "", 0.0);
    }
    stage.end(report).await
}

/// What others noticed: milliseconds, and how often they were not answered 200.
#[derive(Default)]
struct Noticed {
    posts: Vec<f64>,
    reads: Vec<f64>,
    /// From the answer to the row.
    fresh: Vec<f64>,
    refused: u32,
}

impl Noticed {
    fn add(&mut self, other: Self) {
        self.posts.extend(other.posts);
        self.reads.extend(other.reads);
        self.fresh.extend(other.fresh);
        self.refused += other.refused;
    }
}

const ROLES: [&str; 3] = ["ingest", "aggregate", "api"];

/// The roles, and two families of which one means harm.
struct Stage {
    bed: TestBed,
    roles: [Role; 3],
    author: Author,
    families: Arc<Vec<Uuid>>,
    key: String,
    token: String,
    attacked: Arc<Attacked>,
}

impl Stage {
    async fn set() -> Result<Self> {
        let bed = bed::make().await?;
        let mut author = Author::new(17);
        let families = bed::children(&mut author, 200);
        bed::register(&bed, &families).await?;
        let theirs = bed::children(&mut author, 1)[0];
        bed::register(&bed, &[theirs]).await?;
        let mut environment = bed::environment(&bed);
        // The limits that are in force where nobody says otherwise: within them one may do as one likes.
        environment.retain(|(name, _)| !["RIVULET_RATE", "RIVULET_BURST"].contains(name));
        environment.extend([
            ("RIVULET_TOKEN_SECRET", "fairness".repeat(8)),
            ("RIVULET_TOKEN_AUDIENCE", "rivulet".to_owned()),
        ]);
        let key = |name| process::key(name, "ingest", &environment);
        let (ours, worst) = (key("others").await?, key("worst").await?);
        let token = async |parent: Uuid| {
            let parent = parent.to_string();
            process::command(&["keys", "token", "--parent", &parent], &environment).await
        };
        let (token, their_token) = (token(families[0]).await?, token(theirs).await?);
        let roles = process::start_all(ROLES, &environment).await?;
        attacks::fill_history(&bed.pool, theirs).await?;
        let attacked = Attacked {
            ingest: roles[0].address.clone(),
            api: roles[2].address.clone(),
            key: worst,
            token: their_token,
            child: theirs,
        };
        Ok(Self {
            bed,
            roles,
            author,
            families: Arc::new(families),
            key: ours,
            token,
            attacked: Arc::new(attacked),
        })
    }

    /// What others notice in [`SECONDS`].
    async fn others(&mut self) -> Result<Noticed> {
        let markers = bed::children(&mut self.author, (SECONDS * MARKERS) as usize);
        bed::register(&self.bed, &markers).await?;
        let (posted, from_answers) = unbounded_channel();
        let pool = self.bed.pool.clone();
        let rows = tokio::spawn(watch(
            from_answers,
            Duration::from_millis(5),
            move |children| in_postgres(pool.clone(), children),
        ));
        let mut author = Author::new(u64::from(self.author.id().as_fields().0));
        let mut others = JoinSet::new();
        let (key, families) = (self.key.clone(), Arc::clone(&self.families));
        let batches: Vec<_> = (0..SECONDS * POSTS)
            .map(|request| {
                let child = families[request as usize % families.len()];
                let events = author.batch(child, Utc::now().timestamp_millis() - 300_000, EVENTS);
                (load::post(&key, &events), None)
            })
            .collect();
        others.spawn(ask(self.attacked.ingest.clone(), batches, POSTS, |_| ()));
        let read = load::get(&format!("/v1/children/{}/daily", families[0]), &self.token);
        let reads = vec![(read, None); (SECONDS * READS) as usize];
        let reads = tokio::spawn(ask(self.attacked.api.clone(), reads, READS, |_| ()));
        let firsts: Vec<_> = markers
            .iter()
            .map(|child| {
                let events = author.batch(*child, Utc::now().timestamp_millis() - 4_000, 1);
                (load::post(&key, &events), Some(*child))
            })
            .collect();
        others.spawn(ask(
            self.attacked.ingest.clone(),
            firsts,
            MARKERS,
            move |child| {
                // Nobody waits any more only after a failure, which is told.
                let _ = posted.send((child, std::time::Instant::now()));
            },
        ));
        let mut noticed = Noticed::default();
        while let Some(asked) = others.join_next().await {
            let (times, refused) = asked??;
            noticed.posts.extend(times);
            noticed.refused += refused;
        }
        let (times, refused) = reads.await??;
        noticed.reads = times;
        noticed.refused += refused;
        noticed.fresh = rows.await?.context("rows of others")?;
        Ok(noticed)
    }

    async fn end(self, report: &mut Report) -> Result<()> {
        for (name, role) in ROLES.iter().zip(self.roles) {
            let memory = process::peak_memory(&role)?;
            let name = format!("peak memory of {name} under all of it");
            report.at_most(&name, memory, "MiB", 256.0);
            role.stop().await?;
        }
        Ok(())
    }
}

/// Sends these requests, so many a second, and tells of those that were answered 200 and are of a child. Returns
/// the milliseconds from when each was due to its answer, and how many were not answered 200.
async fn ask(
    address: String,
    requests: Vec<(Vec<u8>, Option<Uuid>)>,
    a_second: u32,
    answered: impl Fn(Uuid) + Send + 'static,
) -> Result<(Vec<f64>, u32)> {
    let mut client = Client::connect(&address).await?;
    let (mut times, mut refused) = (Vec::with_capacity(requests.len()), 0);
    let mut ticks = ticks(a_second);
    let (all, started) = (requests.len(), Instant::now());
    for (request, child) in requests {
        if started.elapsed() > LIMIT {
            // Who gets no further is refused as good as all that is left.
            refused += (all - times.len()) as u32;
            break;
        }
        let due = ticks.tick().await.min(Instant::now());
        match client.send(&request).await {
            Ok(200) => {
                if let Some(child) = child {
                    answered(child);
                }
            }
            Ok(_) => refused += 1,
            Err(_) => {
                refused += 1;
                client = Client::connect(&address).await?;
            }
        }
        times.push(due.elapsed().as_secs_f64() * 1e3);
    }
    Ok((times, refused))
}
