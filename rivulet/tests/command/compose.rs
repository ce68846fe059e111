//! docker-compose.yml, as far as it can be checked without an engine.

use std::{collections::BTreeSet, path::Path, process::Command};

use serde_json::Value;

fn yaml(file: &str) -> Value {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file);
    // Resolves anchors and merge keys, as the engine does.
    serde_saphyr::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
}

fn compose() -> Value {
    yaml("docker-compose.yml")
}

fn services(compose: &Value) -> impl Iterator<Item = (&String, &Value)> {
    compose["services"].as_object().unwrap().iter()
}

fn words(value: &Value) -> Vec<&str> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|word| word.as_str().unwrap())
        .collect()
}

#[test]
fn every_service_is_pinned_bounded_and_watched() {
    let compose = compose();
    let names: BTreeSet<_> = services(&compose).map(|(name, _)| name.as_str()).collect();
    let all = [
        "kafka",
        "postgres",
        "clickhouse",
        "ingest",
        "aggregate",
        "sink",
        "api",
        "verify",
        "canary",
        "prometheus",
        "grafana",
    ];
    assert!(all.iter().all(|name| names.contains(name)), "{names:?}");
    for (name, service) in services(&compose) {
        let (_, tag) = service["image"].as_str().unwrap().split_once(':').unwrap();
        assert!(!tag.is_empty() && tag != "latest", "{name}");
        assert!(
            service["mem_limit"].is_string(),
            "{name} has no memory limit"
        );
        let one_shot = service["restart"] == "no";
        assert_ne!(
            one_shot,
            service["healthcheck"]["test"].is_array(),
            "{name}"
        );
        for (on, how) in service["depends_on"].as_object().into_iter().flatten() {
            let awaited = &compose["services"][on];
            let condition = how["condition"].as_str().unwrap();
            match condition {
                "service_healthy" => assert!(awaited["healthcheck"].is_object(), "{name} on {on}"),
                "service_completed_successfully" => {
                    assert_eq!(awaited["restart"], "no", "{name} on {on}")
                }
                other => panic!("{name} waits for {other}"),
            }
        }
        for volume in service["volumes"].as_array().into_iter().flatten() {
            let source = volume.as_str().unwrap().split(':').next().unwrap();
            if let Some(path) = source.strip_prefix("./") {
                assert!(
                    Path::new(env!("CARGO_MANIFEST_DIR"))
                        .join("..")
                        .join(path)
                        .exists(),
                    "{source}"
                );
            } else {
                assert!(
                    compose["volumes"].get(source).is_some(),
                    "volume {source} is not declared"
                );
            }
        }
    }
}

#[test]
fn grafana_finds_its_boards_and_what_they_read() {
    const PROVISIONING: &str = "dashboards/grafana/provisioning";
    let compose = compose();
    let mounts = words(&compose["services"]["grafana"]["volumes"]);
    let provider = &yaml(&format!("{PROVISIONING}/dashboards/rivulet.yml"))["providers"][0];
    let boards = provider["options"]["path"].as_str().unwrap();
    for (from, to) in [
        (PROVISIONING, "/etc/grafana/provisioning"),
        ("dashboards/grafana/boards", boards),
    ] {
        let mount = format!("./{from}:{to}:ro");
        assert!(mounts.contains(&mount.as_str()), "{mount} {mounts:?}");
    }
    let sources = yaml(&format!("{PROVISIONING}/datasources/rivulet.yml"));
    let environment = &compose["services"]["grafana"]["environment"];
    for source in sources["datasources"].as_array().unwrap() {
        let url = source["url"]
            .as_str()
            .or(source["jsonData"]["host"].as_str());
        let host = url
            .unwrap()
            .trim_start_matches("http://")
            .split(':')
            .next()
            .unwrap();
        assert!(compose["services"].get(host).is_some(), "{source}");
        if let Some(password) = source["secureJsonData"]["password"].as_str() {
            let variable = password.strip_prefix('$').unwrap();
            assert!(environment.get(variable).is_some(), "{variable}");
        }
        let kind = source["type"].as_str().unwrap();
        assert!(
            kind != "grafana-clickhouse-datasource"
                || environment["GF_PLUGINS_PREINSTALL"].as_str() == Some(kind)
        );
    }
}

#[test]
fn prometheus_scrapes_every_role_where_it_listens() {
    let compose = compose();
    let dockerfile = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Dockerfile");
    let dockerfile = std::fs::read_to_string(dockerfile).unwrap();
    let scrape = &yaml("dashboards/prometheus/prometheus.yml")["scrape_configs"][0];
    let mut scraped = BTreeSet::new();
    let mut scraped_at = |role: &str, port: &str| {
        let listens = format!("_LISTEN=0.0.0.0:{port} ");
        assert!(dockerfile.contains(&listens), "nobody listens at {port}");
        scraped.insert(role.to_owned());
    };
    for of in scrape["static_configs"].as_array().unwrap() {
        for target in words(&of["targets"]) {
            let (role, port) = target.split_once(':').unwrap();
            assert_eq!(of["labels"]["role"], role);
            scraped_at(role, port);
        }
    }
    for of in scrape["dns_sd_configs"].as_array().unwrap() {
        for role in words(&of["names"]) {
            scraped_at(role, &of["port"].to_string());
        }
    }
    let roles = services(&compose)
        .filter(|(_, service)| service["image"] == "rivulet:local" && service["restart"] != "no");
    let roles: BTreeSet<_> = roles.map(|(name, _)| name.clone()).collect();
    assert_eq!(scraped, roles);
}

