//! The directory that holds everything, and the record of what runs.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Write},
    os::unix::{fs as unix, fs::OpenOptionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, MutexGuard, PoisonError},
};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_64;

use crate::{logins::LOGINS, ports, process::Process};

/// The user that servers run as when we are root: `initdb` refuses root, and the others need it
/// no more than PostgreSQL does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Account {
    uid: u32,
    gid: u32,
}

impl Account {
    fn for_servers() -> Result<Option<Self>> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let id = |flag, name| {
            let out = Command::new("id").args([flag, name]).output().ok()?;
            String::from_utf8(out.stdout).ok()?.trim().parse().ok()
        };
        ["postgres", "nobody"]
            .iter()
            .find_map(|name| {
                Some(Self {
                    uid: id("-u", name)?,
                    gid: id("-g", name)?,
                })
            })
            .map(Some)
            .context("PostgreSQL refuses to run as root, and there is no user postgres or nobody")
    }

    pub(crate) fn assume(self, command: &mut Command) {
        command.uid(self.uid).gid(self.gid);
    }

    pub(crate) fn own(self, path: &Path) -> Result<()> {
        unix::chown(path, Some(self.uid), Some(self.gid))
            .with_context(|| format!("chown {}", path.display()))
    }

    /// Whether this user may pass through every directory down to `dir`.
    fn reaches(self, dir: &Path) -> bool {
        let mut test = Command::new("test");
        test.arg("-x").arg(dir).current_dir("/");
        self.assume(&mut test);
        test.status().is_ok_and(|status| status.success())
    }
}

/// Development keys, made once for a database.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Keys {
    /// Which database knows them.
    pub(crate) database: String,
    pub(crate) ingest: String,
    pub(crate) admin: String,
    pub(crate) read: String,
}

/// A registered family of one.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Visitor {
    pub(crate) parent: Uuid,
    pub(crate) child: Uuid,
}

/// A client token of the visitor's parent.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct ParentToken {
    pub(crate) token: String,
    /// Unix seconds.
    pub(crate) expires_at: i64,
}

/// What is remembered between two runs of `./dev`.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct State {
    /// Brought up by `up`, so to be left running when a test run ends.
    pub(crate) kept: bool,
    pub(crate) password: String,
    /// The passwords of Rivulet's logins to our own PostgreSQL, by what the login is for.
    pub(crate) logins: BTreeMap<String, String>,
    pub(crate) ports: BTreeMap<String, u16>,
    pub(crate) daemons: BTreeMap<String, Record>,
    /// Services that the user named and this checkout therefore does not run: name to address.
    pub(crate) external: BTreeMap<String, String>,
    pub(crate) keys: Option<Keys>,
    /// A child for the user's own first event.
    pub(crate) visitor: Option<Visitor>,
    pub(crate) parent_token: Option<ParentToken>,
    /// The simulator has filled in the days before the first `up`.
    pub(crate) history_filled: bool,
}

/// One daemon that was started.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) process: Process,
    /// A fingerprint of how it was started: one that would now be started otherwise is restarted.
    pub(crate) recipe: u64,
}

pub(crate) struct Home {
    dir: PathBuf,
    pub(crate) account: Option<Account>,
    state: Mutex<State>,
}

impl Home {
    /// `.dev/` of the checkout, or what `RIVULET_DEV_DIR` names.
    pub(crate) fn default_dir() -> PathBuf {
        std::env::var_os("RIVULET_DEV_DIR").map_or_else(
            || {
                let krate = Path::new(env!("CARGO_MANIFEST_DIR"));
                krate.parent().unwrap_or(krate).join(".dev")
            },
            PathBuf::from,
        )
    }

