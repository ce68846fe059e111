//! What the registry says of a child, and whether an event of it may be taken.

use rivulet_zones::Zone;
use uuid::Uuid;

use crate::{
    consent::ConsentVersion,
    data::{AgeGroup, EventType},
    ids::ParentId,
    parse::Event,
    rejection::{Code, Rejection},
};

/// A registered child with what its parent consented to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registration {
    /// The parent it belongs to.
    pub parent_id: ParentId,
    /// Its age group.
    pub age_group: AgeGroup,
    /// The parent's IANA zone; decides the child's local day.
    pub timezone: Zone,
    /// Child or parent was deleted.
    pub deleted: bool,
    /// Consent to any processing at all.
    pub coppa: bool,
    /// Consent to speech events.
    pub audio: bool,
    /// Consent to history for BI.
    pub analytics: bool,
    /// The version of the consent `coppa`, if one was declared.
    pub coppa_version: Option<ConsentVersion>,
    /// The version of the consent `audio`, if one was declared.
    pub audio_version: Option<ConsentVersion>,
    /// How often a consent was given again after it had been withdrawn.
    pub consent_epoch: i64,
}

impl Registration {
    /// What is left of a child who was erased: that nothing of it may be taken.
    #[must_use]
    pub fn erased() -> Self {
        Self {
            parent_id: ParentId::new(Uuid::nil()),
            age_group: AgeGroup::ALL[0],
            timezone: Zone::utc(),
            deleted: true,
            coppa: false,
            audio: false,
            analytics: false,
            coppa_version: None,
            audio_version: None,
            consent_epoch: 0,
        }
    }

    /// Whether an event of this type may be taken from a child in this state (`None`: unregistered).
    ///
    /// # Errors
    /// `unknown_child`, `child_deleted` or `consent_required`.
    pub fn check(child: Option<&Self>, kind: EventType) -> Result<&Self, Rejection> {
        let Some(child) = child else {
            return Err(Rejection::at(
                Code::UnknownChild,
                "/child_id",
                "this child is not registered; register it before sending its events",
            ));
        };
        if child.deleted {
            return Err(Rejection::at(
                Code::ChildDeleted,
                "/child_id",
                "this child or its parent was deleted; stop sending its events",
            ));
        }
        if !child.coppa {
            return Err(Rejection::whole(
                Code::ConsentRequired,
                "the parent has not granted the consent `coppa`; nothing of this child may be stored",
            ));
        }
        if kind == EventType::Speech && !child.audio {
            return Err(Rejection::whole(
                Code::ConsentRequired,
                "the parent has not granted the consent `audio`; speech events may not be stored",
            ));
        }
        Ok(child)
    }

    /// The version of the consent under which an event of this type is taken. Speech needs two consents: `audio` is
    /// the one that is given for it alone.
    #[must_use]
    pub fn consent_version(&self, kind: EventType) -> Option<ConsentVersion> {
        match kind {
            EventType::Speech => self.audio_version.or(self.coppa_version),
            _ => self.coppa_version,
        }
    }
}

/// An event that may be taken, with the registration that allows it. Records are made of nothing else, and only
/// [`Event::admit`] makes one:
///
/// ```
/// use rivulet_events::{Admitted, Event, Registration, Rejection};
///
/// fn admit<'r, 'a>(event: Event<'a>, who: &'r Registration) -> Result<Admitted<'r, 'a>, Rejection> {
///     event.admit(Some(who))
/// }
/// ```
///
/// ```compile_fail
/// use rivulet_events::{Admitted, Event, Registration, Rejection};
///
/// fn admit<'r, 'a>(event: Event<'a>, who: &'r Registration) -> Result<Admitted<'r, 'a>, Rejection> {
///     Ok(Admitted { event, who })
/// }
/// ```
#[derive(Debug)]
pub struct Admitted<'r, 'a> {
    event: Event<'a>,
    who: &'r Registration,
}

impl<'a> Event<'a> {
    /// Whether this event may be taken from a child in this state (`None`: unregistered).
    ///
    /// # Errors
    /// `unknown_child`, `child_deleted` or `consent_required`.
    pub fn admit(self, child: Option<&Registration>) -> Result<Admitted<'_, 'a>, Rejection> {
        let who = Registration::check(child, self.event_type())?;
        Ok(Admitted { event: self, who })
    }
}

impl<'r, 'a> Admitted<'r, 'a> {
    pub(crate) fn into_parts(self) -> (Event<'a>, &'r Registration) {
        (self.event, self.who)
    }
}
