//! The official Python and Node clients, each in a small program of its own.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::support::{Door, tools};

fn clients() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients")
}

/// Where what the programs need is installed, by the first test to want it.
fn installed(name: &str, list: &str, install: impl Fn(&Path)) -> PathBuf {
    let folder = tools().join("door-clients").join(name);
    let stamp = folder.join("installed");
    let wanted = std::fs::read(clients().join(list)).unwrap();
    if std::fs::read(&stamp).is_ok_and(|there| there == wanted) {
        return folder;
    }
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    install(&folder);
    // Last: it says that the installation is complete.
    std::fs::write(stamp, wanted).unwrap();
    folder
}

fn run(command: &mut Command, missing: &str) {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}: {missing}"));
    assert!(
        output.status.success(),
        "{command:?}\n{}{}\n{missing}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn the_python_client() {
    let folder = installed("python", "requirements.txt", |folder| {
        run(
            Command::new("python3").args(["-m", "venv"]).arg(folder),
            "the tests need Python 3.9 or later with venv (Debian: python3-venv)",
        );
        let mut pip = Command::new(folder.join("bin/pip"));
        pip.args(["install", "--quiet", "--requirement"])
            .arg(clients().join("requirements.txt"));
        run(&mut pip, "the tests need PyPI once");
    });
    let door = Door::open();
    let mut check = Command::new(folder.join("bin/python"));
    run(
        check
            .arg(clients().join("check.py"))
            .arg(door.port.to_string()),
        "",
    );
}

#[test]
fn the_node_client() {
    let folder = installed("node", "package.json", |folder| {
        std::fs::copy(clients().join("package.json"), folder.join("package.json")).unwrap();
        let mut npm = Command::new("npm");
        npm.args(["install", "--no-fund", "--no-audit", "--no-package-lock"])
            .current_dir(folder);
        run(
            &mut npm,
            "the tests need Node 18 or later with npm, and its registry once",
        );
    });
    let door = Door::open();
    let mut check = Command::new("node");
    check
        .arg(clients().join("check.mjs"))
        .arg(door.port.to_string())
        .current_dir(folder);
    run(&mut check, "");
}
