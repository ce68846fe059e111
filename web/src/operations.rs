//! A listener for those who run a process.

use std::time::Duration;

use rivulet_telemetry::Operations;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{Config, Port, TlsError};

/// Few clients ask, and none of them for long. A connection beyond this number replaces the oldest.
const CONNECTIONS: usize = 64;

/// Longer than between two probes, so that these need not connect each time.
const HEADER_TIMEOUT: Duration = Duration::from_secs(90);

/// Serves [`Operations::of_process`], in plain text, until `shutdown`. It has a few slots of its own, and a new
/// connection always gets one of them, so whoever asks is answered.
///
/// # Errors
/// None but by name: there is no certificate that could not be served.
pub async fn serve_operations(
    listener: TcpListener,
    operations: Operations,
    shutdown: CancellationToken,
) -> Result<(), TlsError> {
    let config = Config {
        max_connections: CONNECTIONS,
        max_connections_per_address: usize::MAX,
        header_timeout: HEADER_TIMEOUT,
        write_timeout: Duration::from_secs(10),
        drain_timeout: Duration::from_secs(1),
        tls: None,
    };
    let port = Port::new(
        "operations",
        config,
        operations.of_process(),
        |_| "operations",
    )?;
    tokio::select! {
        () = shutdown.cancelled() => {}
        never = port.accept(&listener) => match never {},
    }
    drop(listener);
    port.close().await;
    Ok(())
}
