//! What docs/clients.md says makes clients of the OpenAPI document that compile, and post an event of each
//! type to a running ingest.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Output,
};

use rivulet_sandbox::tools::{missing, not_tested, program};
use rivulet_tests::Rivulet;
use serde_json::json;
use tokio::{process::Command, task::JoinSet};
use uuid::Uuid;

const DOCS: &str = include_str!("../../../docs/clients.md");

/// The generators by the headings of their sections, which are the names of folders with a program that
/// posts too, and what each needs.
const GENERATORS: [(&str, &[&str]); 5] = [
    ("openapi-typescript", &["npm"]),
    ("oapi-codegen", &["go"]),
    ("openapi-python-client", &["python3"]),
    ("java", &["mvn", "javac"]),
    ("typescript-fetch", &["mvn", "java", "npm"]),
];

/// What a section tells to do once, and then each time.
fn commands(generator: &str) -> [&'static str; 2] {
    let (_, section) = DOCS.split_once(&format!("\n## {generator}\n")).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let mut blocks = section.split("```sh no-run\n").skip(1);
    [(); 2].map(|()| blocks.next().unwrap().split_once("```").unwrap().0)
}

/// A copy of the generator's folder, beside everything else that was fetched and not in the tree.
fn folder(generator: &str) -> (PathBuf, bool) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let home = std::env::var_os("RIVULET_DEV_DIR").map_or_else(|| root.join(".dev"), PathBuf::from);
    let dir = home.join("tools/clients").join(generator);
    let mut files: Vec<_> = fs::read_dir(root.join("tests/tests/clients").join(generator))
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    files.sort();
    let mut wanted = commands(generator)[0].as_bytes().to_vec();
    for file in &files {
        wanted.extend(fs::read(file).unwrap());
    }
    let stamp = dir.join("installed");
    let is_there = fs::read(&stamp).is_ok_and(|installed| installed == wanted);
    if !is_there {
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        for file in &files {
            fs::copy(file, dir.join(file.file_name().unwrap())).unwrap();
        }
        fs::write(dir.join("wanted"), wanted).unwrap();
    }
    (dir, is_there)
}

/// A generator's client, for whoever reads that it is not tested.
fn client_of(generator: &str) -> String {
    format!("the client that {generator} makes")
}

fn said(output: &Output) -> String {
    let [out, err] = [&output.stdout, &output.stderr].map(|said| String::from_utf8_lossy(said));
    format!("{}\n{out}\n{err}", output.status)
}

async fn run(dir: &Path, commands: &str, env: &[(&str, String)]) -> Output {
    Command::new("bash")
        .args(["-euc", commands])
        .current_dir(dir)
        .envs(env.iter().map(|(name, value)| (*name, value)))
        // Also where the system's packager switched it off: a module may ask for a newer Go.
        .env("GOTOOLCHAIN", "auto")
        .env("NO_PROXY", "127.0.0.1")
        .kill_on_drop(true)
        .output()
        .await
        .unwrap()
}

/// Before 1.21 Go could not fetch the Go that a module asks for. Debian 12 has 1.19.
async fn is_old_go() -> bool {
    let version = Command::new("go").arg("version").output().await.unwrap();
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    let minor = version.split("go1.").nth(1).unwrap();
    let minor = minor.split(|c: char| !c.is_ascii_digit()).next().unwrap();
    minor.parse::<u32>().unwrap() < 21
}

/// What went wrong, with what was said.
async fn make_and_post(
    generator: &str,
    document: &[u8],
    env: &[(&str, String)],
) -> Result<(), String> {
    let (dir, is_there) = folder(generator);
    let [once, each_time] = commands(generator);
    if !is_there {
        let installed = run(&dir, once, env).await;
        if !installed.status.success() {
            missing(&client_of(generator), &said(&installed));
            return Ok(());
        }
        fs::rename(dir.join("wanted"), dir.join("installed")).unwrap();
    }
    for made in ["client", "rivulet"] {
        let _ = fs::remove_dir_all(dir.join(made));
    }
    fs::write(dir.join("openapi.json"), document).unwrap();
    for commands in [each_time, "./check"] {
        let done = run(&dir, commands, env).await;
        if !done.status.success() {
            return Err(format!("{generator}: {commands}: {}", said(&done)));
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_are_made_as_the_docs_say_and_post() {
    let _turn = crate::turn::of(module_path!());
    let (rivulet, [ingest]) = Rivulet::running(&[], ["ingest"]).await.unwrap();
    let url = format!("http://{}", ingest.address);
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let (parent, child) = (Uuid::new_v4(), Uuid::new_v4());
    let consents = json!({"coppa": true, "audio": true, "analytics": true});
    for (path, body) in [
        (
            format!("parents/{parent}"),
            json!({"timezone": "Europe/Rome", "consents": consents}),
        ),
        (
            format!("children/{child}"),
            json!({"parent_id": parent, "age_group": "wonder_cubs"}),
        ),
    ] {
        let put = client
            .put(format!("{url}/v1/admin/{path}"))
            .bearer_auth(&rivulet.admin_key)
            .header("Content-Type", "application/json")
            .body(body.to_string());
        put.send().await.unwrap().error_for_status().unwrap();
    }
    let document = client.get(format!("{url}/openapi.json")).send();
    let document = document.await.unwrap().error_for_status().unwrap();
    let document = document.bytes().await.unwrap();
    let env = [
        ("INGEST_URL", url),
        ("INGEST_KEY", rivulet.ingest_key.clone()),
        ("CHILD", child.to_string()),
    ];

    let mut made = JoinSet::new();
    for (generator, needs) in GENERATORS {
        if let Some(program) = needs.iter().find(|name| program(&[name]).is_none()) {
            let why = format!("there is no {program}: on Debian `./dev test` installs it");
            missing(&client_of(generator), &why);
        } else if generator == "oapi-codegen" && is_old_go().await {
            not_tested(&client_of(generator), "Go is older than 1.21");
        } else {
            let (document, env) = (document.clone(), env.clone());
            made.spawn(async move { make_and_post(generator, &document, &env).await });
        }
    }
    // All of them, so that one failure hides no other.
    let failures: Vec<_> = made
        .join_all()
        .await
        .into_iter()
        .filter_map(Result::err)
        .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
