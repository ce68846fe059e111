//! The OpenAPI document says what ingest and api do: Schemathesis asks them everything that it describes.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use rivulet_sandbox::{TestBed, tools};
use rivulet_tests::Rivulet;
use tokio::process::Command;
use uuid::Uuid;

fn program(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/openapi")
        .join(file)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_is_true() {
    let _turn = crate::turn::of(module_path!());
    let requirements = program("requirements.txt");
    let Some(python) = tools::python("what Schemathesis asks", "openapi", &requirements) else {
        return;
    };
    let rivulet = Rivulet::new(TestBed::new().await, &[]).await.unwrap();
    let read_key = rivulet
        .command(&["keys", "create", "--name", "read", "--scope", "read"])
        .await
        .unwrap();
    let [ingest, _aggregate, api] = rivulet.start(["ingest", "aggregate", "api"]).await.unwrap();
    let [ingest, api] = [ingest, api].map(|role| {
        let url = format!("http://{}", role.address);
        (role, url)
    });
    let mut simulate = vec![
        "simulate",
        "--children",
        "12",
        "--history",
        "12",
        "--duration",
        "2",
    ];
    simulate.extend(["--url", &ingest.1, "--ingest-key", &rivulet.ingest_key]);
    simulate.extend(["--admin-key", &rivulet.admin_key]);
    rivulet.command(&simulate).await.unwrap();
    // Whoever did most, once the aggregator has told of it.
    let most = async {
        loop {
            let found = sqlx::query_as(
                "SELECT c.id, c.parent_id FROM topic_progress t
             JOIN children c ON c.id = t.child_id AND c.deleted_at IS NULL
             JOIN parents p ON p.id = c.parent_id AND p.deleted_at IS NULL
             JOIN learning_metrics m ON m.child_id = c.id AND m.period_start > current_date - 20
             GROUP BY 1, 2 ORDER BY count(*) DESC LIMIT 1",
            )
            .fetch_optional(&rivulet.bed.pool);
            match found.await.unwrap() {
                Some(found) => break found,
                None => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        }
    };
    let (child, parent): (Uuid, Uuid) = tokio::time::timeout(Duration::from_secs(120), most)
        .await
        .unwrap();
    // It says on the test's own output what it finds.
    let done = Command::new(python)
        .arg(program("check.py"))
        .args([&api.1, &ingest.1])
        .args([child.to_string(), parent.to_string()])
        .env("READ_KEY", read_key)
        .env("INGEST_KEY", &rivulet.ingest_key)
        .env("ADMIN_KEY", &rivulet.admin_key)
        .env("NO_PROXY", "127.0.0.1")
        .status()
        .await
        .unwrap();
    assert!(done.success(), "{done}: see above");
}
