//! A registry that a file or nothing at all makes, without PostgreSQL: for the tests of apps.

use std::{collections::HashMap, sync::Arc};

use ahash::RandomState;
use rivulet_events::{ChildId, ParentId, Registration, data::AgeGroup};
use rivulet_zones::Zone;
use tokio::io::AsyncBufRead;
use uuid::Uuid;

use crate::{
    consents::Consent,
    import::{Families, Parent, Reason},
    keys::{Grant, Limits, Scope},
    shared::Known,
};

/// Who exists, from when the process starts until it ends.
#[derive(Debug)]
pub(crate) struct Fixed {
    /// `None`: every child is registered.
    families: Option<Declared>,
    grant: Arc<Grant>,
}

#[derive(Debug, Default)]
struct Declared {
    parents: HashMap<Uuid, Parent, RandomState>,
    children: HashMap<Uuid, (Uuid, AgeGroup), RandomState>,
}

/// A line of the file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct BadLine {
    /// From 1.
    line: u64,
    #[source]
    reason: Reason,
}

impl Fixed {
    pub(crate) fn every_child() -> Self {
        Self::of(None)
    }

    /// The families of a file, whose later lines win, as in an import.
    pub(crate) async fn read(reader: impl AsyncBufRead + Unpin) -> Result<Self, BadLine> {
        let mut families = Families::of(reader);
        let mut declared = Declared::default();
        loop {
            let next = families.next().await;
            let line = families.line();
            let next = next.map_err(|reason| BadLine { line, reason })?;
            let Some((id, parent, children)) = next else {
                return Ok(Self::of(Some(declared)));
            };
            let before = declared.parents.remove(&id);
            let parent = match before {
                Some(before) => parent.after(&before),
                None => parent,
            };
            declared.parents.insert(id, parent);
            let children = children.into_iter();
            let children = children.map(|(child, of)| (child, (of.parent, of.age_group)));
            declared.children.extend(children);
        }
    }

    fn of(families: Option<Declared>) -> Self {
        let grant = Grant {
            scope: Scope::Ingest,
            limits: Limits::default(),
        };
        Self {
            families,
            grant: Arc::new(grant),
        }
    }

    pub(crate) const fn has_every_child(&self) -> bool {
        self.families.is_none()
    }

    /// What is known of each of these children, in order.
    pub(crate) fn all(&self, children: &[ChildId]) -> Vec<Known> {
        children.iter().map(|child| self.lookup(*child)).collect()
    }

    fn lookup(&self, child: ChildId) -> Known {
        let Some(families) = &self.families else {
            let parent = Uuid::nil();
            return Known::Read(Some(registration(
                parent,
                AgeGroup::WonderCubs,
                Zone::utc(),
                [Some(true.into()); 3],
            )));
        };
        let found = families.children.get(&child.uuid());
        Known::Read(found.and_then(|(id, age_group)| {
            let parent = families.parents.get(id)?;
            let consents = parent.consents;
            let consents = [consents.coppa, consents.audio, consents.analytics];
            Some(registration(*id, *age_group, parent.timezone, consents))
        }))
    }

    pub(crate) fn grant(&self) -> Arc<Grant> {
        Arc::clone(&self.grant)
    }

    /// As [`crate::consents::granted`].
    pub(crate) fn granted(&self, parent: ParentId) -> [bool; 3] {
        let Some(families) = &self.families else {
            return [true; 3];
        };
        let parent = families.parents.get(&parent.uuid());
        parent.map_or([false; 3], |parent| {
            let consents = parent.consents;
            [consents.coppa, consents.audio, consents.analytics].map(is_granted)
        })
    }
}

fn is_granted(consent: Option<Consent>) -> bool {
    consent.is_some_and(|consent| consent.granted)
}

fn registration(
    parent: Uuid,
    age_group: AgeGroup,
    timezone: Zone,
    consents: [Option<Consent>; 3],
) -> Registration {
    let [coppa, audio, analytics] = consents;
    let version = |consent: Option<Consent>| consent.and_then(|consent| consent.version);
    Registration {
        parent_id: ParentId::new(parent),
        age_group,
        timezone,
        deleted: false,
        coppa: is_granted(coppa),
        audio: is_granted(audio),
        analytics: is_granted(analytics),
        coppa_version: version(coppa),
        audio_version: version(audio),
        consent_epoch: 0,
    }
}
