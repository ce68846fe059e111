//! The queries of docs/analysts.md, as they stand there.

use crate::{bed::Bed, rollup::DAYS};

const PAGE: &str = include_str!("../../../docs/analysts.md");

/// Each query of the section, with the first line of the table below it.
fn queries() -> Vec<(&'static str, &'static str)> {
    let (_, section) = PAGE.split_once("\n## Ten questions, answered\n").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    section
        .split("\n```sql\n")
        .skip(1)
        .map(|rest| {
            let (sql, rest) = rest.split_once("\n```\n\n").unwrap();
            (sql, rest.lines().next().unwrap())
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_query_gives_rows_with_the_columns_of_the_page() {
    let bed = Bed::new().await;
    for day in DAYS - 12..DAYS {
        bed.fill(day, 0..800).await;
    }
    bed.refresh("all").await;
    let clickhouse = &bed.test.clickhouse;
    let (child, day): (String, String) = clickhouse
        .query("SELECT toString(any(child_id)), toString(local_date) FROM child_days GROUP BY local_date ORDER BY count() DESC LIMIT 1")
        .fetch_one()
        .await
        .unwrap();
    let queries = queries();
    assert_eq!(queries.len(), 10);
    for (sql, header) in queries {
        let answer = clickhouse
            .query(sql)
            .param("child", &child)
            .param("day", &day)
            .fetch_bytes("TabSeparatedWithNames")
            .unwrap()
            .collect()
            .await
            .unwrap();
        let answer = String::from_utf8(answer.to_vec()).unwrap();
        let (names, rows) = answer.split_once('\n').unwrap();
        assert_eq!(
            format!("| {} |", names.replace('\t', " | ")),
            header,
            "{sql}"
        );
        assert!(!rows.is_empty(), "no rows: {sql}");
    }
}
