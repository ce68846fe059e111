//! A door of the test's own: a free port, a fresh directory, killed at the end.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
};

use tempfile::TempDir;

pub(crate) struct Door {
    child: Child,
    pub(crate) url: String,
    pub(crate) port: u16,
    pub(crate) data: TempDir,
    pub(crate) http: reqwest::Client,
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The code in the header and the text, which must agree, and the status.
    pub(crate) fn error(&self) -> (u32, u16) {
        let code = self.header("x-clickhouse-exception-code");
        assert!(
            self.text()
                .starts_with(&format!("Code: {code}. DB::Exception: ")),
            "{self:?}"
        );
        (code.parse().unwrap(), self.status)
    }
}

impl Door {
    pub(crate) fn open() -> Self {
        Self::open_on(TempDir::new().unwrap())
    }

    pub(crate) fn open_on(data: TempDir) -> Self {
        let mut child = command(data.path(), "127.0.0.1:0")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let url = line.trim_end().rsplit(' ').next().unwrap().to_owned();
        assert!(
            url.starts_with("http://127.0.0.1:"),
            "the door did not open: {line:?}"
        );
        let port = url.rsplit(':').next().unwrap().parse().unwrap();
        Self {
            child,
            url,
            port,
            data,
            http: reqwest::Client::new(),
        }
    }

    /// SIGKILL, and a new door on the same data.
    pub(crate) fn kill_and_reopen(mut self) -> Self {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let data = std::mem::replace(&mut self.data, TempDir::new().unwrap());
        Self::open_on(data)
    }

    pub(crate) fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args([signal, &id])
                .status()
                .unwrap()
                .success()
        );
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    /// POSTs `body`; `url` is the part behind `/`, to be encoded by the caller.
    pub(crate) async fn post(&self, url: &str, body: impl Into<reqwest::Body>) -> Answer {
        answer(self.http.post(format!("{}/{url}", self.url)).body(body)).await
    }

    /// A statement that must succeed.
    pub(crate) async fn run(&self, sql: &str) -> String {
        let answer = self.post("", sql.to_owned()).await;
        assert_eq!(answer.status, 200, "{sql}: {}", answer.text());
        answer.text().trim_end().to_owned()
    }

    /// Returns when as many statements that are LIKE `pattern` are running.
    pub(crate) async fn until_running(&self, pattern: &str, count: &str) {
        let sql = format!(
            "SELECT count() FROM system.processes WHERE query LIKE '{pattern}' AND query NOT LIKE '%system.processes%'"
        );
        while self.run(&sql).await != count {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    pub(crate) fn client(&self) -> clickhouse::Client {
        clickhouse::Client::default().with_url(&self.url)
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) async fn answer(request: reqwest::RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    Answer {
        status: response.status().as_u16(),
        headers: response.headers().clone(),
        body: response.bytes().await.unwrap().to_vec(),
    }
}

pub(crate) fn command(data: &Path, listen: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_clickhouse-door"));
    command
        .args(["--listen", listen])
        .arg("--data")
        .arg(data)
        .arg("--library")
        .arg(library());
    command
}

pub(crate) fn tools() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.dev/tools")
}

fn library() -> PathBuf {
    if let Some(path) = std::env::var_os("RIVULET_CHDB_LIBRARY") {
        return path.into();
    }
    let mut folders = vec![tools()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy();
            if name == "libchdb.so" {
                return path;
            }
            if path.is_dir() && (folder != tools() || name.starts_with("chdb")) {
                folders.push(path);
            }
        }
    }
    panic!("no libchdb.so: run `./dev up --services`, or set RIVULET_CHDB_LIBRARY to its path");
}
