//! The file.

use std::{collections::BTreeMap, str::FromStr};

use serde::Deserialize;

use crate::{Class, Period, judge};

/// The file that is built in.
const DEFAULT: &str = include_str!("../../retention.toml");

/// What the file says of a class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// How long it is kept.
    pub keep: Period,
    /// What it is for.
    pub purpose: String,
    /// Why it has to be kept for that long.
    pub need: String,
    /// What allows it.
    pub ground: String,
}

/// What becomes of a child of whom nothing comes any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InactiveThen {
    /// It is counted in `rivulet retention plan`.
    Report,
    /// It is erased from every store.
    Erase,
}

/// What becomes of what was stored on a consent that is withdrawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnRevoke {
    /// It is erased: the history for `analytics`, all of speech for `audio`, all events and rollups for `coppa`.
    #[default]
    Erase,
    /// It stays until its time is over.
    Keep,
}

impl OnRevoke {
    /// As the file and PostgreSQL have it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Erase => "erase",
            Self::Keep => "keep",
        }
    }
}

/// When a child counts as inactive, and what then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inactive {
    /// No event for so long, though registered for so long.
    pub after: Period,
    /// What becomes of it.
    pub then: InactiveThen,
}

/// How long what is kept. Made of a file that passed the judgement; `Default` is the file that is built in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// In the order of [`Class::ALL`].
    pub(crate) rules: Vec<Rule>,
    /// None where the file leaves the part out.
    pub inactive: Option<Inactive>,
    /// `erase` where the file leaves the part out.
    pub on_revoke: OnRevoke,
    /// Who answers for the data; may be empty.
    pub operator: String,
    /// How they are reached; may be empty.
    pub contact: String,
}

/// Why a file is refused: each thing that is wrong with it, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct Error(pub Vec<String>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawNotice {
    #[serde(default)]
    operator: String,
    #[serde(default)]
    contact: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    keep: toml::Value,
    purpose: String,
    need: String,
    ground: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawWithdrawn {
    on_revoke: OnRevoke,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawInactive {
    after: toml::Value,
    then: InactiveThen,
}

impl Policy {
    /// How long a class is kept, in days.
    #[must_use]
    pub fn days(&self, class: Class) -> u32 {
        self.rule(class).keep.days()
    }

    /// What the file says of a class.
    #[must_use]
    pub fn rule(&self, class: Class) -> &Rule {
        // The variants are in the order of `ALL`, and there is a rule for each: a test looks.
        &self.rules[class as usize]
    }

    /// Every class with what the file says of it.
    pub fn rules(&self) -> impl Iterator<Item = (Class, &Rule)> {
        Class::ALL.into_iter().zip(&self.rules)
    }
}

impl Default for Policy {
    #[expect(
        clippy::expect_used,
        reason = "the file is built in, and a test reads it"
    )]
    fn default() -> Self {
        DEFAULT.parse().expect("retention.toml is good")
    }
}

impl FromStr for Policy {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let text = text.trim_start_matches('\u{feff}');
        let mut parts: BTreeMap<String, toml::Value> =
            toml::from_str(text).map_err(|error| Error(vec![error.to_string()]))?;
        let mut wrong = Vec::new();
        let mut take = |name: &str| parts.remove(name);
        let notice: Option<RawNotice> =
            take("notice").and_then(|part| read("notice", part, &mut wrong));
        let inactive = take("inactive_children").and_then(|part| inactive(part, &mut wrong));
        let withdrawn: Option<RawWithdrawn> = take("withdrawn_consents")
            .and_then(|part| read("withdrawn_consents", part, &mut wrong));
        let mut rules = Vec::new();
        for class in Class::ALL {
            match take(class.as_str()) {
                Some(part) => rules.extend(rule(class.as_str(), part, &mut wrong)),
                None => wrong.push(format!(
                    "[{}] is missing: everything that is kept needs a time after which it goes; copy the part from the \
                     default",
                    class.as_str()
                )),
            }
        }
        for unknown in parts.keys() {
            wrong.push(format!(
                "[{unknown}] is no class of what Rivulet keeps: nothing would obey it. The classes are {}",
                Class::ALL.map(Class::as_str).join(", ")
            ));
        }
        if !wrong.is_empty() {
            return Err(Error(wrong));
        }
        let (operator, contact) =
            notice.map_or_else(Default::default, |raw| (raw.operator, raw.contact));
        let policy = Self {
            rules,
            inactive,
            on_revoke: withdrawn.map(|part| part.on_revoke).unwrap_or_default(),
            operator,
            contact,
        };
        let wrong = judge::judge(&policy);
        if wrong.is_empty() {
            Ok(policy)
        } else {
            Err(Error(wrong))
        }
    }
}

