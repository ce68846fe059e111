//! What of a file does not go together.

use crate::{ACCEPT_WINDOW_DAYS, Class, Policy};

/// Looking for inactive children goes by the rollups, which may lie behind for days.
const SHORTEST_INACTIVE: u32 = 90;

/// Each thing that would go wrong, with what to do. Empty where all is well.
pub(crate) fn judge(policy: &Policy) -> Vec<String> {
    let mut wrong = Vec::new();
    let days = |class| policy.days(class);
    let events = [
        Class::Speech,
        Class::Interactions,
        Class::Messages,
        Class::Sessions,
    ];

    let (kafka, spill, identities) = (
        days(Class::Kafka),
        days(Class::Spill),
        days(Class::Identities),
    );
    let least = ACCEPT_WINDOW_DAYS + spill + kafka;
    if identities < least {
        wrong.push(format!(
            "[identities] is {identities} days, but an event may be {ACCEPT_WINDOW_DAYS} days old when it is accepted, \
             then wait {spill} days in a spill and {kafka} in Kafka: its repetition would be counted a second time. Keep \
             identities for at least {least} days, or let [kafka] or [spill] be shorter"
        ));
    }
    for class in events.into_iter().chain([Class::Daily, Class::Learning]) {
        if days(class) < identities {
            wrong.push(format!(
                "[{}] is {} days, but an event may still be on its way for as long as identities are remembered: it would \
                 come to a day that is gone. Keep it for at least {identities} days",
                class.as_str(),
                days(class)
            ));
        }
    }
    for sums in [Class::Daily, Class::Learning] {
        for class in events.into_iter().filter(|class| days(*class) > days(sums)) {
            wrong.push(format!(
                "[{}] is {} days and [{}] {}: the sums of events would go while the events stay, from which they are \
                 counted again. Keep events no longer than their sums",
                sums.as_str(),
                days(sums),
                class.as_str(),
                days(class)
            ));
        }
    }
    let content = events.into_iter().chain([Class::Daily, Class::Learning]);
    let longest = content.map(days).max().unwrap_or_default();
    if days(Class::Consents) < longest {
        wrong.push(format!(
            "[consents] is {} days, but other data is kept for {longest}: there would be data without the evidence of a \
             consent to it. Keep consents for at least {longest} days",
            days(Class::Consents)
        ));
    }
    let quarantine = days(Class::Quarantine);
    if quarantine > identities {
        wrong.push(format!(
            "[quarantine] is {quarantine} days, but after {identities} (identities) a record cannot be replayed any more, \
             so it would be kept for nothing. Make it at most {identities} days"
        ));
    }
    let backups = days(Class::Backups);
    let least = kafka + spill + quarantine + backups;
    if days(Class::Erasures) < least {
        wrong.push(format!(
            "[erasures] is {} days, but Kafka ({kafka}), a spill ({spill}), the quarantine ({quarantine}) and backups \
             ({backups}) may have something of an erased child for longer. Keep erasures for at least {least} days",
            days(Class::Erasures)
        ));
    }
    if let Some(inactive) = policy.inactive
        && inactive.after.days() < SHORTEST_INACTIVE
    {
        wrong.push(format!(
            "[inactive_children] after = \"{}\" is a school holiday: the shortest is \"{SHORTEST_INACTIVE} days\"",
            inactive.after
        ));
    }
    if let Some(inactive) = policy.inactive
        && inactive.after.days() > days(Class::Daily)
    {
        wrong.push(format!(
            "[inactive_children] after = \"{}\" is longer than [daily] ({} days), by which it is known when a child was last \
             active. Make it at most that",
            inactive.after,
            days(Class::Daily)
        ));
    }
    wrong
}
