//! `rivulet export`: a file that is whole or not there, for nobody else's eyes.

use std::{
    fs::{self, File},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Output},
};

use rivulet_sandbox::TestBed;
use uuid::Uuid;
use zip::ZipArchive;

fn export(bed: &TestBed, who: [&str; 2], out: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_rivulet"))
        .envs(bed.environment())
        .args(["export", who[0], who[1], "--out"])
        .arg(out)
        .output()
        .unwrap()
}

fn names(zip: &Path) -> Vec<String> {
    let zip = ZipArchive::new(File::open(zip).unwrap()).unwrap();
    zip.file_names()
        .map(|name| name.unwrap().into_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_family_is_exported_into_one_file_or_none() {
    let bed = TestBed::new().await;
    rivulet_migrations::postgres(&bed.pool).await.unwrap();
    rivulet_migrations::clickhouse(&bed.clickhouse, &bed.clickhouse_database)
        .await
        .unwrap();
    let (parent, first, second) = (Uuid::new_v4(), Uuid::from_u128(1), Uuid::from_u128(2));
    sqlx::query("INSERT INTO parents (id, timezone, coppa) VALUES ($1, 'Europe/Rome', true)")
        .bind(parent)
        .execute(&bed.pool)
        .await
        .unwrap();
    for child in [first, second] {
        sqlx::query(
            "INSERT INTO children (id, parent_id, age_group) VALUES ($1, $2, 'mind_masters')",
        )
        .bind(child)
        .bind(parent)
        .execute(&bed.pool)
        .await
        .unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let left = || fs::read_dir(&folder).unwrap().count();
    let out = folder.path().join("family.zip");
    let parent = parent.to_string();
    let run = |who: [&str; 2], out: &Path| {
        let ended = export(&bed, who, out);
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        (ended.status.code(), said)
    };

    let (code, said) = run(["--parent", &parent], &out);
    assert_eq!(code, Some(0), "{said}");
    let audited: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM audit_log WHERE action = 'export' AND subject_kind = 'parent'",
    )
    .fetch_one(&bed.pool)
    .await
    .unwrap();
    assert_eq!(audited, 1);
    let mode = out.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let names = names(&out);
    assert_eq!(names.len(), 18);
    for child in [first, second] {
        for file in ["index.html", "events.ndjson", "consents.json"] {
            assert!(names.contains(&format!("{child}/{file}")), "{names:?}");
        }
    }
    let whole = fs::read(&out).unwrap();

    let (code, said) = run(["--child", &first.to_string()], &out);
    assert_eq!(code, Some(1));
    assert!(said.contains("exists already"), "{said}");
    assert_eq!(fs::read(&out).unwrap(), whole, "nothing is replaced");
    let again = folder.path().join("again.zip");
    assert_eq!(run(["--parent", &parent], &again).0, Some(0));
    assert_eq!(
        fs::read(&again).unwrap(),
        whole,
        "the same data, the same bytes"
    );

    let none = folder.path().join("none.zip");
    let stranger = Uuid::new_v4().to_string();
    for who in ["--child", "--parent"] {
        let (code, said) = run([who, &stranger], &none);
        assert_eq!(code, Some(1));
        assert!(said.contains("nobody of this id is registered"), "{said}");
        assert!(!said.contains(&stranger));
    }
    let (code, said) = run(
        ["--parent", &parent],
        &folder.path().join("nowhere/family.zip"),
    );
    assert_eq!(code, Some(1));
    assert!(said.contains("nothing can be written"), "{said}");
    assert_eq!(run(["--child", "no id"], &none).0, Some(2));
    assert_eq!(left(), 2, "nothing else is left behind");
}
