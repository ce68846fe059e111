//! Roles log in with the passwords that they were given, and what a login lacks is told.

use rivulet_migrations::{
    logins::{
        Login::{self, Aggregate, Api, Auditor, Ingest, Operator, Sink},
        lacks,
    },
    passwords::{NoPassword, give_password},
};
use rivulet_sandbox::TestBed;
use sqlx::{Connection as _, PgConnection};

use crate::somebody::Somebody;

#[tokio::test]
async fn a_role_logs_in_with_the_password_that_it_was_given_and_another_one_later() {
    let bed = TestBed::new().await;
    let role = Somebody::new(&bed, "login").await;
    let [first, second] = ["a-password;'\"$1234", "another-password-2"].map(str::to_owned);
    assert!(role.log_in(&first).await.is_err());
    // Roles belong to the whole cluster, and many may be at it.
    let attempt = || {
        let (pool, name, password) = (bed.pool.clone(), role.name.clone(), first.clone());
        tokio::spawn(async move { give_password(&pool, &name, &password).await })
    };
    let attempts: Vec<_> = (0..8).map(|_| attempt()).collect();
    for attempt in attempts {
        attempt.await.unwrap().unwrap();
    }
    role.log_in(&first).await.unwrap().close().await;
    assert!(
        !give_password(&bed.pool, &role.name, &first).await.unwrap(),
        "nothing is changed twice"
    );

    assert!(give_password(&bed.pool, &role.name, &second).await.unwrap());
    role.log_in(&second).await.unwrap().close().await;
    let refused = role.log_in(&first).await.unwrap_err();
    assert_eq!(
        refused.as_database_error().unwrap().code().unwrap(),
        "28P01"
    );

    let weak = give_password(&bed.pool, &role.name, "short")
        .await
        .unwrap_err();
    assert!(matches!(weak, NoPassword::Weak(..)), "{weak}");
    // Who may not is told who may.
    let me = role.log_in(&second).await.unwrap();
    let forbidden = give_password(&me, "rivulet_ingest", &first)
        .await
        .unwrap_err();
    assert!(matches!(forbidden, NoPassword::Forbidden(_)), "{forbidden}");
    assert!(
        forbidden.to_string().contains("\\password rivulet_ingest"),
        "{forbidden}"
    );
    assert!(!forbidden.to_string().contains(&first), "{forbidden}");
    me.close().await;
    role.dismiss().await;
}

#[tokio::test]
async fn a_login_that_lacks_something_is_told_what_to_run() {
    let bed = TestBed::new().await;
    let behind = lacks(&bed.pool, Ingest).await.unwrap_err().to_string();
    assert!(behind.contains("rivulet migrate"), "{behind}");
    rivulet_migrations::postgres(&bed.pool).await.unwrap();
    for login in [Ingest, Aggregate, Sink, Api, Operator, Auditor] {
        assert_eq!(
            lacks(&bed.pool, login).await.unwrap(),
            None,
            "the owner, {login:?}"
        );
    }

    let somebody = Somebody::new(&bed, "somebody").await;
    let password = "a-password-of-some-length";
    give_password(&bed.pool, &somebody.name, password)
        .await
        .unwrap();
    let mine = somebody.log_in(password).await.unwrap();
    for login in Login::ALL {
        let why = lacks(&mine, login).await.unwrap().unwrap();
        let (role, variable) = (login.role(), login.variable());
        assert!(
            why.contains(variable)
                && why.contains(&format!("GRANT {role} TO \"{}\"", somebody.name)),
            "{why}"
        );
    }
    // As a member it can, as long as the role has all of it.
    for login in [Ingest, Aggregate, Sink, Api, Operator] {
        somebody
            .sql(&format!("GRANT {} TO {{me}}", login.role()))
            .await;
        assert_eq!(lacks(&mine, login).await.unwrap(), None, "{login:?}");
        somebody
            .sql(&format!("REVOKE {} FROM {{me}}", login.role()))
            .await;
    }
    somebody
        .sql("REVOKE INSERT ON spills FROM rivulet_ingest; GRANT rivulet_ingest TO {me}")
        .await;
    let why = lacks(&mine, Ingest).await.unwrap().unwrap();
    assert!(
        why.contains("lacks INSERT on spills: run `rivulet migrate`"),
        "{why}"
    );
    mine.close().await;
    somebody.dismiss().await;
}

#[tokio::test]
async fn the_statements_of_servers_have_no_password() {
    let bed = TestBed::new().await;
    let role = Somebody::new(&bed, "logged").await;
    let password = "a-password-to-look-for";
    let mut looker = PgConnection::connect(&bed.database_url).await.unwrap();
    give_password(&bed.pool, &role.name, password)
        .await
        .unwrap();
    let said: Vec<String> = sqlx::query_scalar(
        "SELECT query FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
    .fetch_all(&mut looker)
    .await
    .unwrap();
    assert!(
        said.iter()
            .any(|query| query.contains("SCRAM-SHA-256$4096:")),
        "{said:?}"
    );
    assert!(
        said.iter().all(|query| !query.contains(password)),
        "{said:?}"
    );
    role.dismiss().await;
}
