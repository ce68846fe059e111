use std::sync::OnceLock;

use chrono::{TimeDelta, TimeZone as _};
use rivulet_sandbox::TestBed;
use rivulet_zones::Zone;
use serde_json::json;
use uuid::Uuid;

use super::*;

const KEY: Viewer = Viewer::Product([0; 32]);

fn child() -> ChildId {
    ChildId::new(Uuid::new_v4())
}

/// Feeds that can read nothing: what they tell is up to the test.
fn feeds() -> Arc<Feeds> {
    let pool = PgPool::connect_lazy("postgres://nobody@127.0.0.1:1/none").unwrap();
    Feeds::new(pool, 1, Utc::now)
}

/// Tells that a family's child has so many events today, and a topic of so many bytes.
fn tell(feed: &Feed, parent: ParentId, events: usize, bytes: usize) {
    let (look, _, before) = feed.begin();
    let today = "2026-05-04".parse().unwrap();
    let topic = format!("{events}{}", "x".repeat(bytes));
    let row = json!({"local_date": today, "events": events, "topic": topic});
    let seen = Seen {
        parent,
        timezone: Zone::utc(),
        today,
        streak: Text::of(&Value::Null).unwrap(),
        rows: [(today, Text::of(&row).unwrap())].into(),
        is_whole: true,
        heard: BTreeSet::new(),
        unread: BTreeSet::new(),
    };
    feed.publish(look, before, seen).unwrap();
}

/// The events of today as they are told, one after another, and what ended that.
fn told(watch: &mut Watch) -> Vec<String> {
    let mut told = Vec::new();
    loop {
        let (kind, text) = match watch.news() {
            None => return told,
            Some(News::End) => {
                told.push("end".to_owned());
                return told;
            }
            Some(News::Whole { pieces, .. }) => ("whole", pieces.concat()),
            Some(News::Update(piece)) => ("update", piece.to_vec()),
        };
        let update: Value = serde_json::from_slice(&text).unwrap();
        told.push(format!("{kind} {}", update["days"][0]["events"]));
    }
}

#[tokio::test]
async fn all_are_told_the_same_and_who_is_too_slow_is_told_the_state() {
    let (feeds, parent) = (feeds(), ParentId::new(Uuid::new_v4()));
    let [mut quick, mut slow] = [(); 2].map(|()| feeds.watch(KEY, None, vec![child()]).unwrap());
    drop((quick, slow));
    let child = child();
    [quick, slow] = [(); 2].map(|()| feeds.watch(KEY, None, vec![child]).unwrap());
    let feed = Arc::clone(&quick.followed[0].feed);
    assert_eq!(told(&mut quick), [""; 0]);
    tell(&feed, parent, 1, 0);
    assert_eq!(
        (told(&mut quick), told(&mut slow)),
        (vec!["whole 1".to_owned()], vec!["whole 1".to_owned()])
    );
    for events in 2..=KEPT {
        tell(&feed, parent, events, 0);
        assert_eq!(told(&mut quick), [format!("update {events}")]);
    }
    let missed: Vec<_> = (2..=KEPT)
        .map(|events| format!("update {events}"))
        .collect();
    assert_eq!(told(&mut slow), missed);
    assert_eq!(slow.id(), quick.id());
    for events in 1..=KEPT + 1 {
        tell(&feed, parent, 100 + events, 0);
    }
    assert_eq!(told(&mut slow), [format!("whole {}", 100 + KEPT + 1)]);
    // Nothing is told where nothing is new.
    tell(&feed, parent, 100 + KEPT + 1, 0);
    assert_eq!(told(&mut slow), [""; 0]);

    // They are bounded in bytes too, but for the last.
    tell(&feed, parent, 201, KEPT_BYTES);
    assert_eq!(told(&mut slow), ["update 201"]);
    tell(&feed, parent, 202, KEPT_BYTES);
    tell(&feed, parent, 203, KEPT_BYTES);
    assert_eq!(feed.inner.lock().updates.len(), 1);
    assert_eq!(
        (told(&mut quick), told(&mut slow)),
        (vec!["whole 203".to_owned()], vec!["whole 203".to_owned()])
    );

    // Whoever comes waits for a look of their own, and is told nothing that they know.
    let mut late = feeds.watch(KEY, None, vec![child]).unwrap();
    assert!(!late.followed[0].has_news());
    tell(&feed, parent, 203, KEPT_BYTES);
    assert!(late.is_known(&quick.id()));
    assert_eq!(told(&mut late), [""; 0]);
    let mut other = feeds.watch(KEY, None, vec![child]).unwrap();
    tell(&feed, parent, 204, 0);
    assert!(!other.is_known(&quick.id()));
    assert_eq!(
        (told(&mut late), told(&mut other)),
        (vec!["update 204".to_owned()], vec!["whole 204".to_owned()])
    );
}

#[tokio::test]
async fn a_child_that_moves_is_told_anew_and_to_its_new_family() {
    let feeds = feeds();
    let [from, to] = [(); 2].map(|()| ParentId::new(Uuid::new_v4()));
    let child = child();
    let mut product = feeds.watch(KEY, None, vec![child]).unwrap();
    let mut parent = feeds
        .watch(Viewer::Parent(from), Some(from), vec![child])
        .unwrap();
    let mut next = feeds
        .watch(Viewer::Parent(to), Some(to), vec![child])
        .unwrap();
    let feed = Arc::clone(&product.followed[0].feed);
    tell(&feed, from, 1, 0);
    assert_eq!(told(&mut parent), ["whole 1"]);
    assert_eq!(told(&mut next), ["end"]);
    tell(&feed, to, 1, 0);
    assert_eq!(told(&mut parent), ["end"]);
    assert_eq!(told(&mut product), ["whole 1"]);
    assert_eq!(told(&mut next), ["whole 1"]);
    drop(End(&feed));
    assert_eq!(told(&mut product), ["end"]);
}

