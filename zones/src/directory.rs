//! A directory of compiled zones (TZif, RFC 9636), laid out as `zic` writes it.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io::{self, Read as _},
    path::{Path, PathBuf},
    time::SystemTime,
};

use chrono::{DateTime, NaiveDate, Utc};
use jiff::tz::TimeZone as Tz;

/// Where operating systems keep it, unless `TZDIR` says otherwise.
const SYSTEM: [&str; 3] = [
    "/usr/share/zoneinfo",
    "/usr/lib/zoneinfo",
    "/usr/share/lib/zoneinfo",
];

/// How a compiled zone begins.
const MAGIC: &[u8; 4] = b"TZif";

/// Files beyond this many are not looked at: IANA has 600 names, `posix/` and `right/` as many again.
const MOST_FILES: usize = 4_000;
/// A longer file is no zone's; the longest that `zic` makes is a twentieth of it.
const MOST_BYTES: u64 = 64 << 10;

/// The system's directory, if it has one.
pub(crate) fn of_system() -> Option<PathBuf> {
    let named = std::env::var_os("TZDIR").map(PathBuf::from);
    let usual = SYSTEM.iter().map(PathBuf::from);
    named.into_iter().chain(usual).find(|dir| dir.is_dir())
}

/// Whether a path below the directory is the name of a zone: `posix/` and `right/` have every zone again,
/// `localtime` and `posixrules` are this machine's, and `Factory` is the one that was not set yet.
pub(crate) fn is_zone(name: &str) -> bool {
    let top = name.split('/').next().unwrap_or(name);
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '_' | '+' | '-');
    !matches!(
        top,
        "posix" | "right" | "localtime" | "posixrules" | "Factory"
    ) && name.chars().all(plain)
}

/// The files of a directory, without their contents.
pub(crate) struct Listing {
    directory: PathBuf,
    /// By name, with a stamp that changes whenever the file does.
    files: BTreeMap<String, Stamp>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Stamp {
    bytes: u64,
    modified: Option<SystemTime>,
    #[cfg(unix)]
    inode: u64,
}

impl Stamp {
    fn of(meta: &fs::Metadata) -> Self {
        Self {
            bytes: meta.len(),
            modified: meta.modified().ok(),
            #[cfg(unix)]
            inode: std::os::unix::fs::MetadataExt::ino(meta),
        }
    }
}

impl Listing {
    /// What is there now.
    ///
    /// # Errors
    /// The directory cannot be listed.
    pub(crate) fn of(directory: &Path) -> io::Result<Self> {
        let mut files = BTreeMap::new();
        let mut left = vec![(directory.to_owned(), String::new())];
        while let Some((path, prefix)) = left.pop() {
            for entry in fs::read_dir(path)? {
                let entry = entry?;
                let Some(name) = entry
                    .file_name()
                    .to_str()
                    .map(|name| format!("{prefix}{name}"))
                else {
                    continue;
                };
                // Aliases are links.
                let Ok(meta) = fs::metadata(entry.path()) else {
                    continue;
                };
                if meta.is_dir() {
                    // A link to a directory above would never end.
                    if is_zone(&name) && !entry.file_type()?.is_symlink() {
                        left.push((entry.path(), format!("{name}/")));
                    }
                } else if files.len() < MOST_FILES && meta.is_file() && meta.len() > 0 {
                    files.insert(name, Stamp::of(&meta));
                }
            }
        }
        Ok(Self {
            directory: directory.to_owned(),
            files,
        })
    }

    /// Changes whenever a file does.
    pub(crate) fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.files.hash(&mut hasher);
        hasher.finish()
    }

    /// When the newest of its files was written.
    pub(crate) fn packed(&self) -> Option<NaiveDate> {
        let newest = self.files.values().filter_map(|file| file.modified).max()?;
        Some(DateTime::<Utc>::from(newest).date_naive())
    }

    /// Whether there is a zone among the files.
    pub(crate) fn has_zones(&self) -> bool {
        let magic = |name: &String| {
            let mut start = [0; MAGIC.len()];
            let file = File::open(self.directory.join(name));
            file.is_ok_and(|mut file| file.read_exact(&mut start).is_ok() && start == *MAGIC)
        };
        self.files.keys().filter(|name| is_zone(name)).any(magic)
    }

    /// Adds the rules of those of its zones that are not there; what is no zone is passed over, and what cannot
    /// be read is returned.
    pub(crate) fn add_zones(&self, to: &mut BTreeMap<String, Tz>) -> Vec<String> {
        let mut unreadable = Vec::new();
        for (name, file) in &self.files {
            if !is_zone(name) || file.bytes > MOST_BYTES || to.contains_key(name) {
                continue;
            }
            match fs::read(self.directory.join(name)) {
                Ok(data) if !data.starts_with(MAGIC) => {}
                Ok(data) => match Tz::tzif(name, &data) {
                    Ok(zone) => drop(to.insert(name.clone(), zone)),
                    Err(_) => unreadable.push(name.clone()),
                },
                Err(_) => unreadable.push(name.clone()),
            }
        }
        let text = self.text("tzdata.zi").unwrap_or_default();
        for (target, alias) in text.lines().filter_map(link) {
            if is_zone(alias)
                && !to.contains_key(alias)
                && !self.files.contains_key(alias)
                && let Some(zone) = to.get(target)
            {
                to.insert(alias.to_owned(), zone.clone());
            }
        }
        unreadable
    }

    /// The name of the release: from the first line of `tzdata.zi`, or from `+VERSION` or `version`, as BSDs, macOS and
    /// IANA's own archive have it.
    pub(crate) fn version(&self) -> Option<String> {
        let first_line = |name: &str| Some(self.text(name)?.lines().next()?.trim().to_owned());
        first_line("tzdata.zi")
            .and_then(|line| Some(line.strip_prefix("# version ")?.trim().to_owned()))
            .or_else(|| first_line("+VERSION"))
            .or_else(|| first_line("version"))
            .filter(|version| crate::release::rank(version).is_some() && version.len() <= 32)
    }

    fn text(&self, name: &str) -> Option<String> {
        self.files.get(name)?;
        let mut text = String::new();
        let file = File::open(self.directory.join(name)).ok()?;
        file.take(16 * MOST_BYTES).read_to_string(&mut text).ok()?;
        Some(text)
    }
}

/// `L Target Alias`. Distributions leave old names out of the directory, and no country out of the text.
fn link(line: &str) -> Option<(&str, &str)> {
    let mut words = line.strip_prefix("L ")?.split_ascii_whitespace();
    Some((words.next()?, words.next()?))
}