    /// Makes the directory ready to hold servers and reads what it remembers.
    pub(crate) fn create(dir: &Path) -> Result<Self> {
        let account = Account::for_servers()?;
        fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
        // The link that an earlier run made is itself out of reach, so ask about its target.
        let real = dir.canonicalize()?;
        if let Some(account) = account
            && !account.reaches(&real)
        {
            move_within_reach(&real, account)?;
        }
        for name in ["logs", "tools"] {
            fs::create_dir_all(dir.join(name)).with_context(|| format!("create {name}"))?;
        }
        Self::open(dir, account)
    }

    /// Reads what an existing directory remembers; `None` where there is none.
    pub(crate) fn existing(dir: &Path) -> Result<Option<Self>> {
        if dir.exists() {
            Self::open(dir, None).map(Some)
        } else {
            Ok(None)
        }
    }

    fn open(dir: &Path, account: Option<Account>) -> Result<Self> {
        let dir = dir.canonicalize()?;
        let path = dir.join("state.json");
        let state = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| {
                format!(
                    "{} is damaged; `./dev down --wipe` begins anew",
                    path.display()
                )
            })?,
            Err(error) if error.kind() == ErrorKind::NotFound => State::default(),
            Err(error) => return Err(error).context(format!("read {}", path.display())),
        };
        Ok(Self {
            dir,
            account,
            state: Mutex::new(state),
        })
    }

    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.join(name)
    }

    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.dir.join("logs").join(format!("{name}.log"))
    }

    /// A directory that the servers' user may write to.
    pub(crate) fn server_dir(&self, name: &str) -> Result<PathBuf> {
        let dir = self.path(name);
        fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
        if let Some(account) = self.account {
            account.own(&dir)?;
        }
        Ok(dir)
    }

    fn guard(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn state(&self) -> State {
        self.guard().clone()
    }

    /// Changes the record and writes it down before anything else happens.
    pub(crate) fn update<T>(&self, change: impl FnOnce(&mut State) -> T) -> Result<T> {
        let mut state = self.guard();
        let result = change(&mut state);
        write_private(
            &self.path("state.json"),
            &serde_json::to_vec_pretty(&*state)?,
        )?;
        Ok(result)
    }

    /// Sees to it that there is a password for this checkout's servers.
    pub(crate) fn make_password(&self) -> Result<()> {
        self.update(|state| {
            if state.password.is_empty() {
                state.password = Uuid::new_v4().simple().to_string();
            }
        })
    }

    /// Sees to it that there is a password for each of Rivulet's logins.
    pub(crate) fn make_logins(&self) -> Result<()> {
        self.update(|state| {
            for login in LOGINS {
                let made = || Uuid::new_v4().simple().to_string();
                state.logins.entry(login.to_owned()).or_insert_with(made);
            }
        })
    }

    /// The port for `name`: the one it had, unless another has taken it since.
    pub(crate) fn pick_port(&self, name: &str) -> Result<u16> {
        let seed = format!("{}:{name}", self.dir.display());
        self.update(|state| {
            let others = |(other, port): (&String, &u16)| (other != name).then_some(*port);
            let taken: Vec<u16> = state.ports.iter().filter_map(others).collect();
            let port = ports::pick(state.ports.get(name).copied(), &seed, &taken)?;
            state.ports.insert(name.to_owned(), port);
            Ok(port)
        })?
    }

    pub(crate) fn port(&self, name: &str) -> Option<u16> {
        self.guard().ports.get(name).copied()
    }

    /// Waits for its turn: one `up` or `down` at a time.
    pub(crate) fn lock(&self) -> Result<File> {
        let file = self.lock_file("lock")?;
        file.lock().context("lock .dev/lock")?;
        // What was read before the lock may be another's past.
        *self.guard() = Self::open(&self.dir, None)?.state();
        Ok(file)
    }

    pub(crate) fn lock_file(&self, name: &str) -> Result<File> {
        let path = self.path(name);
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(|| format!("open {}", path.display()))
    }

    /// Remembers an address as this checkout's own, for ever: a shell that sourced `./dev env`
    /// before a port changed still means this stack.
    pub(crate) fn remember_address(&self, address: &str) -> Result<()> {
        let mut known = self.addresses();
        if known.insert(authority(address)) {
            let text = known.into_iter().collect::<Vec<_>>().join("\n");
            write_private(&self.path("addresses"), text.as_bytes())?;
        }
        Ok(())
    }

    /// Whether `address` (a URL, or Kafka's `host:port`) is one that this checkout printed.
    pub(crate) fn is_own(&self, address: &str) -> bool {
        self.addresses().contains(&authority(address))
    }

    fn addresses(&self) -> BTreeSet<String> {
        fs::read_to_string(self.path("addresses"))
            .unwrap_or_default()
            .lines()
            .map(str::to_owned)
            .collect()
    }

    /// Removes data, logs and memory; downloads stay, and so does which addresses were ours.
    pub(crate) fn wipe(&self) -> Result<()> {
        for name in [
            "postgres",
            "kafka",
            "clickhouse",
            "tls",
            "rivulet",
            "logs",
            "state.json",
        ] {
            let path = self.path(name);
            let removed = if path.is_dir() {
                fs::remove_dir_all(&path)
            } else {
                fs::remove_file(&path)
            };
            match removed {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(error).context(format!("remove {}", path.display()));
                }
                _ => {}
            }
        }
        *self.guard() = State::default();
        Ok(())
    }
}

