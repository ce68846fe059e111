//! TLS of a port: a certificate that is read again when its files change.

use std::{
    convert::Infallible,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use parking_lot::RwLock;
use rivulet_telemetry::Gauge;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        self, ServerConfig,
        crypto::{CryptoProvider, aws_lc_rs},
        pki_types::{CertificateDer, PrivateKeyDer, pem},
        server::{ClientHello, ResolvesServerCert},
        sign::CertifiedKey,
    },
};

use crate::metrics::TLS_CERTIFICATE_STALE;

/// The files with this server's certificate and key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// PEM: this server's certificate, then those between it and its authority.
    pub cert: PathBuf,
    /// PEM: its private key.
    pub key: PathBuf,
    /// How often both are looked at for a change.
    pub reread: Duration,
}

/// Why a certificate cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file could not be read.
    #[error("{path} cannot be read: {error}", path = .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{path} is no PEM file of a {what}: {error}", path = .path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
        /// What is wrong.
        error: pem::Error,
    },
    /// The two files are not for each other, or of a kind that is not known.
    #[error("certificate and key cannot be used together, every handshake would fail: {0}")]
    Pair(#[from] rustls::Error),
}

impl TlsFiles {
    /// Whether the files can be served as they are now.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn check(&self) -> Result<(), TlsError> {
        self.read()?.certified().map(drop)
    }

    fn read(&self) -> Result<Contents, TlsError> {
        let read = |path: &Path| {
            std::fs::read(path).map_err(|error| TlsError::Read {
                path: path.to_owned(),
                error,
            })
        };
        Ok(Contents {
            files: self.clone(),
            cert: read(&self.cert)?,
            key: read(&self.key)?,
        })
    }
}

/// What the files held when they were read.
#[derive(Clone)]
struct Contents {
    files: TlsFiles,
    cert: Vec<u8>,
    key: Vec<u8>,
}

impl Contents {
    fn certified(&self) -> Result<CertifiedKey, TlsError> {
        use pem::PemObject as _;
        let wrong = |path: &Path, what| {
            let path = path.to_owned();
            move |error| TlsError::Pem { path, what, error }
        };
        let chain = CertificateDer::pem_slice_iter(&self.cert)
            .collect::<Result<Vec<_>, _>>()
            .and_then(|chain| match chain.is_empty() {
                true => Err(pem::Error::NoItemsFound),
                false => Ok(chain),
            })
            .map_err(wrong(&self.files.cert, "certificate"))?;
        let key = PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(wrong(&self.files.key, "private key"))?;
        Ok(CertifiedKey::from_der(chain, key, &provider())?)
    }
}

fn provider() -> CryptoProvider {
    aws_lc_rs::default_provider()
}

/// The certificate that handshakes are answered with now.
#[derive(Debug)]
struct Current(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read()))
    }
}

/// Accepts TLS 1.2 and 1.3 with the files' certificate.
pub(crate) fn acceptor(
    role: &'static str,
    files: TlsFiles,
) -> Result<(TlsAcceptor, Certificate), TlsError> {
    let first = files.read()?;
    let current = Arc::new(Current(RwLock::new(Arc::new(first.certified()?))));
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::clone(&current) as Arc<dyn ResolvesServerCert>);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let stale = TLS_CERTIFICATE_STALE.with([role]);
    stale.set(0.0);
    let certificate = Certificate {
        first,
        current,
        stale,
    };
    Ok((TlsAcceptor::from(Arc::new(config)), certificate))
}

/// The certificate of a port.
pub(crate) struct Certificate {
    first: Contents,
    current: Arc<Current>,
    stale: Gauge,
}

impl Certificate {
    /// Reads the files again and again: what cannot be served leaves the certificate that can in place.
    pub(crate) async fn reread(&self) -> Infallible {
        let files = &self.first.files;
        let mut known = self.first.clone();
        let mut tick = tokio::time::interval(files.reread);
        loop {
            tick.tick().await;
            let read = files.read();
            if let Ok(contents) = &read
                && contents.cert == known.cert
                && contents.key == known.key
            {
                continue;
            }
            // Certificate and key are rarely replaced in one step: one without the other is seen
            // as an error here, and put right by the next look.
            match read.and_then(|contents| Ok((contents.certified()?, contents))) {
                Ok((certified, contents)) => {
                    *self.current.0.write() = Arc::new(certified);
                    known = contents;
                    self.stale.set(0.0);
                    tracing::info!("the certificate was replaced");
                }
                Err(error) => {
                    self.stale.set(1.0);
                    tracing::warn!(%error, "the new certificate is not used");
                }
            }
        }
    }
}
