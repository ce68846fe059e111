//! Clients of live streams: one that reads them, and what it knows of children by what it was told.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use chrono::NaiveDate;
use reqwest::{Response, StatusCode};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{Api, Family};

/// A client's end of a stream.
pub struct Stream {
    response: Response,
    /// Of the next event.
    text: Vec<u8>,
    events: VecDeque<(String, Value)>,
    /// Of its body, so far.
    pub bytes: usize,
}

impl Stream {
    pub async fn open(api: &Api, credential: &str, path: &str, last: Option<&str>) -> Self {
        let mut request = api.client.get(format!("{}{path}", api.url));
        // As browsers do; a stream that was compressed would be kept back until there is enough of it.
        request = request
            .bearer_auth(credential)
            .header("accept-encoding", "gzip");
        if let Some(id) = last {
            request = request.header("last-event-id", id);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert!(!response.headers().contains_key("content-encoding"));
        Self {
            response,
            text: Vec::new(),
            events: VecDeque::new(),
            bytes: 0,
        }
    }

    pub async fn of(api: &Api, family: &Family) -> Self {
        let path = format!("/v1/children/{}/live", family.child);
        Self::open(api, &family.token, &path, None).await
    }

    /// The next update's id and data; `None` when the stream has ended.
    pub async fn next(&mut self) -> Option<(String, Value)> {
        // Comments come all the time.
        let next = tokio::time::timeout(Duration::from_secs(60), self.read());
        next.await.expect("nothing was told")
    }

    async fn read(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(event);
            }
            let chunk = self.response.chunk().await.ok().flatten()?;
            self.bytes += chunk.len();
            self.text.extend(chunk);
            while let Some(end) = self.text.windows(2).position(|end| end == b"\n\n") {
                let event: Vec<u8> = self.text.drain(..end + 2).collect();
                let event = String::from_utf8(event).unwrap();
                let field = |name: &str| {
                    let value =
                        |line: &str| line.strip_prefix(name).map(|value| value.trim().to_owned());
                    event.lines().find_map(value)
                };
                if field("event:").as_deref() == Some("update") {
                    let data = serde_json::from_str(&field("data:").unwrap()).unwrap();
                    self.events.push_back((field("id:").unwrap(), data));
                }
            }
        }
    }

    pub async fn update(&mut self) -> (String, Value) {
        self.next().await.expect("the stream has ended")
    }
}

/// What a client knows of a child, to the column.
#[derive(Clone, Debug, Default)]
pub struct Copy {
    pub today: NaiveDate,
    pub timezone: String,
    pub streak: Value,
    pub days: BTreeMap<NaiveDate, Value>,
}

impl Copy {
    /// Takes an update up as docs/reading.md says; one that does not fit fails the test.
    pub fn take(copies: &mut BTreeMap<Uuid, Self>, update: &Value) {
        let date = |value: &Value| -> NaiveDate { value.as_str().unwrap().parse().unwrap() };
        let child = update["child_id"].as_str().unwrap().parse().unwrap();
        let is_whole = update["whole"].as_bool().unwrap();
        assert!(is_whole || copies.contains_key(&child), "{update}");
        let copy = copies.entry(child).or_default();
        copy.today = date(&update["today"]);
        update["timezone"]
            .as_str()
            .unwrap()
            .clone_into(&mut copy.timezone);
        if let Some(streak) = update.get("streak") {
            copy.streak = streak.clone();
        }
        assert_eq!(update.get("from").is_some(), is_whole);
        if is_whole {
            copy.days.retain(|day, _| *day < date(&update["from"]));
            assert!(update.get("streak").is_some());
        }
        for day in update["empty"].as_array().unwrap() {
            copy.days.remove(&date(day));
        }
        for day in update["days"].as_array().unwrap() {
            let told = day.as_object().unwrap().clone();
            let date = date(&day["local_date"]);
            if day.get("partial").is_none() {
                copy.days.insert(date, Value::Object(told));
                continue;
            }
            assert!(!is_whole);
            let row = copy
                .days
                .get_mut(&date)
                .expect("a difference of a day that was told");
            apply(row.as_object_mut().unwrap(), told);
        }
    }
}

fn apply(row: &mut Map<String, Value>, mut told: Map<String, Value>) {
    assert_eq!(told.remove("partial"), Some(json!(true)));
    for (name, value) in told {
        let (column, is_added) = match (name.strip_suffix("_added"), name.strip_suffix("_removed"))
        {
            (Some(column), _) => (column, true),
            (_, Some(column)) => (column, false),
            _ => {
                assert!(row.insert(name.clone(), value).is_some(), "{name}");
                continue;
            }
        };
        let texts =
            |value: &Value| -> BTreeSet<String> { serde_json::from_value(value.clone()).unwrap() };
        let (mut list, changes) = (texts(&row[column]), texts(&value));
        for text in changes {
            let fits = match is_added {
                true => list.insert(text),
                false => list.remove(&text),
            };
            assert!(fits, "{name}: {value}");
        }
        // In the order of bytes.
        row[column] = json!(list);
    }
}