#[tokio::test]
async fn old_days_that_are_heard_of_while_a_child_moves_are_not_forgotten() {
    let feeds = feeds();
    let watch = feeds.watch(KEY, None, vec![child()]).unwrap();
    let feed = Arc::clone(&watch.followed[0].feed);
    tell(&feed, ParentId::new(Uuid::new_v4()), 1, 0);
    let (look, heard, before) = feed.begin();
    assert!(heard.is_nothing());
    let [older, old] = ["2024-02-28", "2024-02-29"].map(|day| day.parse::<NaiveDate>().unwrap());
    let mut seen = Seen {
        parent: ParentId::new(Uuid::new_v4()),
        timezone: Zone::utc(),
        today: "2026-05-04".parse().unwrap(),
        streak: Text::of(&Value::Null).unwrap(),
        rows: [].into(),
        is_whole: true,
        heard: BTreeSet::from([old]),
        unread: BTreeSet::from([older]),
    };
    seen.heard.insert(seen.today);
    feed.publish(look, before, seen).unwrap();
    assert_eq!(feed.begin().1.days, BTreeSet::from([older, old]));
}

#[tokio::test]
async fn nobody_takes_every_place_and_places_are_given_back() {
    let feeds = feeds();
    let [ours, theirs] = [(); 2].map(|()| child());
    let more: Vec<_> = (0..100)
        .map_while(|_| feeds.watch(KEY, None, vec![theirs, ours]))
        .collect();
    assert_eq!(more.len(), STREAMS_A_CHILD);
    assert!(feeds.watch(KEY, None, vec![ours]).is_none());
    let parent = Viewer::Parent(ParentId::new(Uuid::new_v4()));
    let many: Vec<_> = (0..100)
        .map_while(|_| feeds.watch(parent, None, vec![child()]))
        .collect();
    assert_eq!(many.len(), STREAMS_A_PARENT);
    assert!(feeds.watch(KEY, None, vec![child()]).is_some());
    drop((more, many));
    assert!(feeds.watch(parent, None, vec![ours]).is_some());
    let watched = feeds.watched.lock();
    assert!(watched.feeds.is_empty() && watched.parents.is_empty());
}

#[test]
fn what_is_heard_is_looked_at_some_days_at_a_time() {
    let first: NaiveDate = "2026-01-01".parse().unwrap();
    let mut heard = Heard {
        everything: true,
        days: first.iter_days().take(DAYS + 5).collect(),
    };
    let some = heard.take();
    assert!(some.everything && some.days.len() == DAYS && some.days.contains(&first));
    assert!(!heard.everything && heard.days.len() == 5);
    heard.merge(some);
    assert!(heard.everything && heard.days.len() == DAYS + 5);
}

/// A little before midnight of 4 May 2026 when it is first asked.
fn late() -> DateTime<Utc> {
    static OFFSET: OnceLock<TimeDelta> = OnceLock::new();
    let night = Utc.with_ymd_and_hms(2026, 5, 4, 23, 59, 57).unwrap();
    Utc::now() + *OFFSET.get_or_init(|| night - Utc::now())
}

#[tokio::test(flavor = "multi_thread")]
async fn at_midnight_it_is_another_day_though_nothing_was_committed() {
    let bed = TestBed::new().await;
    rivulet_migrations::postgres(&bed.pool).await.unwrap();
    let (parent, child) = (Uuid::new_v4(), child());
    for sql in [
        "INSERT INTO parents (id, timezone) SELECT $1, 'UTC' WHERE $2::uuid IS NOT NULL",
        "INSERT INTO children (id, parent_id, age_group) VALUES ($2, $1, 'wonder_cubs')",
        "INSERT INTO streaks SELECT $2, s.*, d, 1 FROM (SELECT '{[2026-05-03,2026-05-04)}'::datemultirange AS d) x,
             streak_of(d) s WHERE $1::uuid IS NOT NULL",
    ] {
        let insert = sqlx::query(sql).bind(parent).bind(child.uuid());
        insert.execute(&bed.pool).await.unwrap();
    }
    let feeds = Feeds::new(bed.pool.clone(), 1, late);
    let mut watches = [(); 2].map(|()| feeds.watch(KEY, None, vec![child]).unwrap());
    for watch in &mut watches {
        watch.wait(true).await;
        let Some(News::Whole { pieces, .. }) = watch.news() else {
            panic!("not whole");
        };
        let update: Value = serde_json::from_slice(&pieces.concat()).unwrap();
        assert_eq!(
            (&update["today"], &update["streak"]["streak_today"]),
            (&json!("2026-05-04"), &json!(1))
        );
    }
    for watch in &mut watches {
        watch.wait(true).await;
        let Some(News::Update(piece)) = watch.news() else {
            panic!("no difference");
        };
        let update: Value = serde_json::from_slice(&piece).unwrap();
        assert_eq!(
            (&update["today"], &update["streak"]["streak_today"]),
            (&json!("2026-05-05"), &json!(0))
        );
        assert_eq!(
            (&update["whole"], &update["days"]),
            (&json!(false), &json!([]))
        );
    }
    assert_eq!(watches[0].followed[0].feed.inner.lock().looks, 2);
}