/// `host:port` of a URL or of a broker, `localhost` written as its address.
fn authority(address: &str) -> String {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    let rest = rest.split(['/', '?']).next().unwrap_or_default();
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    host.replace("localhost", "127.0.0.1")
}

/// Written whole or not at all, and readable by nobody else: there are keys in it.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> Result<()> {
    let new = path.with_extension("new");
    let write = || {
        let mut file = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    write().with_context(|| format!("write {}", path.display()))
}

/// Root's checkout may be where the servers' user cannot go (`/root`). Then `.dev` becomes a link
/// to a directory that it can reach.
fn move_within_reach(dir: &Path, account: Account) -> Result<()> {
    let name = format!("{:016x}", xxh3_64(dir.as_os_str().as_encoded_bytes()));
    let reachable = Path::new("/var/lib/rivulet-dev").join(name);
    // Fails unless it is empty, so nothing that was there is lost.
    fs::remove_dir(dir).with_context(|| {
        format!(
            "the servers' user cannot reach {0}: stop what runs there and remove {0}",
            dir.display()
        )
    })?;
    fs::create_dir_all(&reachable)?;
    if !account.reaches(&reachable) {
        bail!(
            "the servers' user can reach neither {} nor {}",
            dir.display(),
            reachable.display()
        );
    }
    unix::symlink(&reachable, dir)?;
    eprintln!(
        "{} is out of reach for the servers' user: it is now a link to {}",
        dir.display(),
        reachable.display()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_its_own_addresses_in_every_spelling_and_after_a_wipe() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path(), None).unwrap();
        home.remember_address("postgres://rivulet:secret@127.0.0.1:20001/rivulet")
            .unwrap();
        home.remember_address("127.0.0.1:20002").unwrap();
        for own in [
            "postgresql://rivulet@localhost:20001/another?sslmode=disable",
            "localhost:20002",
        ] {
            assert!(home.is_own(own), "{own}");
        }
        for foreign in ["postgres://db.example:20001/rivulet", "127.0.0.1:20003", ""] {
            assert!(!home.is_own(foreign), "{foreign}");
        }
        home.wipe().unwrap();
        assert!(home.is_own("127.0.0.1:20002"));
    }

    #[test]
    fn the_record_is_private_and_survives() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path(), None).unwrap();
        home.update(|state| state.password = "x".to_owned())
            .unwrap();
        let mode = fs::metadata(home.path("state.json"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(Home::open(dir.path(), None).unwrap().state().password, "x");
        fs::write(home.path("state.json"), "{").unwrap();
        let error = Home::open(dir.path(), None).err().unwrap();
        assert!(format!("{error:#}").contains("--wipe"));
    }
}
