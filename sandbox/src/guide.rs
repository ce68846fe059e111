//! Rivulet on top of the services, and what to tell the user about it.

use anyhow::{Context, Result, ensure as must};
use chrono::{SecondsFormat, Utc};
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use crate::{
    daemon::{ensure, take_down},
    home::{Home, ParentToken, Visitor},
    postgres::psql,
    roles::{
        Canary, Roles, Simulator, TOKEN_LIFETIME, api_url, canary_url, fill_history, ingest_url,
        keys, rivulet, shell, token,
    },
    sandbox::{Sandbox, say},
    stack::Stack,
};

/// Seconds.
const DAY: i64 = 86_400;

impl Sandbox {
    /// Brings Rivulet up on the running services, and the simulated family app and a canary if `demo`; returns
    /// what to tell the user.
    ///
    /// # Errors
    /// When a command fails or a role does not get ready; the message says why.
    pub async fn up_roles(&self, demo: bool) -> Result<String> {
        let _turn = self.home.lock()?;
        let home = &self.home;
        rivulet(home, &["migrate"])?;
        rivulet(home, &["topics"])?;
        let keys = keys(home)?;
        let outcome = ensure::<Roles>(home).await?;
        let url = ingest_url(home)?;
        home.remember_address(&url)?;
        say(
            "rivulet",
            outcome,
            &format!("every role in one process, {url}"),
        );
        let visitor = register_visitor(home, &keys.admin).await?;
        if demo {
            fill_history(home)?;
            let outcome = ensure::<Simulator>(home).await?;
            say("simulator", outcome, "a family app, 20 events a second");
            let outcome = ensure::<Canary>(home).await?;
            let what = format!(
                "sends events and waits for them, {}/readyz",
                canary_url(home)?
            );
            say("canary", outcome, &what);
        } else {
            if take_down::<Simulator>(home).await? {
                eprintln!("simulator: stopped");
            }
            if take_down::<Canary>(home).await? {
                eprintln!("canary: stopped");
            }
        }
        guide(home, visitor).await
    }

    /// `export NAME=value` lines for a shell to source. Asks no service: these may be down.
    ///
    /// # Errors
    /// When nothing was brought up yet.
    pub fn environment(&self) -> Result<String> {
        let mut lines = shell(&self.home)?;
        let state = self.home.state();
        if let Some(keys) = state.keys {
            lines.extend([
                ("RIVULET_INGEST_URL", ingest_url(&self.home)?),
                ("RIVULET_INGEST_KEY", keys.ingest),
                ("RIVULET_ADMIN_KEY", keys.admin),
                ("RIVULET_API_URL", api_url(&self.home)?),
                ("RIVULET_READ_KEY", keys.read),
            ]);
        }
        if let Some(visitor) = state.visitor {
            lines.extend([
                ("PARENT", visitor.parent.to_string()),
                ("CHILD", visitor.child.to_string()),
            ]);
            // Where every service is somebody else's there is no secret to sign with.
            if !state.password.is_empty() {
                match parent_token(&self.home, visitor.parent) {
                    Ok(token) => lines.push(("RIVULET_PARENT_TOKEN", token)),
                    Err(error) => eprintln!("dev: without RIVULET_PARENT_TOKEN: {error:#}"),
                }
            }
        }
        Ok(lines
            .into_iter()
            .map(|(name, value)| format!("export {name}={}\n", quoted(&value)))
            .collect())
    }
}

/// A word for a POSIX shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// A child whose rows hold nothing but what the user sends.
async fn register_visitor(home: &Home, admin_key: &str) -> Result<Visitor> {
    let visitor = home.update(|state| {
        *state.visitor.get_or_insert_with(|| Visitor {
            parent: Uuid::new_v4(),
            child: Uuid::new_v4(),
        })
    })?;
    let consents = json!({"coppa": true, "audio": true, "analytics": true});
    let parent = json!({"timezone": "Europe/Rome", "consents": consents});
    let child = json!({"parent_id": visitor.parent, "age_group": "curious_explorers"});
    let puts: [(&str, Uuid, Value); 2] = [
        ("parents", visitor.parent, parent),
        ("children", visitor.child, child),
    ];
    for (what, id, body) in puts {
        let url = format!("{}/v1/admin/{what}/{id}", ingest_url(home)?);
        let request = reqwest::Client::new()
            .put(url)
            .bearer_auth(admin_key)
            .json(&body);
        let answer = request.send().await.context("register a child")?;
        must!(
            answer.status().is_success(),
            "a child could not be registered: {} {}",
            answer.status(),
            answer.text().await?
        );
    }
    Ok(visitor)
}

