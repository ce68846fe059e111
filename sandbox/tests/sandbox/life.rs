//! A sandbox of its own, through what happens to one: ports taken, servers killed or frozen,
//! records lost, starts that fail.

use std::{
    collections::BTreeMap,
    fs,
    net::TcpListener,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use rivulet_sandbox::{Sandbox, Service, TestBed};

/// A directory for a sandbox that shares the checkout's downloads; its servers are stopped and
/// its files gone when the test ends, however it ends.
struct TestFolder(PathBuf);

impl TestFolder {
    fn new(name: &str) -> Self {
        let dir =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        let folder = Self(dir);
        folder.sandbox();
        let tools = folder.0.join("tools");
        fs::remove_dir(&tools).unwrap();
        let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        symlink(checkout.join(".dev/tools").canonicalize().unwrap(), tools).unwrap();
        folder
    }

    fn sandbox(&self) -> Sandbox {
        Sandbox::at(&self.0).unwrap()
    }

    /// The program that `./dev` hands over to, on this directory.
    fn command(&self, args: &[&str], environment: &[(&str, &str)]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rivulet-sandbox"));
        for service in Service::ALL {
            command.env_remove(service.variable());
        }
        command
            .args(args)
            .env("RIVULET_DEV_DIR", &self.0)
            .envs(environment.iter().copied())
            .output()
            .unwrap()
    }
}

impl Drop for TestFolder {
    fn drop(&mut self) {
        self.command(&["down", "--wipe"], &[]);
        // Where root's checkout is out of the servers' reach, the directory is a link.
        let real = self.0.canonicalize().unwrap_or_default();
        let _ = fs::remove_dir_all(real);
        let _ = fs::remove_file(&self.0);
    }
}

fn exists(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

fn signal(name: &str, pid: i32) {
    let status = Command::new("kill").args([name, &pid.to_string()]).status();
    assert!(status.unwrap().success());
}

fn port(address: &str) -> u16 {
    let (_, port) = address
        .split('/')
        .find(|part| part.contains(':') && !part.ends_with(':'))
        .unwrap()
        .rsplit_once(':')
        .unwrap();
    port.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_is_repaired_moves_aside_and_leaves_nothing() {
    let folder = TestFolder::new("life");
    let sandbox = folder.sandbox();
    let nothing_named = BTreeMap::new();
    let stack = sandbox.up(&nothing_named).await.unwrap();
    let pids = |sandbox: &Sandbox| Service::ALL.map(|service| sandbox.pid(service).unwrap());
    let first = pids(&sandbox);

    // A second `up`, of another process, finds the first, and sweeps up what a killed test left
    // (no process has this pid: it is beyond the largest).
    let left = "rivulet_test_4194305_dead_0";
    let pool = sqlx::PgPool::connect(&stack.database_url).await.unwrap();
    let create = format!("CREATE DATABASE {left}");
    stack
        .clickhouse()
        .unwrap()
        .query(&create)
        .execute()
        .await
        .unwrap();
    sqlx::query(sqlx::AssertSqlSafe(create))
        .execute(&pool)
        .await
        .unwrap();
    let again = folder.sandbox();
    again.up(&nothing_named).await.unwrap();
    assert_eq!(pids(&again), first);
    let databases: Vec<String> = sqlx::query_scalar("SELECT datname::text FROM pg_database")
        .fetch_all(&pool)
        .await
        .unwrap();
    assert!(!databases.contains(&left.to_owned()));
    let show = "SELECT name FROM system.databases";
    let histories: Vec<String> = stack
        .clickhouse()
        .unwrap()
        .query(show)
        .fetch_all()
        .await
        .unwrap();
    assert!(!histories.contains(&left.to_owned()));

    // One is killed, one is frozen: both are repaired and the third is left alone.
    let table = "CREATE TABLE kept AS SELECT 7 AS n";
    sqlx::query(table).execute(&pool).await.unwrap();
    signal("-KILL", first[0]);
    signal("-STOP", first[2]);
    let sandbox = folder.sandbox();
    let stack = sandbox.up(&nothing_named).await.unwrap();
    let second = pids(&sandbox);
    assert_ne!(second[0], first[0]);
    assert_eq!(second[1], first[1]);
    assert_ne!(second[2], first[2]);
    assert!(!exists(first[0]) && !exists(first[2]));
    // It works, all of it.
    drop(TestBed::on(stack.clone()).await.unwrap());

    // Down, and while it is, others take the ports of two.
    sandbox.down(false).await.unwrap();
    assert!(second.iter().all(|pid| !exists(*pid)));
    let taken = [port(&stack.database_url), port(&stack.kafka_brokers)];
    let _others = taken.map(|port| TcpListener::bind(("127.0.0.1", port)).unwrap());
    let moved = folder.sandbox().up(&nothing_named).await.unwrap();
    assert!(!taken.contains(&port(&moved.database_url)));
    assert!(!taken.contains(&port(&moved.kafka_brokers)));
    assert_eq!(moved.clickhouse_url, stack.clickhouse_url);
    // The data came along, and what was printed before is still known as our own.
    let pool = sqlx::PgPool::connect(&moved.database_url).await.unwrap();
    let n: i32 = sqlx::query_scalar("SELECT n FROM kept")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(n, 7);
    let printed = BTreeMap::from([(Service::Postgres, stack.database_url.clone())]);
    assert!(folder.sandbox().external(&printed).is_empty());

    // The record is lost: `down` finds them all the same.
    let sandbox = folder.sandbox();
    let third = pids(&sandbox);
    fs::remove_file(folder.0.join("state.json")).unwrap();
    if cfg!(target_os = "linux") {
        folder.sandbox().down(true).await.unwrap();
        assert!(third.iter().all(|pid| !exists(*pid)));
        assert!(!folder.0.join("postgres").exists());
    }
}

#[test]
fn a_run_uses_only_its_own_services_and_stops_them_again() {
    let folder = TestFolder::new("run");
    let foreign = [("DATABASE_URL", "postgres://somebody@db.example/production")];
    let refused = folder.command(&["run", "--", "true"], &foreign);
    assert!(!refused.status.success());
    let message = String::from_utf8(refused.stderr).unwrap();
    assert!(
        message.contains("DATABASE_URL") && message.contains("--external"),
        "{message}"
    );

    let script = "echo $KAFKA_BROKERS; exit 3";
    let ran = folder.command(&["run", "--", "sh", "-c", script], &[]);
    assert_eq!(
        ran.status.code(),
        Some(3),
        "{}",
        String::from_utf8_lossy(&ran.stderr)
    );
    assert!(
        String::from_utf8(ran.stdout)
            .unwrap()
            .starts_with("127.0.0.1:")
    );
    let sandbox = folder.sandbox();
    assert!(
        Service::ALL
            .iter()
            .all(|service| sandbox.pid(*service).is_none())
    );

    // A start that fails says why.
    let config = folder.0.join("postgres/data/postgresql.conf");
    fs::write(config, "no_such_setting = on\n").unwrap();
    let failed = folder.command(&["up", "--services"], &[]);
    assert!(!failed.status.success());
    let message = String::from_utf8(failed.stderr).unwrap();
    assert!(message.contains("no_such_setting"), "{message}");
    // The others are up, and `down` stops them.
    let pid = folder.sandbox().pid(Service::Kafka).unwrap();
    assert!(folder.command(&["down"], &[]).status.success());
    assert!(!exists(pid));
}
