//! What README.md and docs/*.md tell a reader to paste works as pasted: every shell block is run, each in a
//! shell of its own that has sourced `./dev env`, on services and a Rivulet as `./dev up --no-demo` starts
//! them. A block that needs more than that (a cluster, docker, somebody's addresses) says so behind its
//! language: ```` ```sh no-run ````. Of those only the syntax is checked.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use rivulet_sandbox::Service;
use rivulet_tests::OwnServices;
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;
use tokio::process::Command;

const PATIENCE: Duration = Duration::from_secs(120);

/// What a block must print for what the text around it says to be true: file, a part of the block, and a word
/// of the shell.
const SHOWN: [(&str, &str, &str); 5] = [
    ("README.md", "FROM daily_child_metrics", "$CHILD"),
    ("README.md", "FROM rivulet.history", "$CHILD"),
    ("README.md", "/daily\"", "interactions"),
    ("docs/reading.md", "RIVULET_PARENT_TOKEN", "$CHILD"),
    ("docs/parents-page.md", "RIVULET_PARENT_TOKEN", "/#token="),
];

/// Between a fence and its end.
#[derive(Debug, PartialEq)]
struct Block {
    file: String,
    /// Of the first fence.
    line: usize,
    /// The words behind the fence.
    info: Vec<String>,
    text: String,
}

impl Block {
    fn language(&self) -> &str {
        self.info.first().map_or("", String::as_str)
    }

    fn is_shell(&self) -> bool {
        ["sh", "bash", "shell", "zsh", "console"].contains(&self.language())
    }

    fn is_run(&self) -> bool {
        match self.info.get(1..).unwrap_or_default() {
            [] => true,
            [word] if word == "no-run" => false,
            words => panic!("{self}: only `no-run` is known, not {words:?}"),
        }
    }
}

impl std::fmt::Display for Block {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

fn blocks(file: &str, markdown: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<(String, usize, Block)> = None;
    for (number, line) in markdown.lines().enumerate() {
        let text = line.trim_start();
        let mark = text.chars().next().filter(|mark| "`~".contains(*mark));
        let fence = mark.map_or("", |mark| {
            &text[..text.len() - text.trim_start_matches(mark).len()]
        });
        match &mut open {
            None if fence.len() >= 3 => {
                let block = Block {
                    file: file.to_owned(),
                    line: number + 1,
                    info: text[fence.len()..]
                        .split_whitespace()
                        .map(str::to_owned)
                        .collect(),
                    text: String::new(),
                };
                open = Some((fence.to_owned(), line.len() - text.len(), block));
            }
            Some((opened, ..))
                if fence.starts_with(opened.as_str()) && text.trim_end() == fence =>
            {
                blocks.extend(open.take().map(|(.., block)| block));
            }
            // In a list it is indented as its fence is.
            Some((_, indent, block)) => {
                let indent = (*indent).min(line.len() - text.len());
                block.text += &line[indent..];
                block.text.push('\n');
            }
            None => {}
        }
    }
    assert!(open.is_none(), "{file}: a block without an end");
    blocks
}

#[test]
fn a_block_is_found_wherever_it_is() {
    let markdown = "
text ```sh no block```
```sh
one
```
- in a list:
  ```bash no-run
  two
    indented
  ```
~~~~ sh
```sh
~~~
~~~~
```json
{}
```
";
    let found = blocks("x.md", markdown);
    let told: Vec<_> = found
        .iter()
        .map(|block| (block.line, block.info.join(" "), block.text.as_str()))
        .collect();
    let expected = [
        (3, "sh", "one\n"),
        (7, "bash no-run", "two\n  indented\n"),
        (11, "sh", "```sh\n~~~\n"),
        (15, "json", "{}\n"),
    ];
    assert_eq!(
        told,
        expected.map(|(line, info, text)| (line, info.to_owned(), text))
    );
    let run: Vec<_> = found
        .iter()
        .filter(|block| block.is_shell() && block.is_run())
        .map(|block| block.line)
        .collect();
    assert_eq!(run, [3, 11]);
}

/// A folder to paste in, in place of the checkout: `./dev env` is the real one, on the test's services.
struct Shell {
    folder: PathBuf,
    dev: PathBuf,
}

