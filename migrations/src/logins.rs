//! The logins to PostgreSQL: what each of them needs, and whether a login has it.
//!
//! What they have is granted in `postgres/0024_logins.sql`, in 0013 and 0019, and wherever a later migration makes a table.
//! A test compares that with [`needs`], for every table, login and privilege.

use sqlx::PgPool;

use crate::Error;

/// Who logs in to PostgreSQL, besides the owner of the tables, who migrates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Login {
    /// The role `ingest`.
    Ingest,
    /// The role `aggregate`.
    Aggregate,
    /// The role `sink`.
    Sink,
    /// The role `api`.
    Api,
    /// Whoever draws boards.
    Boards,
    /// The commands of operators, and whoever carries erasures on.
    Operator,
    /// `rivulet audit`.
    Auditor,
}

impl Login {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Ingest,
        Self::Aggregate,
        Self::Sink,
        Self::Api,
        Self::Boards,
        Self::Operator,
        Self::Auditor,
    ];

    /// As PostgreSQL calls it.
    #[must_use]
    pub const fn role(self) -> &'static str {
        match self {
            Self::Ingest => "rivulet_ingest",
            Self::Aggregate => "rivulet_aggregate",
            Self::Sink => "rivulet_sink",
            Self::Api => "rivulet_api",
            Self::Boards => "rivulet_boards",
            Self::Operator => "rivulet_operator",
            Self::Auditor => "rivulet_auditor",
        }
    }

    /// The environment variable with its password.
    #[must_use]
    pub const fn variable(self) -> &'static str {
        match self {
            Self::Ingest => "RIVULET_INGEST_PASSWORD",
            Self::Aggregate => "RIVULET_AGGREGATE_PASSWORD",
            Self::Sink => "RIVULET_SINK_PASSWORD",
            Self::Api => "RIVULET_API_PASSWORD",
            Self::Boards => "RIVULET_BOARDS_PASSWORD",
            Self::Operator => "RIVULET_OPERATOR_PASSWORD",
            Self::Auditor => "RIVULET_AUDITOR_PASSWORD",
        }
    }
}

use Login::{Aggregate, Api, Auditor, Boards, Ingest, Operator, Sink};

