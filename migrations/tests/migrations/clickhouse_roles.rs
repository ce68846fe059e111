//! Roles of ClickHouse, as far as a server without any can show them.

use rivulet_sandbox::TestBed;

#[tokio::test]
async fn clickhouses_roles_are_made_where_it_keeps_roles_and_are_statements_of_its_own_in_any_case()
{
    let bed = TestBed::new().await;
    let database = &bed.clickhouse_database;
    rivulet_migrations::clickhouse(&bed.clickhouse, database)
        .await
        .unwrap();
    let file = include_str!("../../clickhouse/roles.sql");
    let code = file.lines().filter(|line| !line.starts_with("--"));
    let code = code.collect::<Vec<_>>().join("\n");
    let statements: Vec<&str> = code.split(';').map(str::trim).collect();
    assert!(statements.len() > 30, "{}", statements.len());
    for statement in statements.iter().filter(|statement| !statement.is_empty()) {
        let parsed = bed.clickhouse.query("SELECT formatQuery(?)");
        let parsed = parsed
            .bind(statement.replace("{database}", database))
            .fetch_one::<String>()
            .await;
        assert!(parsed.is_ok(), "{statement}: {parsed:?}");
    }
    let places = "SELECT count() FROM system.user_directories WHERE type != 'users_xml'";
    let places: u64 = bed.clickhouse.query(places).fetch_one().await.unwrap();
    for _ in 0..2 {
        let why = rivulet_migrations::clickhouse_roles(&bed.clickhouse, database).await;
        assert_eq!(why.unwrap().is_none(), places > 0);
    }
}
