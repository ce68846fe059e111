//! `rivulet tail`

use std::{
    collections::{HashSet, VecDeque},
    io::{self, ErrorKind, IsTerminal as _, Write as _},
    time::Duration,
};

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use rivulet_auditlog::{Action, Entry, record_now};
use rivulet_inspect::{
    Durability, Fate, Fates, Filter, History, Node, Observation, Outcome, Rollups, Told, Trouble,
    client, curl, follow, node,
};
use rivulet_migrations::logins::Login;
use serde::Serialize;
use sqlx::PgPool;
use tokio::{sync::mpsc, task::JoinSet, time::Instant};
use uuid::Uuid;

use crate::{
    exposure::{is_plain_text_elsewhere, warn_once},
    services::{OptionalClickHouse, OptionalPostgres},
    supervise::stop_signal,
};

/// How often the stores are asked what became of events, at most.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Events that wait to be shown, at most. Beyond it the oldest is shown as it is.
const MOST_WAITING: usize = 1_000;

/// Shows each event that arrives from now on: what it was answered, and where it went. Text is never shown, because it is
/// never kept. The ingest nodes must run with RIVULET_INSPECT=on.
///
/// With DATABASE_URL and CLICKHOUSE_URL it also tells what became of accepted events: counted or a copy, in the history
/// after how long. An event is then shown once that is known.
#[derive(Args)]
pub(crate) struct Tail {
    /// An ingest node; several separated by commas, or given again.
    #[arg(
        long,
        env = "RIVULET_INGEST_URL",
        value_delimiter = ',',
        default_value = "http://127.0.0.1:8080"
    )]
    url: Vec<String>,
    /// A key with scope `admin`.
    #[arg(long, env = "RIVULET_ADMIN_KEY", hide_env_values = true)]
    admin_key: String,
    /// Only events of this child.
    #[arg(long, value_name = "ID")]
    child: Option<Uuid>,
    /// Only events that come with the API key of this name.
    #[arg(long, value_name = "NAME")]
    key: Option<String>,
    /// Only events that are rejected with this code, or requests that are refused with it.
    #[arg(long)]
    code: Option<String>,
    /// Only events of this outcome: accepted, rejected, retry, or refused for requests.
    #[arg(long, value_parser = outcome)]
    outcome: Option<Outcome>,
    /// As JSON, a line an event.
    #[arg(long)]
    json: bool,
    /// With each event the curl that posts it again as a dry run, with made-up data.
    #[arg(long)]
    curl: bool,
    /// How long an event waits until it is known what became of it.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(0..=3_600))]
    wait: u64,
    #[command(flatten)]
    postgres: OptionalPostgres,
    #[command(flatten)]
    clickhouse: OptionalClickHouse,
}

fn outcome(word: &str) -> Result<Outcome, String> {
    let known = Outcome::ALL
        .into_iter()
        .find(|known| known.as_str() == word);
    known.ok_or_else(|| "must be accepted, rejected, retry or refused".to_owned())
}

impl Tail {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let nodes = self.nodes()?;
        let client = client().context("no HTTPS client can be made")?;
        let (to, mut told) = mpsc::channel(64);
        let mut following = JoinSet::new();
        for (number, node) in nodes.iter().enumerate() {
            following.spawn(follow(client.clone(), node.clone(), number, to.clone()));
        }
        drop(to);
        let mut shown = Shown::new(&self, nodes)?;
        let mut stopped = std::pin::pin!(stop_signal());
        loop {
            let next = shown.next_look();
            let step = tokio::select! {
                () = &mut stopped => return shown.end(),
                told = told.recv() => match told {
                    Some((node, told)) => shown.tell(node, told),
                    // Every node is beyond hope.
                    None => bail!("no node is left to watch"),
                },
                () = tokio::time::sleep_until(next), if shown.is_waiting() => shown.look().await,
            };
            match step {
                // Whoever reads has seen enough.
                Err(error) if is_broken_pipe(&error) => return Ok(()),
                step => step?,
            }
        }
    }

    fn nodes(&self) -> anyhow::Result<Vec<Node>> {
        let key = self.admin_key.trim();
        if key.is_empty() {
            bail!(
                "RIVULET_ADMIN_KEY is empty, so nothing would be shown: rivulet keys create --name NAME --scope admin"
            );
        }
        if self.url.iter().any(|url| is_plain_text_elsewhere(url)) {
            warn_once(
                "ingest is spoken to in plain text: everybody on the way can read the key and see whose events \
                 come; an https:// URL encrypts and verifies",
            );
        }
        let filter = Filter {
            child: self.child,
            key: self.key.clone(),
            code: self.code.clone(),
            outcome: self.outcome,
        };
        let of_url = |url: &String| {
            Ok(Node {
                url: node(url).map_err(|bad| anyhow!("RIVULET_INGEST_URL: {bad}"))?,
                key: key.to_owned(),
                filter: filter.clone(),
            })
        };
        self.url.iter().map(of_url).collect()
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<io::Error>();
    io.is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}