/// Of each table and view: who needs what of it. Columns are in parentheses where it is not the whole row. Who is not
/// named has nothing.
const TABLES: &[(&str, &[(Login, &str)])] = &[
    (
        "_sqlx_migrations",
        &[
            (Ingest, "SELECT"),
            (Aggregate, "SELECT"),
            (Sink, "SELECT"),
            (Api, "SELECT"),
            (Operator, "SELECT"),
        ],
    ),
    (
        "api_keys",
        &[
            (Ingest, "SELECT"),
            (Api, "SELECT"),
            (Operator, "SELECT, INSERT, UPDATE"),
        ],
    ),
    (
        "audit_head",
        &[
            (Ingest, "SELECT"),
            (Api, "SELECT"),
            (Operator, "SELECT"),
            (Auditor, "SELECT"),
        ],
    ),
    (
        "audit_intake",
        &[
            (Ingest, "INSERT"),
            (Api, "INSERT"),
            (Operator, "INSERT"),
            (Auditor, "SELECT"),
        ],
    ),
    ("audit_log", &[(Auditor, "SELECT")]),
    (
        "children",
        &[
            (Ingest, "SELECT, INSERT, UPDATE"),
            (Api, "SELECT"),
            (Boards, "SELECT (id parent_id age_group deleted_at)"),
            (Operator, "SELECT, INSERT, UPDATE, DELETE"),
        ],
    ),
    (
        "consent_changes",
        &[
            (Ingest, "SELECT"),
            (Api, "SELECT"),
            (Operator, "SELECT, DELETE"),
        ],
    ),
    (
        "consumer_ledger",
        &[
            (Aggregate, "SELECT, INSERT, UPDATE, DELETE"),
            (Sink, "SELECT, INSERT, UPDATE, DELETE"),
            (Operator, "SELECT, DELETE"),
        ],
    ),
    (
        "daily_child_metrics",
        &[
            (Aggregate, "SELECT, INSERT, UPDATE, DELETE"),
            (Api, "SELECT"),
            (Boards, "SELECT"),
            (Operator, "SELECT, INSERT, DELETE"),
        ],
    ),
    ("erasure_rewrites", &[(Operator, "SELECT, INSERT, DELETE")]),
    (
        "erasure_stores",
        &[
            (Ingest, "SELECT, INSERT, UPDATE (removed)"),
            (Operator, "SELECT, INSERT, UPDATE, DELETE"),
        ],
    ),
    (
        "erasure_subjects",
        &[(Ingest, "INSERT"), (Operator, "SELECT, INSERT, DELETE")],
    ),
    (
        "erasures",
        &[
            (Ingest, "SELECT, INSERT"),
            (Sink, "SELECT (state requested_at)"),
            (Operator, "SELECT, INSERT, UPDATE, DELETE"),
        ],
    ),
    (
        "event_seen",
        &[
            (Aggregate, "SELECT, INSERT"),
            (Api, "SELECT"),
            (Operator, "SELECT"),
        ],
    ),
    ("event_seen_19700101", &[(Aggregate, "SELECT, DELETE")]),
    (
        "kafka_positions",
        &[
            (Aggregate, "SELECT, INSERT, UPDATE"),
            (Sink, "SELECT, INSERT, UPDATE"),
            (Api, "SELECT (consumer topic partition next_offset)"),
            (Operator, "SELECT, UPDATE"),
        ],
    ),
    (
        "learning_analytics",
        &[
            (Aggregate, "SELECT, INSERT, UPDATE, DELETE"),
            (Api, "SELECT"),
            (Boards, "SELECT"),
            (Operator, "SELECT, INSERT, DELETE"),
        ],
    ),
    ("learning_metrics", &[(Api, "SELECT")]),
    ("speech_patterns", &[(Api, "SELECT")]),
    ("vocabulary", &[(Api, "SELECT")]),
    (
        "parents",
        &[
            (Ingest, "SELECT, INSERT, UPDATE"),
            (Api, "SELECT"),
            (
                Boards,
                "SELECT (id timezone coppa audio analytics deleted_at)",
            ),
            (Operator, "SELECT, INSERT, UPDATE, DELETE"),
        ],
    ),
    (
        "quarantine",
        &[
            (Aggregate, "INSERT"),
            (Sink, "INSERT"),
            (Operator, "SELECT, UPDATE (quarantined_at), DELETE"),
        ],
    ),
    (
        "quarantine_actions",
        &[(Operator, "SELECT, INSERT, UPDATE, DELETE")],
    ),
    (
        "quarantine_pauses",
        &[
            (Aggregate, "SELECT, INSERT, UPDATE, DELETE"),
            (Sink, "SELECT, INSERT, UPDATE, DELETE"),
            (Operator, "SELECT, UPDATE"),
        ],
    ),
    (
        "retention_periods",
        &[
            (Ingest, "SELECT"),
            (Aggregate, "SELECT, UPDATE (swept_until)"),
            (Sink, "SELECT"),
            (Api, "SELECT"),
            (Operator, "SELECT, UPDATE (swept_until)"),
        ],
    ),
    (
        "revocation_state",
        &[
            (Ingest, "SELECT"),
            (Aggregate, "SELECT"),
            (Sink, "SELECT"),
            (Api, "SELECT"),
            (Operator, "SELECT"),
        ],
    ),
    (
        "revocations",
        &[
            (Ingest, "SELECT"),
            (Aggregate, "SELECT"),
            (Sink, "SELECT"),
            (Operator, "SELECT, UPDATE (clickhouse_at), DELETE"),
        ],
    ),
    (
        "spills",
        &[
            (Ingest, "SELECT, INSERT, UPDATE"),
            (Operator, "SELECT, DELETE"),
        ],
    ),
    (
        "streaks",
        &[
            (Aggregate, "SELECT, INSERT, UPDATE, DELETE"),
            (Api, "SELECT"),
            (Boards, "SELECT"),
            (Operator, "SELECT, INSERT, DELETE"),
        ],
    ),
    (
        "tombstones",
        &[
            (Ingest, "SELECT, INSERT"),
            (Aggregate, "SELECT"),
            (Sink, "SELECT"),
            (Api, "SELECT"),
            (Operator, "SELECT, INSERT, UPDATE (is_logged)"),
        ],
    ),
    (
        "topic_progress",
        &[
            (Aggregate, "SELECT, INSERT, UPDATE, DELETE"),
            (Api, "SELECT"),
            (Operator, "SELECT, INSERT, DELETE"),
        ],
    ),
    ("weekly_summaries", &[(Api, "SELECT")]),
    (
        "withheld_seen",
        &[
            (Sink, "SELECT, INSERT, DELETE"),
            (Operator, "SELECT, DELETE"),
        ],
    ),
];

/// Of each function that not everybody may call: who needs it.
const FUNCTIONS: &[(&str, &[Login])] = &[
    ("audit_append()", &[]),
    ("audit_drop_month(date)", &[]),
    ("audit_expire_month(date)", &[Operator]),
    ("audit_month(timestamptz)", &[]),
    ("drop_month_before(text, date)", &[Aggregate]),
    ("drop_seen_before(date)", &[Aggregate]),
    (
        "end_revocations(uuid, bigint, boolean, boolean, boolean)",
        &[],
    ),
    ("end_revocations_of_moved()", &[]),
    ("make_partition(text, date)", &[Aggregate, Operator]),
    ("number_revocation()", &[]),
    ("revoke_or_grant()", &[]),
    ("rewrite_erased(regclass)", &[Operator]),
    ("settle_revocations(uuid)", &[Ingest, Operator]),
];