fn read<T: for<'de> Deserialize<'de>>(
    name: &str,
    part: toml::Value,
    wrong: &mut Vec<String>,
) -> Option<T> {
    part.try_into()
        .map_err(|error: toml::de::Error| wrong.push(format!("[{name}]: {}", error.message())))
        .ok()
}

fn rule(name: &str, part: toml::Value, wrong: &mut Vec<String>) -> Option<Rule> {
    let RawRule {
        keep,
        purpose,
        need,
        ground,
    } = read(name, part, wrong)?;
    for (field, text) in [("purpose", &purpose), ("need", &need), ("ground", &ground)] {
        if text.trim().is_empty() {
            wrong.push(format!(
                "[{name}] {field} is empty: the public notice has to say it (16 CFR 312.10)"
            ));
        }
    }
    Some(Rule {
        keep: period(name, "keep", &keep, wrong)?,
        purpose,
        need,
        ground,
    })
}

fn inactive(part: toml::Value, wrong: &mut Vec<String>) -> Option<Inactive> {
    let RawInactive { after, then } = read("inactive_children", part, wrong)?;
    Some(Inactive {
        after: period("inactive_children", "after", &after, wrong)?,
        then,
    })
}

fn period(name: &str, field: &str, value: &toml::Value, wrong: &mut Vec<String>) -> Option<Period> {
    let read = match value {
        toml::Value::String(text) => text.parse::<Period>(),
        other => Err(format!(
            "{other} has no unit: write \"45 days\", \"25 months\" or \"3 years\""
        )),
    };
    read.map_err(|why| wrong.push(format!("[{name}] {field} = {why}")))
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl Fn(String) -> String) -> String {
        change(DEFAULT.to_owned())
            .parse::<Policy>()
            .unwrap_err()
            .to_string()
    }

    /// The built-in file with another `keep` for a class.
    fn with(class: &str, keep: &str) -> String {
        let (before, after) = DEFAULT
            .split_once(&format!("\n[{class}]\nkeep = "))
            .unwrap();
        let (_, after) = after.split_once('\n').unwrap();
        format!("{before}\n[{class}]\nkeep = {keep}\n{after}")
    }

    #[test]
    fn the_default_is_what_the_users_asked_for() {
        let policy = Policy::default();
        let days: Vec<_> = policy
            .rules()
            .map(|(class, rule)| (class.as_str(), rule.keep.days()))
            .collect();
        assert_eq!(
            days,
            [
                ("speech", 1_095),
                ("interactions", 1_825),
                ("messages", 1_825),
                ("sessions", 1_825),
                ("daily", 1_825),
                ("learning", 1_825),
                ("identities", 45),
                ("quarantine", 45),
                ("consents", 2_555),
                ("audit", 2_555),
                ("erasures", 2_555),
                ("kafka", 7),
                ("spill", 3),
                ("logs", 30),
                ("backups", 35),
            ]
        );
        for class in Class::ALL {
            assert_eq!(policy.days(class), days[class as usize].1);
        }
        assert_eq!(policy.inactive.unwrap().then, InactiveThen::Report);
        assert_eq!(policy.on_revoke, OnRevoke::Erase);
        let keeps = DEFAULT.replace("on_revoke = \"erase\"", "on_revoke = \"keep\"");
        assert_eq!(keeps.parse::<Policy>().unwrap().on_revoke, OnRevoke::Keep);
    }

    #[test]
    fn no_class_is_kept_for_ever_or_not_at_all() {
        for class in Class::ALL.map(Class::as_str) {
            for (keep, says) in [
                ("\"for ever\"", "without end"),
                ("\"0 days\"", "the shortest is"),
                ("\"-1 years\"", "negative"),
                ("\"80 years\"", "the longest is"),
                ("0", "no unit"),
                ("-1", "no unit"),
                ("inf", "no unit"),
                ("\"\"", "whole number"),
            ] {
                let said = with(class, keep).parse::<Policy>().unwrap_err().to_string();
                assert!(
                    said.contains(&format!("[{class}] keep")) && said.contains(says),
                    "{class} {keep}: {said}"
                );
            }
        }
    }

    #[test]
    fn every_class_is_named_and_no_other() {
        let said = refused(|text| text.replace("\n[audit]\n", "\n[adit]\n"));
        assert!(
            said.contains("[audit] is missing") && said.contains("[adit] is no class"),
            "{said}"
        );
        let said = refused(|text| text.replacen("need = \"Misuse", "kneed = \"Misuse", 1));
        assert!(said.contains("[audit]") && said.contains("kneed"), "{said}");
        let said = refused(|text| text.replacen("keep = \"7 days\"\n", "", 1));
        assert!(said.contains("[kafka]") && said.contains("keep"), "{said}");
        let said = refused(|text| text + "\n[speech]\nkeep = \"1 year\"\n");
        assert!(said.contains("duplicate"), "{said}");
        let said = refused(|text| text.replace("then = \"report\"", "then = \"ignore\""));
        assert!(
            said.contains("[inactive_children]") && said.contains("erase"),
            "{said}"
        );
        let said = "".parse::<Policy>().unwrap_err().to_string();
        assert_eq!(said.lines().count(), Class::ALL.len(), "{said}");
        let said = refused(|text| text.replace("on_revoke = \"erase\"", "on_revoke = \"hide\""));
        assert!(
            said.contains("[withdrawn_consents]") && said.contains("keep"),
            "{said}"
        );
        // Without it nobody is looked for.
        let without = DEFAULT.split_once("\n[inactive_children]").unwrap().0;
        assert_eq!(without.parse::<Policy>().unwrap().inactive, None);
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        for (class, keep, says) in [
            ("identities", "\"43 days\"", "at least 44 days"),
            ("kafka", "\"9 days\"", "at least 46 days"),
            ("spill", "\"5 days\"", "at least 46 days"),
            ("speech", "\"44 days\"", "at least 45 days"),
            ("messages", "\"6 years\"", "[daily]"),
            ("daily", "\"4 years\"", "[daily]"),
            ("learning", "\"4 years\"", "[learning]"),
            ("consents", "\"4 years\"", "[consents]"),
            ("quarantine", "\"46 days\"", "[quarantine]"),
            ("erasures", "\"89 days\"", "at least 90 days"),
        ] {
            let said = with(class, keep).parse::<Policy>().unwrap_err().to_string();
            assert!(said.contains(says), "{class} {keep}: {said}");
        }
        let said = refused(|text| text.replace("after = \"3 years\"", "after = \"89 days\""));
        assert!(said.contains("[inactive_children]"), "{said}");
        let said = refused(|text| text.replace("after = \"3 years\"", "after = \"6 years\""));
        assert!(
            said.contains("[inactive_children]") && said.contains("1825"),
            "{said}"
        );
        for (class, keep) in [
            ("identities", "\"60 days\""),
            ("speech", "\"60 days\""),
            ("erasures", "\"90 days\""),
            ("kafka", "\"8 days\""),
            ("messages", "\"1 year\""),
        ] {
            let read = with(class, keep).parse::<Policy>();
            assert!(read.is_ok(), "{class} {keep}: {read:?}");
        }
    }
}