/// What is told, and waits to be shown.
struct Shown {
    nodes: Vec<Node>,
    is_up: Vec<bool>,
    has_been_up: Vec<bool>,
    json: bool,
    curl: bool,
    colour: bool,
    wait: Duration,
    stores: Option<(PgPool, Fates)>,
    are_stores_away: bool,
    /// Children of whom the audit log has that it was asked what became of their events.
    recorded: HashSet<Uuid>,
    look_at: Instant,
    number: u64,
    waiting: VecDeque<Waiting>,
}

struct Waiting {
    number: u64,
    node: usize,
    seen: Observation,
    fate: Option<Fate>,
    until: Instant,
}

#[derive(Serialize)]
struct Line<'l> {
    node: &'l str,
    #[serde(flatten)]
    seen: &'l Observation,
    #[serde(flatten)]
    fate: Option<Fate>,
    #[serde(skip_serializing_if = "Option::is_none")]
    curl: Option<String>,
}

impl Shown {
    fn new(tail: &Tail, nodes: Vec<Node>) -> anyhow::Result<Self> {
        let pool = tail.postgres.pool(Login::Operator, "tail", 2)?;
        let clickhouse = tail.clickhouse.client()?;
        let wants_colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Ok(Self {
            is_up: vec![false; nodes.len()],
            has_been_up: vec![false; nodes.len()],
            nodes,
            json: tail.json,
            curl: tail.curl,
            colour: wants_colour && io::stdout().is_terminal(),
            wait: Duration::from_secs(tail.wait),
            stores: pool.map(|pool| (pool.clone(), Fates::new(pool, clickhouse))),
            are_stores_away: false,
            recorded: HashSet::new(),
            look_at: Instant::now(),
            number: 0,
            waiting: VecDeque::new(),
        })
    }

    fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    fn next_look(&self) -> Instant {
        self.look_at
    }

    fn tell(&mut self, node: usize, told: Told) -> anyhow::Result<()> {
        match told {
            Told::Up => {
                if !std::mem::replace(&mut self.is_up[node], true) {
                    self.say(node, "shows what arrives");
                }
                self.has_been_up[node] = true;
            }
            Told::Missed(missed) => {
                self.say(
                    node,
                    &format!("{missed} more arrived, faster than they could be shown"),
                );
            }
            // After an hour, or because the node stops: it is asked again at once.
            Told::Down(Trouble::Ended) => {}
            Told::Down(trouble) => {
                let advice = advice(&trouble);
                let is_hopeless = trouble.is_final() || !self.has_been_up[node];
                if is_hopeless {
                    bail!("{}: {trouble}{advice}", self.nodes[node].url);
                }
                if std::mem::replace(&mut self.is_up[node], false) {
                    self.say(node, &format!("{trouble}; it is tried again"));
                }
            }
            Told::Seen(seen) => {
                let number = self.number;
                self.number += 1;
                let mut until = Instant::now();
                if let Some((_, fates)) = &mut self.stores
                    && seen.is_stored()
                {
                    until += self.wait;
                    let given_up = fates.add(number, &seen);
                    self.settle(given_up.into_iter());
                }
                self.waiting.push_back(Waiting {
                    number,
                    node,
                    seen: *seen,
                    fate: None,
                    until,
                });
                return self.show();
            }
        }
        Ok(())
    }

    fn say(&self, node: usize, what: &str) {
        eprintln!("rivulet: {}: {what}", self.nodes[node].url);
    }

    fn settle(&mut self, news: impl Iterator<Item = (u64, Fate)>) {
        for (number, fate) in news {
            if let Some(waiting) = self
                .waiting
                .iter_mut()
                .find(|waiting| waiting.number == number)
            {
                waiting.fate = Some(fate);
            }
        }
    }

