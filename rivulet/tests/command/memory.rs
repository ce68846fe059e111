//! `rivulet ingest --memory`, as an app's CI starts it: with nothing else. No service is needed for that.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

const FAMILY: &str = r#"{"parent_id": "0197a1b2-1111-7222-8333-444444444444", "timezone": "Europe/Rome",
    "consents": {"coppa": true},
    "children": [{"child_id": "0197a1b2-5555-7222-8333-444444444444", "age_group": "wonder_cubs"}]}"#;
const CHILD: &str = "0197a1b2-5555-7222-8333-444444444444";

fn ingest(args: &[&str], variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rivulet"));
    command.env_clear().arg("ingest").args(args);
    command.envs(variables.iter().copied());
    command
}

fn refusal(args: &[&str], variables: &[(&str, &str)]) -> String {
    let Output { status, stderr, .. } = ingest(args, variables).output().unwrap();
    assert!(!status.success(), "{args:?} must be refused");
    String::from_utf8(stderr).unwrap()
}

struct Running {
    process: Child,
    address: String,
}

/// Ends it, however the test ends.
impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn start(args: &[&str]) -> Running {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap().to_string();
    drop(free);
    let args = [args, &["--listen", &address]].concat();
    let process = ingest(&args, &[])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let running = Running { process, address };
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(30) {
        if ask(&running, "GET", "/readyz", "").starts_with("HTTP/1.1 200") {
            return running;
        }
        thread::sleep(Duration::from_millis(50));
    }
    panic!("it is not ready");
}

fn ask(running: &Running, method: &str, path: &str, body: &str) -> String {
    let Ok(mut stream) = TcpStream::connect(&running.address) else {
        return String::new();
    };
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\nauthorization: Bearer any key\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn post(running: &Running, child: &str) -> String {
    let now = chrono::Utc::now().to_rfc3339();
    let body = format!(
        r#"{{"events": [{{"id": "7d1f8c02-3e5b-4a67-9c1d-0f2e4b6a8c1d", "type": "interaction", "child_id": "{child}", "occurred_at": "{now}",
            "data": {{"action": "view"}}}}]}}"#
    );
    ask(running, "POST", "/v1/events", &body)
}

/// What it wrote by its end.
fn logged(mut running: Running) -> String {
    running.process.kill().unwrap();
    running.process.wait().unwrap();
    let (mut out, mut err) = (String::new(), String::new());
    let process = &mut running.process;
    process
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut out)
        .unwrap();
    process
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut err)
        .unwrap();
    out + &err
}

#[test]
fn it_needs_nothing_and_says_that_it_keeps_nothing() {
    let running = start(&["--memory"]);
    let answer = post(&running, CHILD);
    assert!(answer.contains(r#""accepted":1"#), "{answer}");
    assert!(answer.contains("x-rivulet-storage: none"), "{answer}");
    let said = logged(running);
    assert!(said.contains("KEEPS NOTHING"), "{said}");
    assert!(!said.contains("ERROR"), "{said}");
}

#[test]
fn a_file_says_who_is_registered_and_the_log_why_an_event_was_refused() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("families.ndjson");
    fs::write(&file, FAMILY.replace('\n', "")).unwrap();
    let running = start(&["--memory", "--memory-registry", file.to_str().unwrap()]);
    assert!(post(&running, CHILD).contains(r#""accepted":1"#));
    let answer = post(&running, "0197a1b2-9999-7222-8333-444444444444");
    assert!(answer.contains(r#""code":"unknown_child""#), "{answer}");
    let said = logged(running);
    assert!(said.contains("unknown_child"), "{said}");
}

#[test]
fn it_is_refused_where_events_are_to_be_kept_and_its_absence_where_nothing_says_where() {
    let brokers = ("KAFKA_BROKERS", "127.0.0.1:1");
    let database = ("DATABASE_URL", "postgres://127.0.0.1:1/none");
    let said = refusal(&["--memory"], &[database, brokers]);
    assert!(said.contains("lost"), "{said}");
    let said = refusal(&["--memory"], &[("RIVULET_SPILL_DIR", "/nowhere")]);
    assert!(said.contains("lost"), "{said}");

    assert!(refusal(&[], &[brokers]).contains("database-url"));
    assert!(refusal(&[], &[database]).contains("kafka-brokers"));
    assert!(refusal(&["--memory-registry", "x"], &[database, brokers]).contains("--memory"));
    let said = refusal(&["--memory", "--memory-registry", "/nowhere/families"], &[]);
    assert!(said.contains("/nowhere/families"), "{said}");
}
