//! A request whose sender is known: what it holds, and what it costs.

use std::sync::Arc;

use axum::{body::Body, http::request::Parts};
use rivulet_registry::keys::Scope;
use rivulet_web::Hold;

use crate::{
    account::Account,
    auth::{self, Sender},
    body::{self, Media},
    problem::Problem,
    shares::{Held, Reservation},
    state::App,
};

/// A request that may be worked on, as long as it is.
pub(crate) struct Visit<'a> {
    pub(crate) sender: Sender,
    pub(crate) account: Account<'a>,
    /// Among the requests of all senders that are at work.
    pub(crate) place: Reservation,
    /// Its head, which is held until the end.
    pub(crate) head: Reservation,
}

/// The same with its body.
pub(crate) struct Admitted<'a> {
    pub(crate) visit: Visit<'a>,
    pub(crate) media: Media,
    pub(crate) held: Held,
}

impl App {
    /// Lets a request in whose sender has a good credential, of this scope where one is needed, does not owe
    /// anything, and has not as much at work already as leaves room for others. From then on its connection is
    /// kept, and it costs a token.
    pub(crate) async fn visit(
        &self,
        parts: &Parts,
        needed: Option<Scope>,
    ) -> Result<Visit<'_>, Problem> {
        let sender = auth::sender(self, &parts.headers).await?;
        let id = sender.id();
        let account = Account::open(self, id)?;
        if let Some(needed) = needed {
            sender.require(self, &parts.headers, needed)?;
        }
        let mut place = Reservation::none(Arc::clone(&self.requests), id);
        if !place.grow(1) {
            return Err(self.over_share("requests"));
        }
        let mut head = Reservation::none(Arc::clone(&self.bytes), id);
        if !head.grow(bytes_of(parts)) {
            return Err(self.over_share("bytes"));
        }
        if let Some(hold) = parts.extensions.get::<Hold>() {
            hold.keep();
        }
        Ok(Visit {
            sender,
            account,
            place,
            head,
        })
    }

    /// The same for a request with a body: first who sends it, then what the body claims to be, and only then
    /// is it read. `accepts` is for people, and for JSON alone when it names nothing else.
    pub(crate) async fn admit(
        &self,
        parts: &Parts,
        mut body: Body,
        scope: Scope,
        accepts: &'static str,
    ) -> Result<Admitted<'_>, Problem> {
        let headers = &parts.headers;
        let mut is_read = false;
        let admitted = async {
            let mut visit = self.visit(parts, Some(scope)).await?;
            let media = body::media(headers)
                .filter(|media| *media == Media::Json || accepts.contains("ndjson"))
                .ok_or(Problem::UnsupportedMediaType(accepts))?;
            let encoding = body::encoding(headers)?;
            is_read = true;
            let held = body::read(&mut visit.account, &mut body, encoding).await?;
            Ok(Admitted { visit, media, held })
        }
        .await;
        // Whoever was refused has given everything back by now, and soon the connection, too.
        if let Err(problem) = &admitted {
            let is_slow = matches!(problem, Problem::Timeout(_));
            let waits = !is_read && body::expects_continue(headers);
            if !is_slow && !waits {
                self.discard(parts, body).await;
            }
        }
        admitted
    }

    /// Reads on for a moment after a refusal, from a connection that is not kept for it.
    pub(crate) async fn discard(&self, parts: &Parts, body: Body) {
        if let Some(hold) = parts.extensions.get::<Hold>() {
            hold.release();
        }
        body::discard(self.config.max_wire_bytes, body).await;
    }
}

/// What a request's head takes, as it was sent.
fn bytes_of(parts: &Parts) -> usize {
    let address = parts.uri.path().len() + parts.uri.query().map_or(0, str::len);
    let fields = parts.headers.iter();
    let fields = fields.map(|(name, value)| name.as_str().len() + value.len());
    address + fields.sum::<usize>()
}