/// A privilege that a login needs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Need {
    /// Whose.
    pub login: Login,
    /// The table, view, or function with its arguments.
    pub on: &'static str,
    /// `SELECT`, `INSERT`, `UPDATE`, `DELETE` or `EXECUTE`.
    pub privilege: &'static str,
    /// The column; the whole table without it.
    pub column: Option<&'static str>,
}

/// What every login needs, and no more.
pub fn needs() -> impl Iterator<Item = Need> {
    let of_table = |(on, logins): &(&'static str, &'static [(Login, &'static str)])| {
        let on = *on;
        logins.iter().flat_map(move |(login, all)| {
            let of_word = move |word: &'static str| {
                let need = move |privilege, column| Need {
                    login: *login,
                    on,
                    privilege,
                    column,
                };
                match word.split_once(" (") {
                    None => vec![need(word, None)],
                    Some((privilege, columns)) => {
                        let columns = columns.trim_end_matches(')').split(' ');
                        columns
                            .map(|column| need(privilege, Some(column)))
                            .collect()
                    }
                }
            };
            all.split(", ").flat_map(of_word)
        })
    };
    let of_function = |(on, logins): &(&'static str, &'static [Login])| {
        let on = *on;
        logins.iter().map(move |login| Need {
            login: *login,
            on,
            privilege: "EXECUTE",
            column: None,
        })
    };
    TABLES
        .iter()
        .flat_map(of_table)
        .chain(FUNCTIONS.iter().flat_map(of_function))
}

/// The tables and views, and the functions that not everybody may call, of which it was decided who needs what.
pub fn decided() -> (
    impl Iterator<Item = &'static str>,
    impl Iterator<Item = &'static str>,
) {
    (
        TABLES.iter().map(|(on, _)| *on),
        FUNCTIONS.iter().map(|(on, _)| *on),
    )
}

/// Why the login of a pool cannot do the work of a role, in words that say what to run; `None` where it can. It can as the
/// owner of the tables, as the role itself, and as a member of it.
///
/// # Errors
/// PostgreSQL does not answer, or its schema is behind this release.
pub async fn lacks(pool: &PgPool, login: Login) -> Result<Option<String>, Error> {
    let (role, variable) = (login.role(), login.variable());
    let mine: Vec<Need> = needs().filter(|need| need.login == login).collect();
    let needed: Vec<(String, Option<bool>)> = sqlx::query_as(
        "SELECT privilege || ' on ' || name || coalesce(' (' || col || ')', ''),
                CASE WHEN privilege = 'EXECUTE' THEN has_function_privilege(to_regprocedure('public.' || name), privilege)
                     WHEN col IS NULL THEN has_table_privilege(to_regclass('public.' || name), privilege)
                     ELSE has_column_privilege(to_regclass('public.' || name), col, privilege) END
         FROM unnest($1::text[], $2::text[], $3::text[]) AS need (name, privilege, col)",
    )
    .bind(mine.iter().map(|need| need.on).collect::<Vec<_>>())
    .bind(mine.iter().map(|need| need.privilege).collect::<Vec<_>>())
    .bind(mine.iter().map(|need| need.column).collect::<Vec<_>>())
    .fetch_all(pool)
    .await?;
    // Nobody has what is not there.
    if needed.iter().any(|(_, has)| has.is_none()) {
        return Err(Error::Behind);
    }
    let (me, may_all, is_member, may_be_parent): (String, bool, bool, bool) = sqlx::query_as(
        "SELECT quote_ident(current_user),
                (SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = 'public.tombstones'::regclass)
                    OR (SELECT rolbypassrls FROM pg_roles WHERE rolname = current_user),
                pg_has_role($1::name, 'USAGE'), pg_has_role('rivulet_parent', 'MEMBER')",
    )
    .bind(role)
    .fetch_one(pool)
    .await?;
    if !may_all && !is_member {
        return Ok(Some(format!(
            "the login {me} is neither {role} nor a member of it, and does not own the tables: run `rivulet migrate` \
             with {variable} set and give it here too, or `GRANT {role} TO {me}` as the owner"
        )));
    }
    let missing = needed.into_iter().filter(|(_, has)| *has != Some(true));
    let missing: Vec<_> = missing.map(|(what, _)| what).collect();
    if !missing.is_empty() {
        return Ok(Some(format!(
            "the login {me} lacks {}: run `rivulet migrate` of this release",
            missing.join(", ")
        )));
    }
    if login == Api && !may_be_parent {
        return Ok(Some(format!(
            "the login {me} is no member of rivulet_parent, as which parents are answered: run \
             `GRANT rivulet_parent TO {me}` as the owner"
        )));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_column_is_needed_for_is_told_by_column() {
        let of_sink: Vec<_> = needs()
            .filter(|need| need.login == Sink && need.on == "erasures")
            .map(|need| (need.privilege, need.column))
            .collect();
        assert_eq!(
            of_sink,
            [("SELECT", Some("state")), ("SELECT", Some("requested_at"))]
        );
        let known = ["SELECT", "INSERT", "UPDATE", "DELETE", "EXECUTE"];
        assert!(needs().all(|need| known.contains(&need.privilege)));
    }
}
