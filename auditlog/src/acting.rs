//! Whose doing it is.

use std::sync::{
    Arc, LazyLock, OnceLock,
    atomic::{AtomicBool, Ordering},
};

use sha2::{Digest as _, Sha256};

use crate::{Actor, hash, hex};

tokio::task_local! {
    static ACTING: Arc<Acting>;
}

/// A request, and who is found to have sent it.
#[derive(Debug, Default)]
pub struct Acting {
    actor: OnceLock<Actor>,
    request_id: Option<String>,
    has_recorded: AtomicBool,
}

impl Acting {
    /// A request of nobody yet, with its id. An id that the client chose may say anything: the log gets its SHA-256.
    #[must_use]
    pub fn request(id: &[u8], is_ours: bool) -> Arc<Self> {
        let request_id = match str::from_utf8(id) {
            Ok(id) if is_ours => id.to_owned(),
            _ => format!("sha256:{}", hex(&Sha256::digest(id))),
        };
        Arc::new(Self {
            request_id: Some(request_id),
            ..Self::default()
        })
    }

    /// Who sent it; [`Actor::Unknown`] without a good credential.
    #[must_use]
    pub fn actor(&self) -> Actor {
        self.actor.get().cloned().unwrap_or(Actor::Unknown)
    }

    /// The request's id.
    #[must_use]
    pub fn request_id(&self) -> Option<&str> {
        self.request_id.as_deref()
    }

    /// Whether something was recorded for it.
    #[must_use]
    pub fn has_recorded(&self) -> bool {
        self.has_recorded.load(Ordering::Relaxed)
    }
}

/// Does `work` for a request: what is recorded within it is the doing of whoever is [`identify`]ed. Tasks that it
/// starts are not part of it.
pub async fn acting<W: Future>(request: Arc<Acting>, work: W) -> W::Output {
    ACTING.scope(request, work).await
}

/// Says who sent the request that is worked on. Outside of [`acting`] it says nothing.
pub fn identify(actor: impl FnOnce() -> Actor) {
    let _ = ACTING.try_with(|request| request.actor.set(actor()));
}

/// Who acts now, and for which request. Whatever is no request is done by the user who runs the process.
pub(crate) fn who() -> (Actor, Option<String>) {
    ACTING
        .try_with(|request| (request.actor(), request.request_id.clone()))
        .unwrap_or_else(|_| (USER.clone(), None))
}

/// Notes that something was recorded for the request.
pub(crate) fn recorded() {
    let _ = ACTING.try_with(|request| request.has_recorded.store(true, Ordering::Relaxed));
}

/// The user who runs this process, by the kernel's account: what the environment says, anybody may choose.
static USER: LazyLock<Actor> = LazyLock::new(|| {
    let uid = rustix::process::getuid().as_raw();
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    Actor::User(name_of(uid, &users).unwrap_or_else(|| format!("uid {uid}")))
});

fn name_of(uid: u32, users: &str) -> Option<String> {
    let mut lines = users.lines().map(|line| line.split(':'));
    let name = lines.find_map(|mut fields| {
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })?;
    let is_plain = (1..=64).contains(&name.len()) && name.chars().all(|c| c.is_ascii_graphic());
    // A user may be called by the id of a parent: systems that make users do so.
    match name.parse() {
        Ok(id) => Some(hex(&hash(id))),
        Err(_) => is_plain.then_some(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_their_number() {
        let users = "root:x:0:0:root:/root:/bin/sh\nana:x:1000:1000::/home/ana:\nbroken\n";
        assert_eq!(name_of(1000, users).as_deref(), Some("ana"));
        assert_eq!(name_of(7, users), None);
    }

    #[tokio::test]
    async fn a_request_is_its_senders_doing_and_all_else_the_users() {
        assert!(matches!(who().0, Actor::User(_)));
        identify(|| Actor::Key([1; 32]));
        assert!(matches!(who().0, Actor::User(_)));
        let request = Acting::request(b"r", true);
        acting(Arc::clone(&request), async {
            assert_eq!(who(), (Actor::Unknown, Some("r".to_owned())));
            identify(|| Actor::Key([1; 32]));
            assert_eq!(who().0, Actor::Key([1; 32]));
        })
        .await;
        assert_eq!(request.actor(), Actor::Key([1; 32]));
        let chosen = Acting::request(b"0197a1b2-1111-7222-8333-444444444444", false);
        assert!(chosen.request_id().unwrap().starts_with("sha256:"));
        assert!(matches!(who().0, Actor::User(_)));
    }
}