/// The token of the last time, or a new one when that has less than two days to live: so what is printed is
/// good for a day and more.
fn parent_token(home: &Home, parent: Uuid) -> Result<String> {
    let now = Utc::now().timestamp();
    let good = || {
        let known = home.state().parent_token;
        known.filter(|known| known.expires_at > now + 2 * DAY)
    };
    if let Some(known) = good() {
        return Ok(known.token);
    }
    // `up` writes the record too, and another `env` may be faster.
    let _turn = home.lock()?;
    if let Some(known) = good() {
        return Ok(known.token);
    }
    let token = token(home, &parent.to_string(), &TOKEN_LIFETIME.to_string())?;
    home.update(|state| {
        state.parent_token = Some(ParentToken {
            token: token.clone(),
            expires_at: now + TOKEN_LIFETIME,
        });
    })?;
    Ok(token)
}

/// A line with a link to the parents' page of the largest family, if tokens can be made here.
async fn page(home: &Home) -> Result<String> {
    let mut database = PgConnection::connect(&Stack::of(home)?.database_url).await?;
    let parent: Uuid = sqlx::query_scalar(
        "SELECT parent_id FROM children GROUP BY parent_id ORDER BY count(*) DESC, parent_id LIMIT 1",
    )
    .fetch_one(&mut database)
    .await?;
    Ok(token(home, &parent.to_string(), &DAY.to_string()).map_or_else(
        |_| String::new(),
        |token| {
            let api = api_url(home).unwrap_or_default();
            format!(
                "\nLook at the page of a family (the link is good for a day):\n\n  {api}/#token={token}\n"
            )
        },
    ))
}

async fn guide(home: &Home, visitor: Visitor) -> Result<String> {
    let state = home.state();
    let keys = state.keys.context("no keys yet")?;
    let stack = Stack::of(home)?;
    let event = json!({"events": [{
        "id": Uuid::now_v7(),
        "type": "interaction",
        "child_id": visitor.child,
        "occurred_at": Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true),
        "data": {"action": "answer", "subject": "math", "topic": "fractions", "is_correct": true},
    }]});
    let child = visitor.child;
    let page = page(home).await?;
    Ok(format!(
        "
Rivulet is up.

Send an event of your own (a second time it is accepted again, and still counted once):

  curl -sS {url}/v1/events -H 'Authorization: Bearer {key}' \\
    -H 'Content-Type: application/json' -d {event}

Find it a second later in the child's day:

  {psql} {database} -xc \"SELECT * FROM daily_child_metrics WHERE child_id = '{child}'\"

over HTTP,

  curl -sS {api}/v1/children/{child}/daily -H 'Authorization: Bearer {read}'

and, a few seconds later, in the history for analysts:

  curl -sS {clickhouse} --data-binary \"SELECT * FROM rivulet.history WHERE child_id = '{child}' FORMAT Vertical\"
{page}
What arrives, as it arrives:        {api}/inspect/  (key: {admin})
Every endpoint, to try it:          {api}/docs/
Addresses and keys for your shell:  source <(./dev env)
Logs:                               {logs}
Stop it:                            ./dev down
",
        url = ingest_url(home)?,
        key = keys.ingest,
        api = api_url(home)?,
        read = keys.read,
        admin = keys.admin,
        event = quoted(&event.to_string()),
        psql = psql(home),
        database = quoted(&stack.database_url),
        clickhouse = quoted(&stack.clickhouse_url),
        logs = home.path("logs").display(),
    ))
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn a_shell_reads_back_what_was_quoted() {
        let odd = r#"a'b "c" $d `e`\ f"#;
        let script = format!("printf %s {}", quoted(odd));
        let out = std::process::Command::new("sh")
            .args(["-c", &script])
            .output()
            .unwrap();
        assert_eq!(String::from_utf8(out.stdout).unwrap(), odd);
    }
}
