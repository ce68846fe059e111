//! Programs that the sandbox runs for a moment, and where they are.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

/// Whether a program is on PATH.
pub(crate) fn has(program: &str) -> bool {
    which(program).is_some()
}

pub(crate) fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
}

/// A program of this workspace, from the build directory that this one came from.
///
/// # Errors
/// It is not built.
pub fn sibling(name: &str) -> Result<PathBuf> {
    let me = std::env::current_exe().context("where is this program?")?;
    // A test's program is one directory further down.
    let found = me
        .ancestors()
        .skip(1)
        .take(2)
        .map(|dir: &Path| dir.join(name))
        .find(|file| file.is_file());
    found.with_context(|| format!("{name} is not built: run it through ./dev"))
}

/// Runs a helper program to its end; its output is part of the error.
pub(crate) fn run(mut command: Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let out = command.output().with_context(|| format!("run {program}"))?;
    if !out.status.success() {
        bail!(
            "{program} failed ({}):\n{}{}",
            out.status,
            String::from_utf8_lossy(&out.stdout),
            String::from_utf8_lossy(&out.stderr)
        );
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

/// A strict umask must not hide downloads from the servers' user.
pub(crate) fn readable(path: &Path) -> Result<()> {
    let mut chmod = Command::new("chmod");
    chmod.args(["-R", "a+rX"]).arg(path);
    run(chmod).map(drop)
}