#[test]
fn it_holds_no_secret() {
    let compose = compose();
    for (name, service) in services(&compose) {
        for (variable, value) in service["environment"].as_object().into_iter().flatten() {
            if variable.contains("PASSWORD") {
                let value = value.as_str().unwrap();
                assert!(
                    value.starts_with("${") && value.contains(":?"),
                    "{name} {variable} has a default"
                );
            }
            if variable.ends_with("_KEY") {
                // Not `:?`, which would ask everybody for it; who reads it refuses an empty one.
                let value = value.as_str().unwrap();
                assert!(
                    value.starts_with("${") && value.ends_with(":-}"),
                    "{name} {variable} has a default"
                );
            }
            let value = value.as_str().unwrap_or_default();
            if let Some((_, login)) = value.split_once("://rivulet:") {
                assert!(
                    login.starts_with("${"),
                    "{name} {variable} has a password in it"
                );
            }
        }
    }
}

#[test]
fn each_service_has_the_password_of_its_own_login_and_no_other() {
    let compose = compose();
    for (name, service) in services(&compose) {
        let environment = service["environment"].as_object().into_iter().flatten();
        let given: BTreeSet<_> = environment
            .clone()
            .filter_map(|(variable, _)| {
                let login = variable
                    .strip_prefix("RIVULET_")?
                    .strip_suffix("_PASSWORD")?;
                Some(login.to_lowercase())
            })
            .collect();
        let given: Vec<_> = given.iter().map(String::as_str).collect();
        let wanted = match name.as_str() {
            "migrate" => &[
                "aggregate",
                "api",
                "auditor",
                "boards",
                "ingest",
                "operator",
                "sink",
            ][..],
            "sink" => &["operator", "sink"],
            "verify" | "canary" => &["operator"],
            "grafana" => &["boards"],
            role @ ("ingest" | "aggregate" | "api") => &[role][..],
            _ => &[],
        };
        assert_eq!(given, wanted, "{name}");
        // The owner's is for whoever migrates.
        let is_owner = environment
            .clone()
            .any(|(_, value)| value.to_string().contains("${POSTGRES_PASSWORD"));
        assert_eq!(
            is_owner,
            ["postgres", "migrate"].contains(&name.as_str()),
            "{name}"
        );
    }
    // What has to be in .env, its head comment makes.
    let text = include_str!("../../../docker-compose.yml");
    let made = "for name in POSTGRES CLICKHOUSE GRAFANA RIVULET_{INGEST,AGGREGATE,SINK,API,BOARDS,OPERATOR,AUDITOR}";
    assert!(text.contains(made));
    for part in text.split("${").skip(1) {
        let (variable, rest) = part.split_once([':', '}']).unwrap();
        let known = [
            "POSTGRES",
            "CLICKHOUSE",
            "GRAFANA",
            "RIVULET_INGEST",
            "RIVULET_AGGREGATE",
        ]
        .into_iter()
        .chain([
            "RIVULET_SINK",
            "RIVULET_API",
            "RIVULET_BOARDS",
            "RIVULET_OPERATOR",
            "RIVULET_AUDITOR",
        ]);
        let is_made = known
            .map(|name| format!("{name}_PASSWORD"))
            .any(|name| name == variable);
        assert!(
            is_made || rest.starts_with('-') || variable == "name",
            "{variable} is not made"
        );
    }
}

#[test]
fn the_roles_are_commands_of_this_binary() {
    let compose = compose();
    let roles: Vec<_> = services(&compose)
        .filter(|(_, service)| service["image"] == "rivulet:local")
        .collect();
    assert_eq!(roles.len(), 8);
    for (name, service) in roles {
        assert_eq!(service["read_only"], true, "{name}");
        let command = words(&service["command"]);
        let help = Command::new(env!("CARGO_BIN_EXE_rivulet"))
            .args(&command)
            .arg("--help")
            .output()
            .unwrap();
        assert!(help.status.success(), "{name}: rivulet {command:?}");
        let help = String::from_utf8(help.stdout).unwrap();
        // A variable that a role does not read would be a setting without effect.
        let read: Vec<_> = service["environment"].as_object().unwrap().keys().collect();
        assert!(
            read.iter()
                .any(|name| help.contains(&format!("[env: {name}"))),
            "{name} reads none of {read:?}"
        );
    }
}
