//! A request that passed the checks of its sender: who sent it, what it costs, and what it holds.

use std::sync::Arc;

use axum::{body::Body, http::request::Parts};
use rivulet_auditlog::{Actor, identify};
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

/// A request whose sender may send it. It holds its reservations until it is dropped.
pub(crate) struct OpenRequest<'a> {
    pub(crate) sender: Sender,
    pub(crate) account: Account<'a>,
    /// Counts it among the requests that its sender has in progress.
    pub(crate) in_progress: Reservation,
    /// The memory that its head takes.
    pub(crate) head: Reservation,
}

/// An open request and its body.
pub(crate) struct ReceivedRequest<'a> {
    pub(crate) request: OpenRequest<'a>,
    pub(crate) media: Media,
    pub(crate) body: Held,
}

impl App {
    /// Opens a request if its sender has a good credential, with the scope `needed` where there is one, owes no
    /// tokens, and has not more than its share in progress. From then on the connection is kept open, and the
    /// request costs a token.
    pub(crate) async fn open_request(
        &self,
        parts: &Parts,
        needed: Option<Scope>,
    ) -> Result<OpenRequest<'_>, Problem> {
        let sender = auth::sender(self, &parts.headers).await?;
        let id = sender.id();
        identify(|| match &sender {
            Sender::Key(sha256, _) => Actor::Key(*sha256),
            Sender::Family(parent) => Actor::token(parent.uuid()),
        });
        let account = Account::open(self, id)?;
        if let Some(needed) = needed {
            sender.require(self, &parts.headers, needed)?;
        }
        let mut in_progress = Reservation::none(Arc::clone(&self.requests), id);
        if !in_progress.grow(1) {
            return Err(self.over_share("requests"));
        }
        let mut head = Reservation::none(Arc::clone(&self.bytes), id);
        if !head.grow(bytes_of(parts)) {
            return Err(self.over_share("bytes"));
        }
        if let Some(hold) = parts.extensions.get::<Hold>() {
            hold.keep();
        }
        Ok(OpenRequest {
            sender,
            account,
            in_progress,
            head,
        })
    }

    /// Opens a request and reads its body. The body is read last: first the sender is checked, then the type and
    /// the encoding that the head gives. `accepts` names the types that are taken, for people; NDJSON is taken only
    /// if it is named there.
    pub(crate) async fn receive(
        &self,
        parts: &Parts,
        mut body: Body,
        scope: Scope,
        accepts: &'static str,
    ) -> Result<ReceivedRequest<'_>, Problem> {
        let headers = &parts.headers;
        let mut is_read = false;
        let received = async {
            let mut request = self.open_request(parts, Some(scope)).await?;
            let media = body::media(headers)
                .filter(|media| *media == Media::Json || accepts.contains("ndjson"))
                .ok_or(Problem::UnsupportedMediaType(accepts))?;
            let encoding = body::encoding(headers)?;
            is_read = true;
            let body = body::read(&mut request.account, &mut body, encoding).await?;
            Ok(ReceivedRequest {
                request,
                media,
                body,
            })
        }
        .await;
        // A request that was refused has released its reservations here. `discard` releases the connection too.
        if let Err(problem) = &received {
            let is_slow = matches!(problem, Problem::Timeout(_));
            let waits = !is_read && body::expects_continue(headers);
            if !is_slow && !waits {
                self.discard(parts, body).await;
            }
        }
        received
    }

    /// After a refusal, reads what the client still sends for a moment. The connection is not kept open for that.
    pub(crate) async fn discard(&self, parts: &Parts, body: Body) {
        if let Some(hold) = parts.extensions.get::<Hold>() {
            hold.release();
        }
        body::discard(self.config.max_wire_bytes, body).await;
    }
}

/// The bytes of a request's head, as it was sent.
fn bytes_of(parts: &Parts) -> usize {
    let address = parts.uri.path().len() + parts.uri.query().map_or(0, str::len);
    let fields = parts.headers.iter();
    let fields = fields.map(|(name, value)| name.as_str().len() + value.len());
    address + fields.sum::<usize>()
}
