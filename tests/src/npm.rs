//! Copies of what is written in JavaScript, with the packages it needs: beside everything else that was fetched, and not in
//! the tree.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use tokio::process::Command;

/// What a checkout may have and a copy must not.
const MADE: [&str; 3] = ["node_modules", "dist", "failures"];

/// Copies the folder `from` of the repository to `to` in `.dev/tools`, and installs its packages there. `None`
/// where npm cannot.
pub async fn npm_packages(from: &str, to: &str) -> Option<PathBuf> {
    let dir = copy_folder(from, to).ok()?;
    let (wanted, installed) = (
        dir.join("package-lock.json"),
        dir.join("node_modules/installed"),
    );
    if fs::read(&wanted).ok() == fs::read(&installed).ok() {
        return Some(dir);
    }
    let npm = Command::new("npm")
        .args(["ci", "--no-audit", "--no-fund"])
        .current_dir(&dir)
        .env("PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD", "1")
        .status()
        .await;
    if !npm.is_ok_and(|status| status.success()) {
        return None;
    }
    fs::copy(wanted, installed).ok()?;
    Some(dir)
}

/// A copy of a folder; what is there of an older checkout would be run too, so it goes.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for old in fs::read_dir(to)? {
        let old = old?;
        match old.file_type()?.is_dir() {
            _ if old.file_name() == "node_modules" => {}
            true => fs::remove_dir_all(old.path())?,
            false => fs::remove_file(old.path())?,
        }
    }
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name();
        let is_dir = entry.file_type()?.is_dir();
        match is_dir {
            _ if MADE.iter().any(|made| name == *made) => {}
            true => copy(&entry.path(), &to.join(name))?,
            false => drop(fs::copy(entry.path(), to.join(name))?),
        }
    }
    Ok(())
}

/// Copies the folder `from` of the repository to `to` in `.dev/tools`; returns where that is.
///
/// # Errors
/// It cannot be read or written.
pub fn copy_folder(from: &str, to: &str) -> io::Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let home = std::env::var_os("RIVULET_DEV_DIR").map_or_else(|| root.join(".dev"), PathBuf::from);
    let dir = home.join("tools").join(to);
    copy(&root.join(from), &dir)?;
    Ok(dir)
}
