//! Tools that some tests need besides the services, and what becomes of such a test where one is missing.

use std::{
    env, fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::Command,
};

use crate::{home::Home, program::which};

/// A test goes without a tool: says so as [`not_tested`]; in CI, which has what `./dev test` installs, that is a failure.
/// `why` says what is missing, and how to get it.
///
/// # Panics
/// Where the variable `CI` is set, and not empty.
pub fn missing(what: &str, why: &str) {
    let is_ci = env::var_os("CI").is_some_and(|ci| !ci.is_empty());
    fail_in_ci(is_ci, what, why);
    not_tested(what, why);
}

fn fail_in_ci(is_ci: bool, what: &str, why: &str) {
    assert!(!is_ci, "not tested, which CI must not be: {what}: {why}");
}

/// Says that something is not tested, past the capture of a test's output.
pub fn not_tested(what: &str, why: &str) {
    let said = format!("not tested: {what}: {why}\n");
    // Where nobody can be told, nothing is to be done about it.
    let _ = io::stderr().write_all(said.as_bytes());
}

/// The first of these programs that there is.
pub fn program(names: &[&str]) -> Option<PathBuf> {
    names.iter().find_map(|name| which(name))
}

/// Prometheus' own checker. Where it is missing, that is said of `what` by [`missing`].
///
/// # Panics
/// As [`missing`].
pub fn promtool(what: &str) -> Option<Command> {
    let promtool = program(&["promtool"]);
    if promtool.is_none() {
        let why = "there is no promtool: `./dev test` fetches it on Debian; elsewhere it comes with Prometheus, \
                   https://prometheus.io/download";
        missing(what, why);
    }
    promtool.map(Command::new)
}

/// A Python that has what a file of requirements names, in `tools/` of the directory of the sandbox that belongs to
/// this checkout. Where it cannot be had, that is said of `what` by [`missing`].
///
/// # Panics
/// As [`missing`], and where the file is not there.
#[expect(
    clippy::expect_used,
    reason = "for tests only, which end here in any case"
)]
pub fn python(what: &str, name: &str, requirements: &Path) -> Option<PathBuf> {
    let wanted = fs::read(requirements).expect("requirements of a test");
    let folder = Home::default_dir().join("tools").join(name);
    let python = folder.join("bin/python");
    let stamp = folder.join("installed");
    if fs::read(&stamp).is_ok_and(|there| there == wanted) {
        return Some(python);
    }
    let _ = fs::remove_dir_all(&folder);
    let mut venv = Command::new("python3");
    venv.args(["-m", "venv"]).arg(&folder);
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--requirement"])
        .arg(requirements);
    for (mut step, why) in [
        (
            venv,
            "there is no Python 3.10 with venv. On Debian: apt-get install python3-venv",
        ),
        (
            pip,
            "what its Python needs cannot be had of PyPI, which is asked once",
        ),
    ] {
        // It says itself what is wrong.
        if !step.status().is_ok_and(|status| status.success()) {
            missing(what, why);
            return None;
        }
    }
    // Last: it says that the installation is complete.
    fs::write(stamp, wanted).expect("a stamp beside what was installed");
    Some(python)
}

#[cfg(test)]
mod tests {
    use super::{fail_in_ci, program};

    #[test]
    fn what_is_missing_is_a_failure_in_ci_alone() {
        fail_in_ci(false, "the page", "there is no browser");
        let failed = std::panic::catch_unwind(|| fail_in_ci(true, "the page", "no browser"));
        let why = failed.unwrap_err();
        let why = why.downcast_ref::<String>().unwrap();
        assert!(why.ends_with("the page: no browser"), "{why}");
    }

    #[test]
    fn the_first_program_that_there_is() {
        let found = program(&["no-such-program", "sh", "cat"]).unwrap();
        assert_eq!(found.file_name().unwrap(), "sh");
        assert_eq!(program(&["no-such-program"]), None);
    }
}
