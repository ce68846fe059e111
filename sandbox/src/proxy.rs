//! A door in front of a service that a test can shut.

use std::net::SocketAddr;

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// Forwards TCP connections until it is cut, and again once it is healed.
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    open: watch::Sender<bool>,
}

impl Proxy {
    /// In front of `target`, a `host:port`; it works until the test's runtime ends.
    ///
    /// # Panics
    /// When no port is free.
    #[expect(
        clippy::expect_used,
        reason = "for tests only, which end here in any case"
    )]
    pub async fn to(target: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("a port for a proxy");
        let address = listener.local_addr().expect("the port of a proxy");
        let (open, opened) = watch::channel(true);
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let (target, mut opened) = (target.clone(), opened.clone());
                tokio::spawn(async move {
                    if !*opened.borrow() {
                        return;
                    }
                    let Ok(mut server) = TcpStream::connect(target).await else {
                        return;
                    };
                    tokio::select! {
                        _ = copy_bidirectional(&mut client, &mut server) => {}
                        _ = opened.wait_for(|open| !open) => {}
                    }
                });
            }
        });
        Self { address, open }
    }

    /// Ends every connection; new ones end at once.
    pub fn cut(&self) {
        self.open.send_replace(false);
    }

    /// New connections are forwarded again.
    pub fn heal(&self) {
        self.open.send_replace(true);
    }
}
