//! The logins to PostgreSQL that `rivulet migrate` makes, and which `rivulet` command is given which of them: each its own.

use std::collections::BTreeMap;

/// What logins are for. The role in PostgreSQL is `rivulet_NAME`, and the variable with its password
/// `RIVULET_NAME_PASSWORD`.
pub(crate) const LOGINS: [&str; 7] = [
    "ingest",
    "aggregate",
    "sink",
    "api",
    "boards",
    "operator",
    "auditor",
];

const VARIABLES: [&str; 7] = [
    "RIVULET_INGEST_PASSWORD",
    "RIVULET_AGGREGATE_PASSWORD",
    "RIVULET_SINK_PASSWORD",
    "RIVULET_API_PASSWORD",
    "RIVULET_BOARDS_PASSWORD",
    "RIVULET_OPERATOR_PASSWORD",
    "RIVULET_AUDITOR_PASSWORD",
];

/// The passwords of Rivulet's logins; none on a PostgreSQL that is somebody else's.
#[derive(Clone, Debug, Default)]
pub struct Logins(pub(crate) BTreeMap<String, String>);

impl Logins {
    /// The environment by which a command gets at PostgreSQL, where `database_url` is what the owner logs in by:
    ///
    /// - `migrate` is the owner, and makes all logins;
    /// - a role in a process of its own knows its own login alone, but that the sink also carries erasures on;
    /// - every role in one process has theirs, and that of the operator. The owner's it does not need;
    /// - `audit` is the auditor's, all other commands are the operator's.
    #[must_use]
    pub fn environment(&self, command: &str, database_url: &str) -> Vec<(&'static str, String)> {
        let of = |names: &[&str]| self.passwords(names);
        let url = |login: &str| vec![("DATABASE_URL", self.url(login, database_url))];
        let nobody = || vec![("DATABASE_URL", with_login(database_url, None))];
        if self.0.is_empty() {
            return vec![("DATABASE_URL", database_url.to_owned())];
        }
        match command.split(' ').next().unwrap_or_default() {
            "migrate" => {
                let mut all = vec![("DATABASE_URL", database_url.to_owned())];
                all.extend(of(&LOGINS));
                all
            }
            role @ ("ingest" | "aggregate" | "api") => url(role),
            "sink" => [url("sink"), of(&["operator"])].concat(),
            "all" | "check-config" => {
                let roles = ["ingest", "aggregate", "sink", "api", "operator"];
                [nobody(), of(&roles)].concat()
            }
            "audit" => url("auditor"),
            _ => url("operator"),
        }
    }

    /// The passwords of these logins, each in its variable.
    pub(crate) fn passwords(&self, names: &[&str]) -> Vec<(&'static str, String)> {
        let variables = LOGINS.iter().zip(VARIABLES);
        let wanted = variables.filter(|(login, _)| names.contains(login));
        wanted
            .filter_map(|(login, variable)| Some((variable, self.0.get(*login)?.clone())))
            .collect()
    }

    /// The URL of the same database for this login.
    fn url(&self, login: &str, database_url: &str) -> String {
        match self.0.get(login) {
            Some(password) => {
                with_login(database_url, Some((&format!("rivulet_{login}"), password)))
            }
            None => database_url.to_owned(),
        }
    }
}

/// The URL with another login in it, or with none.
fn with_login(url: &str, login: Option<(&str, &str)>) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("postgres", url));
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    match login {
        Some((user, password)) => format!("{scheme}://{user}:{password}@{host}{path}"),
        None => format!("{scheme}://{host}{path}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNER: &str = "postgres://rivulet:secret@127.0.0.1:1/db?sslmode=disable";

    fn logins() -> Logins {
        Logins(
            LOGINS
                .iter()
                .map(|login| ((*login).to_owned(), format!("{login}-word")))
                .collect(),
        )
    }

    #[test]
    fn a_command_is_given_its_own_login_and_no_other() {
        for (command, user) in [
            ("ingest", "ingest"),
            ("verify --every 60", "operator"),
            ("audit verify", "auditor"),
            ("keys", "operator"),
        ] {
            let url =
                format!("postgres://rivulet_{user}:{user}-word@127.0.0.1:1/db?sslmode=disable");
            let given = logins().environment(command, OWNER);
            assert_eq!(given, [("DATABASE_URL", url)], "{command}");
        }
        let sink = logins().environment("sink", OWNER);
        assert_eq!(sink.len(), 2);
        assert_eq!(
            sink[1],
            ("RIVULET_OPERATOR_PASSWORD", "operator-word".to_owned())
        );
        let all = logins().environment("all", OWNER);
        assert_eq!(
            (all.len(), &*all[0].1),
            (6, "postgres://127.0.0.1:1/db?sslmode=disable")
        );
        let migrate = logins().environment("migrate", OWNER);
        assert_eq!((migrate.len(), &*migrate[0].1), (8, OWNER));
    }

    #[test]
    fn on_somebody_elses_postgresql_nothing_changes() {
        let given = Logins::default().environment("ingest", OWNER);
        assert_eq!(given, [("DATABASE_URL", OWNER.to_owned())]);
    }
}
