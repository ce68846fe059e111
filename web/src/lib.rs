//! An HTTP port as strangers may reach it, for the roles that have one: how many connections and for
//! how long, TLS, rate limits, a name for each request, metrics, and refusals as problem documents.

mod asset;
mod background;
mod bearer;
mod browsers;
mod connection;
mod connections;
mod limit;
mod metrics;
pub mod openapi;
mod operations;
mod peer;
mod port;
mod problem;
mod request_id;
mod tagged;
mod tls;
mod worded;

pub use asset::{Asset, Caching};
pub use background::{Background, TaskEnded};
pub use bearer::{bearer, is_token};
pub use browsers::browsers;
pub use connection::CONNECTION_BUFFER;
pub use connections::Hold;
pub use limit::{Limiter, Throttled, seconds};
pub use metrics::METRICS;
pub use operations::serve_operations;
pub use peer::Peer;
pub use port::{Config, InvalidConfig, Port};
pub use problem::{Problem, document, internal, panicked};
pub use request_id::{HEADER as REQUEST_ID, RequestId};
pub use tagged::tagged;
pub use tls::{TlsError, TlsFiles};