impl Shell {
    fn new(services: &OwnServices) -> Self {
        let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let folder = services.path("paste");
        fs::create_dir_all(folder.join("bin")).unwrap();
        let script = format!(
            "#!/bin/sh\n[ \"$1\" != env ] || exec '{}' env\n\
             echo \"this test does not run ./dev $*: mark the block no-run\" >&2\nexit 1\n",
            checkout.join("dev").display()
        );
        fs::write(folder.join("dev"), script).unwrap();
        fs::set_permissions(folder.join("dev"), fs::Permissions::from_mode(0o755)).unwrap();
        // target/debug/deps/TEST
        let test = std::env::current_exe().unwrap();
        let build = test.ancestors().nth(2).unwrap();
        symlink(build.parent().unwrap(), folder.join("target")).unwrap();
        symlink(build.join("rivulet"), folder.join("bin/rivulet")).unwrap();
        // Else curl is content with every answer.
        fs::write(folder.join(".curlrc"), "fail-with-body\n").unwrap();
        Self {
            folder,
            dev: services.path(""),
        }
    }

    /// What a script prints; an error when any command of it fails, wherever it stands.
    async fn run(&self, script: &str) -> Result<String, String> {
        let failures = self.folder.join("failures");
        let _ = fs::remove_file(&failures);
        // The trap hears what -e does not: `echo "$(a command that fails)"`.
        let script = format!(
            "set -Eeuo pipefail\neval \"$(./dev env)\"\n\
             trap 'echo \"failed: $BASH_COMMAND\" >>{}' ERR\n{script}",
            failures.display()
        );
        fs::write(self.folder.join("pasted"), script).unwrap();
        let mut bash = Command::new("bash");
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            if name.starts_with("RIVULET_") || ["CHILD", "PARENT"].contains(&&*name) {
                bash.env_remove(&*name);
            }
        }
        for service in Service::ALL {
            bash.env_remove(service.variable());
        }
        let path = std::env::var("PATH").unwrap_or_default();
        let bin = self.folder.join("bin");
        bash.args(["--noprofile", "--norc", "pasted"])
            .current_dir(&self.folder)
            .env("PATH", format!("{}:{path}", bin.display()))
            .env("CURL_HOME", &self.folder)
            .env("CARGO_TARGET_DIR", self.folder.join("target"))
            .env("RIVULET_DEV_DIR", &self.dev)
            .env("NO_PROXY", "127.0.0.1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        let bash = bash.spawn().unwrap();
        let group = bash
            .id()
            .and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        let output = tokio::time::timeout(PATIENCE, bash.wait_with_output()).await;
        // What it left in the background.
        let _ = kill_process_group(group.unwrap(), Signal::KILL);
        let output = output.map_err(|_| "it does not end".to_owned())?.unwrap();
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let failed = fs::read_to_string(failures).unwrap_or_default();
        if output.status.success() && failed.is_empty() {
            return Ok(said(&output.stdout));
        }
        let (out, err) = (said(&output.stdout), said(&output.stderr));
        Err(format!("{}\n{failed}{out}{err}", output.status))
    }

