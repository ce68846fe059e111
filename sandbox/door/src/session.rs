//! `session_id`: connections that live on between requests, with their temporary tables.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::{
    exception::Exception,
    ffi::{Connection, Engine},
};

/// What a request says of its session.
pub(crate) struct Wish {
    pub(crate) id: String,
    pub(crate) timeout: Duration,
    /// `session_check`: only if it exists already.
    pub(crate) check: bool,
}

/// The sessions of the door.
#[derive(Default)]
pub(crate) struct Sessions(Mutex<HashMap<String, Session>>);

struct Session {
    connection: Arc<Mutex<Connection>>,
    expires: Instant,
}

impl Sessions {
    /// Finds or makes a session, and forgets those that have expired.
    pub(crate) fn find(
        &self,
        engine: &Engine,
        wish: &Wish,
    ) -> Result<Arc<Mutex<Connection>>, Exception> {
        let now = Instant::now();
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|_, session| {
            session.expires > now || Arc::strong_count(&session.connection) > 1
        });
        let expires = now + wish.timeout;
        if let Some(session) = sessions.get_mut(&wish.id) {
            session.expires = expires;
            return Ok(session.connection.clone());
        }
        if wish.check {
            let message = "Session not found";
            return Err(Exception::new(372, "SESSION_NOT_FOUND", message));
        }
        let connection = Arc::new(Mutex::new(engine.connect()?));
        sessions.insert(
            wish.id.clone(),
            Session {
                connection: connection.clone(),
                expires,
            },
        );
        Ok(connection)
    }

    /// Closes all that are not in use.
    pub(crate) fn clear(&self) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }
}
