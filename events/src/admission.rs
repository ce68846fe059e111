//! What the registry says of a child, and whether an event of it may be taken.

use rivulet_zones::Zone;
use uuid::Uuid;

use crate::{
    data::{AgeGroup, EventType},
    ids::ParentId,
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
        }
    }

    /// Whether an event of this type may be taken from a child in this state (`None`: unregistered).
    ///
    /// # Errors
    /// `unknown_child`, `child_deleted` or `consent_required`.
    pub fn admit(child: Option<&Self>, kind: EventType) -> Result<&Self, Rejection> {
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
}
