//! ClickHouse has no transactions over DDL, so every statement is idempotent and all of them run,
//! in file order, each time. Nothing records what ran: running it again is how it is repaired.

use rivulet_events::{Device, EventType, contract::Column};
use rivulet_retention::Policy;

use crate::{
    Error,
    retention::{self, Ttl},
};

/// The files of `migrations/clickhouse`, in order. `{database}` in them is the database's name,
/// quoted, and `{events_ttl}` and `{days_ttl}` are those of the default of retention.toml; a statement ends with a `;` at
/// the end of a line.
const FILES: &[&str] = &[
    include_str!("../clickhouse/0001_events.sql"),
    include_str!("../clickhouse/0002_history.sql"),
    include_str!("../clickhouse/0003_views.sql"),
    include_str!("../clickhouse/0004_child_days.sql"),
    include_str!("../clickhouse/0005_comments.sql"),
    include_str!("../clickhouse/0006_recount.sql"),
    include_str!("../clickhouse/0007_erasure.sql"),
    include_str!("../clickhouse/0010_erased_to.sql"),
    include_str!("../clickhouse/0011_revocations.sql"),
];

/// Two nodes that replace a view at the same moment may meet; the loser repeats its statement.
const ATTEMPTS: u32 = 5;

/// The roles of ClickHouse's users, in the same form.
const ROLES: &str = include_str!("../clickhouse/roles.sql");

/// Brings the ClickHouse database up to date, creating it if it is not there.
///
/// The client's own database is not used, so it need not exist.
///
/// # Errors
/// ClickHouse refused a statement; those before it are in force.
pub async fn clickhouse(client: &clickhouse::Client, database: &str) -> Result<(), Error> {
    // The one database that is always there: a request that names another is refused.
    let client = client.clone().with_database("system");
    let database = quote(database);
    run(
        &client,
        &format!("CREATE DATABASE IF NOT EXISTS {database}"),
    )
    .await?;
    let ttls = retention::ttls(&Policy::default());
    for statement in all_statements().into_iter().chain(comments()) {
        let mut statement = statement.replace("{database}", &database);
        for Ttl { table, text } in &ttls {
            let name = if *table == "events" {
                "{events_ttl}"
            } else {
                "{days_ttl}"
            };
            statement = statement.replace(name, text);
        }
        run(&client, &statement).await?;
    }
    Ok(())
}