    /// The same, until it prints `word`: what was sent may be on its way still.
    async fn run_until(&self, script: &str, word: &str) -> Result<(), String> {
        let word = self.run(&format!("printf %s \"{word}\"")).await?;
        let began = Instant::now();
        loop {
            let said = self.run(script).await?;
            if said.contains(&word) {
                return Ok(());
            }
            if began.elapsed() > PATIENCE {
                return Err(format!("it prints no {word}:\n{said}"));
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// Whether an answer is like the one that is shown, where … stands for any text.
fn is_like(shown: &Value, answer: &Value) -> bool {
    match (shown, answer) {
        (Value::String(shown), Value::String(_)) if shown == "…" => true,
        (Value::Array(shown), Value::Array(answer)) => {
            shown.len() == answer.len() && shown.iter().zip(answer).all(|(s, a)| is_like(s, a))
        }
        (Value::Object(shown), Value::Object(answer)) => {
            shown.keys().eq(answer.keys()) && shown.iter().all(|(k, s)| is_like(s, &answer[k]))
        }
        _ => shown == answer,
    }
}

fn documents() -> BTreeMap<String, String> {
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let docs = fs::read_dir(checkout.join("docs")).unwrap();
    docs.map(|file| format!("docs/{}", file.unwrap().file_name().display()))
        .filter(|name| Path::new(name).extension().is_some_and(|is| is == "md"))
        .chain(["README.md".to_owned()])
        .map(|name| {
            (
                name.clone(),
                fs::read_to_string(checkout.join(name)).unwrap(),
            )
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_documents_say_to_paste_works() {
    let _turn = crate::turn::of(module_path!());
    let services = OwnServices::new("snippets").unwrap();
    let sandbox = services.sandbox().unwrap();
    sandbox.up(&BTreeMap::new()).await.unwrap();
    let guide = sandbox.up_roles(false).await.unwrap();
    let shell = Shell::new(&services);

    let mut wrong = Vec::new();
    // What `up` prints to paste is indented.
    for block in guide.split("\n\n").filter(|text| text.starts_with("  ")) {
        if !block.trim().starts_with("http")
            && let Err(error) = shell.run(block).await
        {
            wrong.push(format!("`./dev up` prints:\n{block}\n{error}"));
        }
    }
    let mut shown = 0;
    // README.md first, by its name: it sends the event that others look for.
    for (file, markdown) in &documents() {
        let blocks = blocks(file, markdown);
        for (number, block) in blocks.iter().enumerate().filter(|(_, b)| b.is_shell()) {
            if !block.is_run() {
                let syntax = ["-n", "-c", &block.text];
                let checked = Command::new("bash").args(syntax).output().await.unwrap();
                if !checked.status.success() {
                    wrong.push(format!(
                        "{block}: {}",
                        String::from_utf8_lossy(&checked.stderr)
                    ));
                }
                continue;
            }
            eprintln!("{block}");
            match shell.run(&block.text).await {
                Err(error) => wrong.push(format!("{block}: {error}")),
                Ok(said) => {
                    // Its answer is the block that follows.
                    if let Some(answer) = blocks.get(number + 1).filter(|b| b.language() == "json")
                        && let Ok(answer) = serde_json::from_str(&answer.text)
                        && !serde_json::from_str(&said).is_ok_and(|said| is_like(&answer, &said))
                    {
                        wrong.push(format!("{block}: {said}\nis not like\n{answer}"));
                    }
                }
            }
            for (_, _, word) in SHOWN
                .iter()
                .filter(|(of, part, _)| of == file && block.text.contains(part))
            {
                shown += 1;
                if let Err(error) = shell.run_until(&block.text, word).await {
                    wrong.push(format!("{block}: {error}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    assert_eq!(shown, SHOWN.len(), "a block that SHOWN tells of is gone");

    // It would have been noticed.
    for broken in [
        "no-such-program",
        "echo \"$(no-such-program)\"",
        "no-such-program | cat",
        "no-such-program; true",
        "echo \"$NOT_GIVEN\"",
        "curl -sS \"$RIVULET_API_URL/v1/nothing\"",
        "curl -sS \"$RIVULET_API_URL/v1/nothing\" | cat",
        "psql \"$DATABASE_URL\" -c 'SELECT * FROM nothing'",
        "curl -sS \"$CLICKHOUSE_URL\" --data-binary 'SELECT * FROM nothing'",
        "./dev down --wipe",
    ] {
        assert!(shell.run(broken).await.is_err(), "{broken}");
    }
    a_family_for_the_shell(&services, &shell).await;
}

/// `./dev env` names a family, and its parent's token, which outlives the services.
async fn a_family_for_the_shell(services: &OwnServices, shell: &Shell) {
    let own = "curl -sS \"$RIVULET_API_URL/v1/families/$PARENT\" -H \"Authorization: Bearer $RIVULET_PARENT_TOKEN\"";
    let said = shell.run(own).await.unwrap();
    let family: Value = serde_json::from_str(&said).unwrap();
    let child = shell.run("printf %s \"$CHILD\"").await.unwrap();
    assert_eq!(family["children"][0]["child_id"], *child, "{family}");

    services.sandbox().unwrap().down(false).await.unwrap();
    let all = "printf %s \"$DATABASE_URL$CLICKHOUSE_URL$KAFKA_BROKERS$RIVULET_INGEST_URL$RIVULET_API_URL\
               $RIVULET_INGEST_KEY$RIVULET_ADMIN_KEY$RIVULET_READ_KEY$CHILD$PARENT$RIVULET_PARENT_TOKEN\"";
    let first = shell.run(all).await.unwrap();
    assert_eq!(shell.run(all).await.unwrap(), first);

    // Nearly over, it is made anew; and before that, whoever got it last had a day of it left.
    let state = services.path("state.json");
    let age = |seconds: i64| {
        let mut record: Value = serde_json::from_slice(&fs::read(&state).unwrap()).unwrap();
        record["parent_token"]["expires_at"] = (chrono::Utc::now().timestamp() + seconds).into();
        fs::write(&state, record.to_string()).unwrap();
    };
    const DAY: i64 = 24 * 60 * 60;
    for left in [-1, DAY + 60] {
        age(left);
        let token = shell
            .run("printf %s \"$RIVULET_PARENT_TOKEN\"")
            .await
            .unwrap();
        let claims = token.split('.').nth(1).unwrap();
        let claims = BASE64_URL_SAFE_NO_PAD.decode(claims).unwrap();
        let claims: Value = serde_json::from_slice(&claims).unwrap();
        let record: Value = serde_json::from_slice(&fs::read(&state).unwrap()).unwrap();
        assert!(claims["exp"].as_i64().unwrap() > chrono::Utc::now().timestamp() + DAY);
        assert!(
            record["parent_token"]["expires_at"].as_i64().unwrap()
                > chrono::Utc::now().timestamp() + 2 * DAY
        );
    }
}
