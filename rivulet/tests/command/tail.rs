//! `rivulet tail` where it cannot show anything: what it says, and that it says what to do. No service is needed for that.

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    process::{Command, Output},
    thread,
};

/// A node that answers everybody the same.
fn node(status: &'static str, body: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let length = body.len();
            let answer = format!(
                "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
            );
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    url
}

fn tail(args: &[&str], key: Option<&str>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rivulet"));
    command.env_clear().arg("tail").args(args);
    command.envs(key.map(|key| ("RIVULET_ADMIN_KEY", key)));
    command.output().unwrap()
}

#[test]
fn each_reason_is_told_with_what_helps() {
    let gone = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    for (url, wanted) in [
        (
            node("401 Unauthorized", ""),
            [
                "unknown or was revoked",
                "rivulet keys create --name NAME --scope admin",
            ],
        ),
        (
            node("403 Forbidden", ""),
            ["scope `admin`", "RIVULET_ADMIN_KEY"],
        ),
        (node("404 Not Found", ""), ["RIVULET_INSPECT=on", "--url"]),
        (
            node(
                "422 Unprocessable Entity",
                r#"{"detail": "there is no API key of this name"}"#,
            ),
            ["there is no API key of this name", ""],
        ),
        (
            node(
                "503 Service Unavailable",
                r#"{"detail": "8 watch this node already"}"#,
            ),
            ["8 watch this node already", ""],
        ),
        (
            gone,
            ["is it the address of an ingest node?", "RIVULET_INGEST_URL"],
        ),
    ] {
        let output = tail(&["--url", &url], Some("rvk_secret"));
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(wanted.iter().all(|words| said.contains(words)), "{said}");
        assert!(
            said.contains(&url) && !said.contains("rvk_secret"),
            "{said}"
        );
    }
}

#[test]
fn what_cannot_be_asked_for_is_refused_at_once() {
    let refusal = |args: &[&str], key| {
        let output = tail(args, key);
        assert!(!output.status.success(), "{args:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(refusal(&[], None).contains("--admin-key"));
    assert!(refusal(&[], Some(" ")).contains("RIVULET_ADMIN_KEY is empty"));
    let key = Some("rvk_secret");
    assert!(refusal(&["--url", "ingest:8080"], key).contains("must begin with http://"));
    assert!(refusal(&["--outcome", "good"], key).contains("accepted, rejected, retry or refused"));
    assert!(refusal(&["--child", "7"], key).contains("--child"));
    let said = refusal(&["--url", "http://me:secret@127.0.0.1:1"], key);
    assert!(
        said.contains("a key of their own") && !said.contains("me:secret"),
        "{said}"
    );
}
