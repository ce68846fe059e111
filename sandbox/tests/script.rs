//! The script `./dev`, sourced with other functions in place of what would start services: what it has built,
//! and what it says meanwhile.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::{
    collections::BTreeSet,
    env, fs,
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;

fn checkout() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Without what cargo tells its tests, and with the toolchain that it chose.
fn bash(script: &str) -> Command {
    let mut bash = Command::new("bash");
    for (name, _) in env::vars_os() {
        if name.to_string_lossy().starts_with("CARGO_TERM") {
            bash.env_remove(name);
        }
    }
    bash.args(["-c", script]).current_dir(checkout());
    bash
}

fn said(output: &Output) -> String {
    let both = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    both.concat()
}

/// Every `cargo build`, `test` and `clippy` of every command, as the script would start it.
fn builds(folder: &Path) -> Vec<Vec<String>> {
    let recorded = folder.join("cargo");
    let script = r#"
        source ./dev
        for name in need_rust need_programs need_component need_promtool check_dependencies; do
            eval "$name() { :; }"
        done
        target() { echo /nowhere; }
        # What is to run on the services is run without them.
        sandbox() {
            [[ $1 == run ]] || return 0
            shift 3
            [[ $1 == /nowhere/* ]] || "$@"
        }
        cargo() { printf '%s\n' "$*" >>"$RECORDED"; }
        export -f cargo
        for command in 'up' 'up --services' 'up --no-demo' 'test --test sandbox testbed::' 'test --fast' 'test --faults' \
            'bench'; do
            (main $command)
        done
        # All of it, with tests/sabotage, for which no output of a test is a failure.
        (main test) || true
        # Where nothing was built yet.
        RIVULET_DEV_DIR=/ main env
    "#;
    let ran = bash(script).env("RECORDED", &recorded).output().unwrap();
    assert!(ran.status.success(), "{}", said(&ran));
    let recorded = fs::read_to_string(recorded).unwrap();
    let lines: BTreeSet<&str> = recorded.lines().collect();
    lines
        .into_iter()
        .map(|line| line.split(' ').map(str::to_owned).collect::<Vec<_>>())
        .filter(|args| ["build", "test", "clippy"].contains(&args[0].as_str()))
        .collect()
}

/// What a build has to have of others' crates: which, with which features and profile.
fn dependencies(args: &[String]) -> BTreeSet<String> {
    let args = args.split(|arg| arg == "--").next().unwrap();
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        // Clippy is `check` with another compiler for our own crates.
        .arg(if args[0] == "clippy" {
            "check"
        } else {
            &args[0]
        })
        .args(&args[1..])
        .args(["--offline", "--unit-graph", "-Z", "unstable-options"])
        // What a build would do is told by nothing else without doing it.
        .env("RUSTC_BOOTSTRAP", "1")
        .current_dir(checkout());
    let output = cargo.output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let graph: Value = serde_json::from_slice(&output.stdout).unwrap();
    let units = graph["units"].as_array().unwrap().iter();
    units
        .filter(|unit| unit["pkg_id"].as_str().unwrap().starts_with("registry+"))
        .map(|unit| {
            // A test's profile is that of its build, under another name.
            let mut profile = unit["profile"].clone();
            profile.as_object_mut().unwrap().remove("name");
            let id = unit["pkg_id"].as_str().unwrap();
            let id = id.rsplit('#').next().unwrap();
            format!(
                "{id} {} {} {profile}",
                unit["target"]["kind"], unit["features"]
            )
        })
        .collect()
}

#[test]
fn no_command_builds_dependencies_that_another_has_built() {
    let folder = tempfile::tempdir().unwrap();
    let builds = builds(folder.path());
    // `up`, with and without Rivulet; lints; the tests' build, and they themselves, some, all, the fast ones, the
    // faults and the sabotaged; `bench`.
    assert!(builds.len() >= 9, "{builds:#?}");
    for release in [false, true] {
        let is_release = |args: &&Vec<String>| args.contains(&"--release".to_owned()) == release;
        let needs: Vec<_> = builds
            .iter()
            .filter(is_release)
            .map(|args| (args.join(" "), dependencies(args)))
            .collect();
        let (_, most) = needs.iter().max_by_key(|(_, need)| need.len()).unwrap();
        assert!(most.iter().any(|unit| unit.starts_with("rdkafka-sys")));
        for (build, need) in &needs {
            let others: Vec<_> = need.difference(most).collect();
            assert!(
                others.is_empty(),
                "`cargo {build}` has these built once more: {others:#?}"
            );
        }
    }
}

#[test]
fn the_fast_tests_start_no_service_and_install_nothing() {
    let script = r#"
        source ./dev
        for name in need_rust need_component; do
            eval "$name() { :; }"
        done
        for name in sandbox on_services need_programs need_promtool apt_install; do
            eval "$name() { echo \"$name is not for these\"; exit 1; }"
        done
        cargo() { printf 'cargo %s\n' "$*"; }
        main test --fast
    "#;
    let ran = bash(script).output().unwrap();
    let said = said(&ran);
    assert!(ran.status.success(), "{said}");
    let mut lines = said.lines();
    assert_eq!(lines.next(), Some("cargo fmt --all --check"));
    let tests = lines.next().unwrap();
    let begin = "cargo test --workspace --lib --bins --test=command ";
    assert!(tests.starts_with(begin), "{tests}");
    assert_eq!(lines.next(), None);
}

#[test]
fn a_build_says_how_far_it_is_and_shows_errors_whole() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write(
        "Cargo.toml",
        "[package]\nname = \"small\"\nedition = \"2024\"\n[workspace]\n",
    );
    // Longer than cargo waits before it shows a bar.
    write(
        "build.rs",
        "fn main() { std::thread::sleep(std::time::Duration::from_secs(2)); }",
    );
    fs::create_dir(folder.path().join("src")).unwrap();
    write("src/main.rs", "fn main() { 1 + \"one\"; 2 + \"two\"; }");
    let build = |moving: &str| {
        // At a terminal the script itself asks for a line that moves.
        let script = format!(
            "source ./dev
             eval \"told() $(declare -f progress | tail -n +2)\"
             progress() {{ told '{moving}' \"$2\" \"$3\"; }}
             cd \"$FOLDER\"
             rm -rf target
             follow building 'the rest' build --offline"
        );
        let mut bash = bash(&script);
        bash.env("FOLDER", folder.path())
            .env_remove("CARGO_TARGET_DIR");
        let output = bash.output().unwrap();
        assert_eq!(output.status.code(), Some(101), "{}", said(&output));
        said(&output)
    };
    for moving in ["", "yes"] {
        let said = build(moving);
        for whole in [
            "error[E0277]: cannot add `&str` to `{integer}`",
            "src/main.rs:1:15",
            "could not compile `small`",
            // Between one and the next.
            "\n\n",
        ] {
            let said = said.replace("\r\x1b[K", "");
            assert!(said.contains(whole), "{whole}: {said}");
        }
        assert!(
            !said.contains("Compiling") && !said.contains("Building"),
            "{said}"
        );
        assert!(said.contains("then the rest"), "{said}");
        assert_eq!(
            said.contains("\r\x1b[Kdev: building 1/3, small(build); then the rest"),
            moving == "yes",
            "{said:?}"
        );
    }
}