    /// Asks the stores what became of what waits.
    async fn look(&mut self) -> anyhow::Result<()> {
        self.look_at = Instant::now() + LOOK_EVERY;
        if let Some((pool, fates)) = &mut self.stores
            && fates.has_open()
        {
            let stored = self
                .waiting
                .iter()
                .filter(|waiting| waiting.seen.is_stored());
            let new: HashSet<Uuid> = stored
                .filter_map(|waiting| waiting.seen.child_id)
                .filter(|child| !self.recorded.contains(child))
                .collect();
            let asked = async {
                if !new.is_empty() {
                    let entry = Entry::done(Action::Read).children(new.iter().copied());
                    record_now(pool, entry.detail("kinds", vec!["tail"])).await?;
                }
                anyhow::Ok(fates.look().await?)
            };
            match asked.await {
                Ok(news) => {
                    self.are_stores_away = false;
                    self.recorded.extend(new);
                    self.settle(news.into_iter());
                }
                Err(error) => {
                    if !std::mem::replace(&mut self.are_stores_away, true) {
                        eprintln!("rivulet: what became of events cannot be asked now: {error}");
                    }
                }
            }
        }
        self.show()
    }

    /// Shows what waits for nothing, in the order of its arrival.
    fn show(&mut self) -> anyhow::Result<()> {
        let now = Instant::now();
        while let Some(first) = self.waiting.front() {
            let is_settled = first.fate.is_some_and(|fate| fate.is_settled());
            if !is_settled && first.until > now && self.waiting.len() <= MOST_WAITING {
                break;
            }
            if let Some(waiting) = self.waiting.pop_front() {
                self.print(&waiting)?;
            }
        }
        Ok(())
    }

    /// Shows what is left, as it is.
    fn end(mut self) -> anyhow::Result<()> {
        while let Some(waiting) = self.waiting.pop_front() {
            match self.print(&waiting) {
                Err(error) if is_broken_pipe(&error) => return Ok(()),
                printed => printed?,
            }
        }
        Ok(())
    }

    fn print(&self, waiting: &Waiting) -> anyhow::Result<()> {
        let Waiting {
            node, seen, fate, ..
        } = waiting;
        let curl = self.curl.then(|| curl(seen)).flatten();
        let mut out = io::stdout().lock();
        if self.json {
            let line = Line {
                node: &self.nodes[*node].url,
                seen,
                fate: *fate,
                curl,
            };
            serde_json::to_writer(&mut out, &line).map_err(io::Error::from)?;
            writeln!(out)?;
        } else {
            writeln!(out, "{}", line(seen, *fate, self.colour))?;
            for line in curl.iter().flat_map(|curl| curl.lines()) {
                writeln!(out, "    {line}")?;
            }
        }
        Ok(out.flush()?)
    }
}

/// What to do about it.
const fn advice(trouble: &Trouble) -> &'static str {
    match trouble {
        Trouble::Unauthorized | Trouble::Forbidden => {
            ": make one with `rivulet keys create --name NAME --scope admin`, and give it as RIVULET_ADMIN_KEY"
        }
        Trouble::Off => ": start the node with RIVULET_INSPECT=on, or give its address as --url",
        Trouble::Unreachable(_) => {
            ": is it the address of an ingest node? Give it as --url or RIVULET_INGEST_URL"
        }
        _ => "",
    }
}

/// An event on a line: when, what it was answered, its type, its child's first eight digits, its id, and the rest.
fn line(seen: &Observation, fate: Option<Fate>, colour: bool) -> String {
    let word = match (seen.dry_run, seen.durability) {
        (true, _) => format!("{} (dry run)", seen.outcome.as_str()),
        (_, Some(Durability::Spilled)) => "accepted (spilled)".to_owned(),
        _ => seen.outcome.as_str().to_owned(),
    };
    let (on, off) = match (colour, seen.outcome) {
        (false, _) | (_, Outcome::Accepted) => ("", ""),
        (true, Outcome::Retry) => ("\x1b[33m", "\x1b[0m"),
        (true, _) => ("\x1b[31m", "\x1b[0m"),
    };
    let child = seen.child_id.map_or_else(
        || "-".to_owned(),
        |child| child.simple().to_string()[..8].to_owned(),
    );
    let id = seen.id.map_or_else(|| "-".to_owned(), |id| id.to_string());
    let mut rest = Vec::new();
    match (&seen.key, &seen.family) {
        (Some(key), _) => rest.push(format!("key {key}")),
        (None, Some(family)) => rest.push(format!("family {}", family.get(..8).unwrap_or(family))),
        (None, None) => {}
    }
    if let Some(status) = seen.status {
        rest.push(status.to_string());
    }
    rest.extend(seen.code.clone());
    rest.extend(seen.pointer.clone());
    if let (Some(topic), Some(partition), Some(offset)) = (&seen.topic, seen.partition, seen.offset)
    {
        rest.push(format!("{topic}[{partition}]@{offset}"));
    }
    rest.extend(fate.map(told));
    if seen.withheld && fate.is_none() {
        rest.push("withheld from the history".to_owned());
    }
    rest.extend(seen.warnings.iter().cloned());
    // Whatever a client called its fields, it moves no cursor.
    let rest: String = rest
        .join("  ")
        .chars()
        .filter(|c| !c.is_control())
        .collect();
    let line = format!(
        "{}  {on}{word:<18}{off}  {:<11}  {child:<8}  {id:<36}  {rest}",
        seen.received_at.format("%H:%M:%S%.3f"),
        seen.event_type.as_deref().unwrap_or("-"),
    );
    line.trim_end().to_owned()
}

