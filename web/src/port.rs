//! Accepts connections, and ends them in order.

use std::{convert::Infallible, future, sync::Arc, time::Duration};

use axum::Router;
use hyper_util::{server::graceful::GracefulShutdown, service::TowerToHyperService};
use tokio::net::{TcpListener, TcpStream};
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::metrics::CONNECTIONS_REFUSED;
use crate::{
    Peer, TlsError, TlsFiles,
    connection::{Connection, Open, Requests},
    connections::{Connections, Newcomer, Slot},
    tls::{self, Certificate},
};

/// Slots in addition to all others, for connections that come when all others are busy: enough for everything that
/// asks for the health of the role.
const RESERVE: usize = 64;

/// What a client may hold, and for how long.
#[derive(Clone, Debug)]
pub struct Config {
    /// The certificate of the port, which speaks plain text without it.
    pub tls: Option<TlsFiles>,
    /// Open connections. Beyond this number a new one replaces one that has no request, or none that its
    /// role [keeps](crate::Hold::keep). Where there is none, 64 more are accepted, which are told the role's health
    /// and refused anything else.
    pub max_connections: usize,
    /// Open connections of one address (of one /64, where that is IPv6); beyond it new ones are
    /// closed at once. A load balancer in front is one address.
    pub max_connections_per_address: usize,
    /// How long a TLS handshake may take, and a request's head, the wait for it on an open connection
    /// included.
    pub header_timeout: Duration,
    /// How long a client may take nothing of an answer that it is sent.
    pub write_timeout: Duration,
    /// How long running requests may take to finish at shutdown.
    pub drain_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            tls: None,
            max_connections: 2_048,
            max_connections_per_address: 1_024,
            // This is longer than the minute for which load balancers keep idle connections. One of the two must close
            // first, and it is better if that is the load balancer, which sends the requests.
            header_timeout: Duration::from_secs(75),
            write_timeout: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(20),
        }
    }
}

/// A configuration that would break a promise; the text says which.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidConfig(String);

impl Config {
    /// Checks that the port can answer somebody.
    ///
    /// # Errors
    /// The first setting that cannot work, with what would go wrong.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        let counts = [
            ("max_connections", self.max_connections),
            (
                "max_connections_per_address",
                self.max_connections_per_address,
            ),
        ];
        if let Some((name, _)) = counts.iter().find(|(_, count)| *count == 0) {
            let text = format!("{name} is 0: every request would be refused");
            return Err(InvalidConfig(text));
        }
        let waits = [
            ("header_timeout", self.header_timeout),
            ("write_timeout", self.write_timeout),
        ];
        if let Some((name, _)) = waits.iter().find(|(_, limit)| limit.is_zero()) {
            let text = format!("{name} is 0: every connection would be cut off");
            return Err(InvalidConfig(text));
        }
        if self.tls.as_ref().is_some_and(|tls| tls.reread.is_zero()) {
            let text = "the certificate's reread is 0: it would be read without a pause";
            return Err(InvalidConfig(text.into()));
        }
        Ok(())
    }
}

/// A port of one role.
pub struct Port {
    requests: Requests,
    config: Config,
    connections: Arc<Connections>,
    /// The slots in addition to all others. Each of them may be evicted.
    reserve: Arc<Connections>,
    running: GracefulShutdown,
    /// Ends handshakes.
    stopping: CancellationToken,
    tls: Option<(TlsAcceptor, Certificate)>,
}

impl Port {
    /// `route` gives a path the name by which metrics and logs may know it: without ids.
    ///
    /// # Errors
    /// The certificate cannot be served.
    pub fn new(
        role: &'static str,
        config: Config,
        router: Router,
        route: fn(&str) -> &'static str,
    ) -> Result<Self, TlsError> {
        let tls = match config.tls.clone() {
            None => None,
            Some(files) => Some(tls::acceptor(role, files)?),
        };
        Ok(Self {
            requests: Requests {
                role,
                inner: TowerToHyperService::new(router),
                route,
                only_health: false,
            },
            connections: Connections::new(
                config.max_connections,
                config.max_connections_per_address,
            ),
            reserve: Connections::new(RESERVE, usize::MAX),
            config,
            running: GracefulShutdown::new(),
            stopping: CancellationToken::new(),
            tls,
        })
    }

    /// Accepts connections, and reads the certificate again when it changes, for as long as it is polled.
    pub async fn accept(&self, listener: &TcpListener) -> Infallible {
        let reread = async {
            match &self.tls {
                Some((_, certificate)) => certificate.reread().await,
                None => future::pending().await,
            }
        };
        tokio::select! {
            never = self.accept_all(listener) => never,
            never = reread => never,
        }
    }

    async fn accept_all(&self, listener: &TcpListener) -> Infallible {
        loop {
            match listener.accept().await {
                Ok((stream, from)) => match self.connections.take(from.ip()) {
                    Newcomer::Accepted(slot) => self.connection(stream, slot, false),
                    Newcomer::Refused => {
                        let role = self.requests.role;
                        CONNECTIONS_REFUSED.with([role]).increment(1);
                    }
                    Newcomer::Full => {
                        if let Newcomer::Accepted(slot) = self.reserve.take(from.ip()) {
                            self.connection(stream, slot, true);
                        }
                    }
                },
                // Out of file descriptors, or a connection that is gone already.
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    /// Lets running requests finish, for so long as was configured.
    pub async fn close(self) {
        // Handshakes have not asked for anything yet.
        self.stopping.cancel();
        let finished = self.running.shutdown();
        let drained = tokio::time::timeout(self.config.drain_timeout, finished).await;
        if drained.is_err() {
            tracing::warn!(
                connections = self.connections.open() + self.reserve.open(),
                "requests were still running and are cut off"
            );
        }
    }

    fn connection(&self, stream: TcpStream, slot: Slot, only_health: bool) {
        // Answers are one write each; waiting to fill a packet would only delay them.
        let _ = stream.set_nodelay(true);
        // Reading has limits of its own, for a request's head and for its body.
        let peer = Peer::new(stream);
        let mut stream = TimeoutStream::new(peer.clone());
        stream.set_write_timeout(Some(self.config.write_timeout));
        let stream = Box::pin(stream);
        let connection = Connection {
            requests: Requests {
                only_health,
                ..self.requests.clone()
            },
            peer,
            header_timeout: self.config.header_timeout,
            watcher: self.running.watcher(),
            slot,
            _open: Open::count(self.requests.role),
        };
        match &self.tls {
            None => tokio::spawn(connection.serve(stream)),
            Some((tls, _)) => {
                tokio::spawn(connection.serve_tls(tls.clone(), stream, self.stopping.clone()))
            }
        };
    }
}
