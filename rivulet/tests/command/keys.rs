//! What the command makes of the settings of client tokens; no service is needed for that.

use std::process::{Command, Output};

const PARENT: &str = "0197a1b2-1111-7222-8333-444444444444";

fn rivulet(args: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rivulet"));
    command.env_clear().args(args);
    command.envs(variables.iter().copied()).output().unwrap()
}

fn refusal(args: &[&str], variables: &[(&str, &str)]) -> String {
    let output = rivulet(args, variables);
    assert!(!output.status.success(), "{variables:?} must be refused");
    let said = String::from_utf8(output.stderr).unwrap();
    for (_, value) in variables
        .iter()
        .filter(|(name, _)| name.ends_with("SECRET"))
    {
        assert!(value.is_empty() || !said.contains(value), "{said}");
    }
    said
}

#[test]
fn a_development_token_needs_a_secret_and_no_database() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("secret");
    std::fs::write(&file, "a secret of at least thirty-two bytes\n").unwrap();
    let audience = ("RIVULET_TOKEN_AUDIENCE", "rivulet");
    let secret = ("RIVULET_TOKEN_SECRET_FILE", file.to_str().unwrap());
    let make = ["keys", "token", "--parent", PARENT];
    let made = rivulet(&make, &[audience, secret]);
    assert!(made.status.success(), "{made:?}");
    let token = String::from_utf8(made.stdout).unwrap();
    assert_eq!(token.trim().split('.').count(), 3, "{token}");

    assert!(refusal(&make, &[]).contains("no token secret"));
    assert!(refusal(&make, &[secret]).contains("no audience"));
    let long = [&make[..], &["--ttl", "86401"]].concat();
    assert!(refusal(&long, &[audience, secret]).contains("at most"));
    assert!(refusal(&["keys", "list"], &[]).contains("DATABASE_URL"));
}

#[test]
fn settings_that_would_let_the_wrong_tokens_in_are_refused_at_boot() {
    let services = [
        ("DATABASE_URL", "postgres://127.0.0.1:1/none"),
        ("KAFKA_BROKERS", "127.0.0.1:1"),
    ];
    let good = "a secret of at least thirty-two bytes";
    let jwks = ("RIVULET_TOKEN_JWKS", "https://idp.example/jwks");
    let audience = ("RIVULET_TOKEN_AUDIENCE", "rivulet");
    for (settings, consequence) in [
        (&[jwks][..], "another service"),
        (&[("RIVULET_TOKEN_SECRET", good)], "another service"),
        (
            &[("RIVULET_TOKEN_SECRET", "short"), audience],
            "every family",
        ),
        (&[audience], "every one would be refused"),
        (
            &[("RIVULET_TOKEN_JWKS", "http://idp.example/jwks"), audience],
            "plain http",
        ),
        (
            &[
                ("RIVULET_TOKEN_SECRET", good),
                audience,
                ("RIVULET_TOKEN_BURST", "999"),
            ],
            "token_burst (999) is below max_events",
        ),
        (
            &[("RIVULET_TOKEN_SECRET_FILE", "/does/not/exist"), audience],
            "cannot be read",
        ),
        (
            &[
                ("RIVULET_TOKEN_SECRET", good),
                ("RIVULET_TOKEN_SECRET_FILE", "/dev/null"),
                audience,
            ],
            "both",
        ),
        (
            &[("RIVULET_ORIGINS", "https://app.example/")],
            "an origin is",
        ),
        (&[("RIVULET_ORIGINS", "*")], "an origin is"),
        (
            &[("RIVULET_MAX_CONNECTIONS_PER_ADDRESS", "0")],
            "max_connections_per_address is 0",
        ),
        (
            &[("RIVULET_MAX_BYTES_IN_FLIGHT", "33554432")],
            "a sender has half of it at most",
        ),
        (
            &[("RIVULET_OPERATIONS_LISTEN", "9100")],
            "must be an address with a port",
        ),
        (
            &[("RIVULET_OPERATIONS_LISTEN", "203.0.113.1:9100")],
            "203.0.113.1:9100 cannot be listened on",
        ),
    ] {
        let said = refusal(&["ingest"], &[&services[..], settings].concat());
        assert!(
            said.contains(consequence),
            "`{consequence}` is not in: {said}"
        );
    }
    for origin in ["*", "null", "https://app.example/", "https://a.example,"] {
        let settings = [services[0], ("RIVULET_API_ORIGINS", origin)];
        let said = refusal(&["api"], &settings);
        assert!(said.contains("an origin is"), "{said}");
    }
}

#[test]
fn a_time_that_not_every_store_has_is_no_time() {
    let services = [
        ("DATABASE_URL", "postgres://127.0.0.1:1/none"),
        ("CLICKHOUSE_URL", "http://127.0.0.1:1"),
        ("KAFKA_BROKERS", "127.0.0.1:1"),
    ];
    for command in [
        &["quarantine", "list", "--since"][..],
        &["quarantine", "drop", "--until"],
        &["verify", "--since"],
        &["verify", "--until"],
        &["trace", PARENT, "--since"],
    ] {
        for time in [
            "-5000-01-01T00:00:00Z",
            "+10000-01-01T00:00:00Z",
            "1969-01-01T00:00:00Z",
        ] {
            let (last, rest) = command.split_last().unwrap();
            let flag = format!("{last}={time}");
            let said = refusal(&[rest, &[&flag]].concat(), &services);
            assert!(
                said.contains("must be from 1970 to 9999"),
                "{command:?} {time}: {said}"
            );
        }
    }
    for hours in ["0", "-1", "-9223372036854775808", "9223372036854775807"] {
        let said = refusal(&["verify", &format!("--hours={hours}")], &services);
        assert!(said.contains("is not in 1..="), "{said}");
    }
}
