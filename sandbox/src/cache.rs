//! Downloads, fetched once a user: every checkout's `.dev/tools` links to what the user's cache holds.

use std::{
    collections::BTreeMap,
    env,
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, Read},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use rustix::fs::Access;
use xxhash_rust::xxh3::Xxh3;

use crate::program::readable;

/// In each directory of the cache: what its files were when they were fetched.
const CHECKSUMS: &str = "checksums.json";
const CLIENT: &str = "client-cache";

/// `own`, a directory that `fetch` fills, or, where a checkout of this user has it already, its copy. An
/// interrupted or damaged download is made again; of two checkouts that start together one waits.
pub(crate) fn directory(own: &Path, fetch: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    in_cache(user_cache(|name| env::var_os(name)), own, fetch)
}

/// Where a client (npm, Maven) is to keep its own cache while it fetches into `dir`, if not where it always
/// does: with a home that cannot be written one of them fails, and another never ends.
pub(crate) fn of_client(dir: &Path) -> Option<PathBuf> {
    let home = env::var_os("HOME").unwrap_or_default();
    let writable = rustix::fs::access(home, Access::WRITE_OK).is_ok();
    (!writable).then(|| dir.join(CLIENT))
}

/// `RIVULET_CACHE_DIR`, else `rivulet` where the user's caches are; `./dev` knows the same.
fn user_cache(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    // Not relative to wherever this happens to run.
    let named = |name| Some(PathBuf::from(variable(name)?)).filter(|dir| dir.is_absolute());
    named("RIVULET_CACHE_DIR")
        .or_else(|| Some(named("XDG_CACHE_HOME")?.join("rivulet")))
        .or_else(|| Some(named("HOME")?.join(".cache/rivulet")))
}

fn in_cache(
    cache: Option<PathBuf>,
    own: &Path,
    fetch: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    if own.exists() {
        return Ok(());
    }
    let fetch = |new: &Path| {
        fetch(new)?;
        remove(&new.join(CLIENT))?;
        readable(new)
    };
    let name = own.file_name().context("a directory has a name")?;
    let cached = cache
        .context("neither XDG_CACHE_HOME nor HOME is set")
        .and_then(|cache| turn(cache.join(name)));
    let (_turn, cached) = match cached {
        Ok(cached) => cached,
        Err(error) => {
            eprintln!("downloading for this checkout alone: {error:#}");
            return whole(own, fetch);
        }
    };
    if cached.exists() {
        match whole(own, |new| link(&cached, new)) {
            Ok(()) => return Ok(()),
            Err(error) => eprintln!("{error:#}: fetching it again"),
        }
    }
    whole(&cached, |new| {
        fetch(new)?;
        let checksums = serde_json::to_vec_pretty(&checksums(new)?)?;
        Ok(fs::write(new.join(CHECKSUMS), checksums)?)
    })?;
    whole(own, |new| link(&cached, new))
}

/// Makes a directory that is there either whole or not at all.
fn whole(dir: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let new = beside(dir, "new");
    remove(&new)?;
    fs::create_dir_all(&new).with_context(|| format!("create {}", new.display()))?;
    fill(&new)?;
    remove(dir)?;
    fs::rename(&new, dir).with_context(|| format!("rename {}", new.display()))
}

fn remove(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).context(format!("remove {}", dir.display()))
        }
        _ => Ok(()),
    }
}

/// Waits until no other checkout fetches it. An error where the cache cannot be written to.
fn turn(cached: PathBuf) -> Result<(File, PathBuf)> {
    let cache = cached.parent().unwrap_or(&cached);
    fs::create_dir_all(cache).with_context(|| format!("create {}", cache.display()))?;
    let path = beside(&cached, "lock");
    let lock = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .with_context(|| format!("open {}", path.display()))?;
    lock.lock()
        .with_context(|| format!("lock {}", path.display()))?;
    if !cached.exists() {
        let new = beside(&cached, "new");
        fs::create_dir_all(&new).with_context(|| format!("create {}", new.display()))?;
    }
    Ok((lock, cached))
}

/// A version has dots, so this is no extension of it.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}

/// Links every file of `cached` that is what it was when it was fetched, so that neither takes room twice nor
/// is gone with the other; copies it where that is another disk.
fn link(cached: &Path, new: &Path) -> Result<()> {
    let expected = fs::read(cached.join(CHECKSUMS))
        .map_err(anyhow::Error::from)
        .and_then(|text| Ok(serde_json::from_slice::<BTreeMap<PathBuf, String>>(&text)?))
        .with_context(|| format!("{} is not complete", cached.display()))?;
    for (file, expected) in expected {
        let (from, to) = (cached.join(&file), new.join(&file));
        ensure!(
            checksum(&from).is_ok_and(|found| found == expected),
            "{} is damaged",
            from.display()
        );
        fs::create_dir_all(to.parent().unwrap_or(new))?;
        // As `readable` does, but the files may be another user's.
        for folder in to
            .ancestors()
            .skip(1)
            .take_while(|dir| dir.starts_with(new))
        {
            fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
        }
        if fs::hard_link(&from, &to).is_err() {
            fs::copy(&from, &to).with_context(|| format!("copy {}", from.display()))?;
        }
    }
    Ok(())
}

/// Of every file in `dir`, by its path there.
fn checksums(dir: &Path) -> Result<BTreeMap<PathBuf, String>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.strip_prefix(dir)?.to_owned(), checksum(&path)?);
            }
        }
    }
    Ok(found)
}