fn told(fate: Fate) -> String {
    let rollups = match (fate.rollups, fate.duplicate_of) {
        (Rollups::Waiting, _) => "not counted yet".to_owned(),
        (Rollups::Counted, _) => "counted".to_owned(),
        (Rollups::Duplicate, Some(offset)) => format!("a copy of offset {offset}"),
        (Rollups::Duplicate, None) => "a copy of one that is counted".to_owned(),
        (Rollups::NotCounted, _) => "not counted (`rivulet trace` says why)".to_owned(),
        (Rollups::Unknown, _) => "counted or not is not known".to_owned(),
    };
    let history = match (fate.history, fate.history_after_ms) {
        (None | Some(History::Duplicate), _) => return rollups,
        (Some(History::Waiting), _) => "not in the history yet".to_owned(),
        (Some(History::Stored), Some(after)) => {
            format!(
                "in the history after {}.{} s",
                after / 1_000,
                after % 1_000 / 100
            )
        }
        (Some(History::Stored), None) => "in the history".to_owned(),
        (Some(History::Withheld), _) => "withheld from the history".to_owned(),
        (Some(History::NotStored), _) => "not in the history (`rivulet trace` says why)".to_owned(),
        (Some(History::Unknown), _) => "in the history or not is not known".to_owned(),
    };
    format!("{rollups}, {history}")
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;

    fn seen() -> Observation {
        serde_json::from_value(serde_json::json!({
            "request_id": "r", "received_at": "2026-05-04T09:30:00.250Z", "key": "tablet", "family": null, "index": 0,
            "id": "0197a1b2-1111-7222-8333-444444444444", "type": "message",
            "child_id": "0f9e8d7c-2222-4222-8333-444444444444", "occurred_at": "2026-05-04T09:30:00Z", "sent_at": null,
            "outcome": "accepted", "topic": "rivulet.message", "partition": 3, "offset": 17,
        }))
        .unwrap()
    }

    #[test]
    fn a_line_is_aligned_and_calm() {
        let fate = Fate {
            rollups: Rollups::Counted,
            history: Some(History::Stored),
            duplicate_of: None,
            history_after_ms: Some(1_234),
        };
        assert_eq!(
            line(&seen(), Some(fate), true),
            "09:30:00.250  accepted            message      0f9e8d7c  0197a1b2-1111-7222-8333-444444444444  key tablet  \
             rivulet.message[3]@17  counted, in the history after 1.2 s"
        );
        let refused = Observation {
            outcome: Outcome::Refused,
            status: Some(401),
            code: Some("unauthorized".to_owned()),
            received_at: DateTime::UNIX_EPOCH,
            key: None,
            id: None,
            event_type: None,
            child_id: None,
            topic: None,
            ..seen()
        };
        let plain = line(&refused, None, false);
        assert!(
            plain.ends_with("-         -                                     401  unauthorized"),
            "{plain}"
        );
        assert!(
            plain.starts_with("00:00:00.000  refused             -            "),
            "{plain}"
        );
        let coloured = line(&refused, None, true);
        assert_eq!(
            coloured.replace("\x1b[31m", "").replace("\x1b[0m", ""),
            plain
        );
    }

    #[test]
    fn what_a_client_named_moves_no_cursor() {
        let named = Observation {
            warnings: vec!["unknown_field:data.\x1b[2J\n".to_owned()],
            ..seen()
        };
        let plain = line(&named, None, false);
        assert!(!plain.contains(char::is_control), "{plain:?}");
    }
}