/// Makes the roles that users of this database may be given, where ClickHouse keeps roles and the client's user may make
/// them. Says why it made none.
///
/// # Errors
/// ClickHouse does not answer.
pub async fn clickhouse_roles(
    client: &clickhouse::Client,
    database: &str,
) -> Result<Option<String>, Error> {
    let client = client.clone().with_database("system");
    let places: u64 = client
        .query("SELECT count() FROM user_directories WHERE type != 'users_xml'")
        .fetch_one()
        .await?;
    if places == 0 {
        return Ok(Some("this one keeps none".to_owned()));
    }
    let database = quote(database);
    for statement in statements(ROLES) {
        match run(&client, &statement.replace("{database}", &database)).await {
            Ok(()) => {}
            Err(Error::ClickHouse(clickhouse::error::Error::BadResponse(refused))) => {
                return Ok(Some(refused));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// All statements, in order. A view that a later file replaces is made by the earlier one only where there is
/// none, for the views between: every run would bring the older one back for a moment, with other columns.
fn all_statements() -> Vec<String> {
    const REPLACES: &str = "CREATE OR REPLACE VIEW ";
    let mut all: Vec<String> = FILES.iter().flat_map(|file| statements(file)).collect();
    for at in 0..all.len() {
        let head = all[at].lines().next().unwrap_or_default();
        if let Some(view) = head.strip_prefix(REPLACES)
            && all[at + 1..].iter().any(|later| later.starts_with(head))
        {
            let body = &all[at][head.len()..];
            all[at] = format!("CREATE VIEW IF NOT EXISTS {view}{body}");
        }
    }
    all
}

/// What every declared column is, where a tool shows it beside the name. Last: replacing a view forgets it.
fn comments() -> [String; 2] {
    let mut declared: Vec<(&Column, Vec<&str>)> = Vec::new();
    for column in Device::DECLARATION.columns {
        declared.push((column, Vec::new()));
    }
    for kind in EventType::ALL {
        for column in kind.declaration().columns {
            match declared.iter_mut().find(|(of, _)| of.name == column.name) {
                Some((_, kinds)) => kinds.push(kind.as_str()),
                None => declared.push((column, vec![kind.as_str()])),
            }
        }
    }
    let comments: Vec<_> = declared
        .iter()
        .map(
            |(
                Column {
                    name, about, rule, ..
                },
                kinds,
            )| {
                let kinds = match kinds.as_slice() {
                    [] => String::new(),
                    kinds => format!("{}: ", kinds.join(", ")),
                };
                let comment = format!("{kinds}{about} {rule}")
                    .trim_end()
                    .replace('\'', "''");
                format!("COMMENT COLUMN {name} '{comment}'")
            },
        )
        .collect();
    ["events", "history"].map(|table| {
        format!(
            "ALTER TABLE {{database}}.{table}\n    {}",
            comments.join(",\n    ")
        )
    })
}

pub(crate) async fn run(client: &clickhouse::Client, statement: &str) -> Result<(), Error> {
    let mut attempt = 1;
    loop {
        // `query_raw`, because `query` takes a `?` in a comment for a parameter.
        match client.query_raw(statement).execute().await {
            Err(error) if attempt < ATTEMPTS && lost_a_race(&error) => attempt += 1,
            done => return Ok(done?),
        }
    }
}

/// `UNKNOWN_TABLE`, `TABLE_ALREADY_EXISTS`, `DATABASE_ALREADY_EXISTS`, `TABLE_IS_DROPPED`, `DDL_GUARD_IS_ACTIVE`,
/// `CANNOT_ASSIGN_ALTER`: what a statement that says `IF NOT EXISTS` or `OR REPLACE`, or an ALTER of what one of
/// them made, can only meet when another node runs it.
fn lost_a_race(error: &clickhouse::error::Error) -> bool {
    let text = error.to_string();
    [57, 60, 82, 218, 266, 517]
        .iter()
        .any(|code| text.contains(&format!("Code: {code}.")))
}

/// The statements of a file, without the comment lines between them.
fn statements(file: &str) -> impl Iterator<Item = String> {
    file.split(";\n").filter_map(|part| {
        let statement: Vec<_> = part
            .lines()
            .filter(|line| !line.trim_start().starts_with("--"))
            .collect();
        let statement = statement.join("\n");
        (!statement.trim().is_empty()).then(|| statement.trim().to_owned())
    })
}

/// An identifier, quoted whatever is in it.
pub(crate) fn quote(name: &str) -> String {
    format!("`{}`", name.replace('\\', "\\\\").replace('`', "\\`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_cut_at_semicolons_that_end_a_line() {
        let file =
            "-- a; comment;\nSELECT ';' AS x;\n\n-- another\nSELECT\n  -- inside\n  2;\n-- end\n";
        let cut: Vec<_> = statements(file).collect();
        assert_eq!(cut, ["SELECT ';' AS x", "SELECT\n  2"]);
    }

    #[test]
    fn a_role_may_be_made_twice_and_is_granted_what_there_is() {
        let all = all_statements();
        let there = |name: &str| {
            all.iter().any(|statement| {
                let head = statement.lines().next().unwrap_or_default();
                head.starts_with("CREATE ") && head.contains(&format!("{{database}}.{name}"))
            })
        };
        for statement in statements(ROLES) {
            if statement.starts_with("CREATE ROLE IF NOT EXISTS rivulet_") {
                continue;
            }
            let (_, rest) = statement.split_once(" ON ").unwrap();
            let (on, role) = rest.split_once(" TO ").unwrap();
            assert!(
                statement.starts_with("GRANT ") && role.starts_with("rivulet_"),
                "{statement}"
            );
            match on.strip_prefix("{database}.") {
                Some("*") => {}
                Some(table) => assert!(there(table), "{statement}"),
                None => assert!(on == "*.*" || on.starts_with("system."), "{statement}"),
            }
        }
    }

    #[test]
    fn every_statement_may_run_twice() {
        for statement in all_statements().into_iter().chain(comments()) {
            let comments = |lines: &str| {
                lines.lines().all(|line| {
                    let line = line.trim();
                    line.starts_with("COMMENT COLUMN ")
                        || line.starts_with("MODIFY SETTING ")
                        || line.starts_with("ADD COLUMN IF NOT EXISTS ")
                })
            };
            assert!(
                statement.starts_with("CREATE TABLE IF NOT EXISTS {database}.")
                    || statement.starts_with("CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.")
                    || statement.starts_with("CREATE VIEW IF NOT EXISTS {database}.")
                    || statement.starts_with("CREATE OR REPLACE VIEW {database}.")
                    || statement.starts_with("ALTER TABLE {database}.")
                        && statement
                            .split_once('\n')
                            .is_some_and(|(_, rest)| comments(rest)),
                "not known to be idempotent: {statement}"
            );
        }
    }

    #[test]
    fn the_last_file_has_a_view_and_the_one_before_it_does_not_take_it_back() {
        let history: Vec<_> = all_statements()
            .into_iter()
            .filter_map(|statement| {
                let head = statement.lines().next()?;
                head.strip_suffix(" {database}.history AS")
                    .map(str::to_owned)
            })
            .collect();
        assert_eq!(
            history,
            ["CREATE VIEW IF NOT EXISTS", "CREATE OR REPLACE VIEW"]
        );
    }

    #[test]
    fn a_name_is_quoted() {
        assert_eq!(quote("ri`v\\ulet"), "`ri\\`v\\\\ulet`");
    }
}