/// Against damage, not against whoever may write to the user's cache.
fn checksum(file: &Path) -> Result<String> {
    let mut file = File::open(file)?;
    let (mut hash, mut buffer) = (Xxh3::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(format!("{:032x}", hash.digest128())),
            read => hash.update(&buffer[..read]),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::fs::MetadataExt,
        sync::atomic::{AtomicUsize, Ordering},
        thread,
        time::Duration,
    };

    use anyhow::bail;

    use super::*;

    /// Counts how often it is asked, and is slow enough to be met at work.
    fn library(fetched: &AtomicUsize) -> impl Fn(&Path) -> Result<()> {
        |dir| {
            fetched.fetch_add(1, Ordering::SeqCst);
            fs::create_dir(dir.join("lib"))?;
            fs::write(dir.join("lib/half"), "a half")?;
            thread::sleep(Duration::from_millis(200));
            Ok(fs::write(dir.join("lib/whole"), "the whole")?)
        }
    }

    #[test]
    fn the_cache_is_where_the_user_says_or_has_others() {
        for (variables, expected) in [
            ([Some("/r"), Some("/x"), Some("/h")], Some("/r")),
            ([None, Some("/x"), Some("/h")], Some("/x/rivulet")),
            ([Some(""), None, Some("/h")], Some("/h/.cache/rivulet")),
            ([None, Some("x"), Some("/h")], Some("/h/.cache/rivulet")),
            ([None, None, None], None),
        ] {
            let names = ["RIVULET_CACHE_DIR", "XDG_CACHE_HOME", "HOME"];
            let variable = |name: &str| {
                let number = names.iter().position(|known| *known == name)?;
                variables[number].map(OsString::from)
            };
            let expected = expected.map(PathBuf::from);
            assert_eq!(user_cache(variable), expected, "{variables:?}");
        }
    }

    #[test]
    fn two_checkouts_that_start_together_fetch_once_and_share_the_files() {
        let dir = tempfile::tempdir().unwrap();
        let cache = dir.path().join("cache");
        let owns = ["one", "two", "three"].map(|name| dir.path().join(name).join("tools/lib-1.2"));
        let fetched = AtomicUsize::new(0);
        thread::scope(|scope| {
            for own in &owns {
                let fetch = library(&fetched);
                scope.spawn(|| in_cache(Some(cache.clone()), own, fetch).unwrap());
            }
        });
        assert_eq!(fetched.load(Ordering::SeqCst), 1);
        let file = |own: &Path| fs::metadata(own.join("lib/whole")).unwrap().ino();
        assert_eq!(file(&owns[0]), file(&owns[1]));
        assert_eq!(file(&owns[0]), file(&cache.join("lib-1.2")));
        // One is wiped, and so is the cache: the others keep theirs.
        fs::remove_dir_all(&owns[0]).unwrap();
        fs::remove_dir_all(cache).unwrap();
        assert_eq!(
            fs::read_to_string(owns[2].join("lib/whole")).unwrap(),
            "the whole"
        );
    }

    #[test]
    fn what_is_not_whole_is_fetched_again() {
        let dir = tempfile::tempdir().unwrap();
        let cache = dir.path().join("cache");
        let take = |name: &str, fetch: &dyn Fn(&Path) -> Result<()>| {
            let own = dir.path().join(name).join("lib");
            in_cache(Some(cache.clone()), &own, fetch).map(|()| own)
        };
        // A download that breaks off is nobody's.
        let broken = |new: &Path| -> Result<()> {
            fs::write(new.join("half"), "a half")?;
            bail!("the line went dead")
        };
        assert!(take("one", &broken).is_err());
        assert!(!cache.join("lib").exists() && !dir.path().join("one/lib").exists());
        let fetched = AtomicUsize::new(0);
        let own = take("one", &library(&fetched)).unwrap();
        assert!(!own.join("half").exists());
        assert_eq!(fetched.load(Ordering::SeqCst), 1);
        // Another file of the same length, and one that is gone.
        let file = cache.join("lib/lib/whole");
        fs::remove_file(&file).unwrap();
        fs::write(&file, "the w0ole").unwrap();
        let own = take("two", &library(&fetched)).unwrap();
        assert_eq!(
            fs::read_to_string(own.join("lib/whole")).unwrap(),
            "the whole"
        );
        fs::remove_file(&file).unwrap();
        take("three", &library(&fetched)).unwrap();
        assert_eq!(fetched.load(Ordering::SeqCst), 3);
        take("four", &library(&fetched)).unwrap();
        assert_eq!(fetched.load(Ordering::SeqCst), 3);
    }

    #[test]
    fn without_a_cache_that_can_be_written_a_checkout_keeps_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let fetched = AtomicUsize::new(0);
        // As root no directory is read-only, but nobody can make one in a file or in /proc.
        for (number, cache) in [
            None,
            Some(file.join("rivulet")),
            Some("/proc/rivulet".into()),
        ]
        .into_iter()
        .enumerate()
        {
            let own = dir.path().join(number.to_string()).join("lib");
            in_cache(cache, &own, library(&fetched)).unwrap();
            assert!(own.join("lib/whole").exists());
            assert_eq!(fetched.load(Ordering::SeqCst), number + 1);
        }
    }
}
