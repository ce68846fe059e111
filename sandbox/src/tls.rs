//! A certificate authority of this checkout's own, and what the services show of it.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use crate::home::{Home, write_private};

/// The user that Kafka knows on its listener with SASL.
pub const KAFKA_USER: &str = "rivulet";

/// How the checkout's own services are reached over TLS, by the name `localhost`: their certificate
/// is for no other, so that a test can also ask for the wrong one.
pub struct Tls {
    /// PEM file of the authority.
    pub ca: PathBuf,
    /// PEM file of a certificate for a client.
    pub client_cert: PathBuf,
    /// PEM file of its key.
    pub client_key: PathBuf,
    /// Kafka's listener with TLS and SASL PLAIN, for [`KAFKA_USER`].
    pub kafka_sasl: String,
    /// That user's password.
    pub kafka_password: String,
    /// Kafka's listener that asks clients for a certificate.
    pub kafka_mutual: String,
}

impl Tls {
    /// # Errors
    /// The services are not up, or Kafka is not Apache's.
    pub fn of_checkout() -> Result<Self> {
        let home = Home::existing(&Home::default_dir())?.context("the services are not up")?;
        let listener = |name| match home.port(name) {
            Some(port) => Ok(format!("localhost:{port}")),
            None => bail!("this Kafka has no TLS: ./dev down && ./dev up --services"),
        };
        let file = |name| home.path("tls").join(name);
        Ok(Self {
            ca: file("ca.pem"),
            client_cert: file("client.pem"),
            client_key: file("client.key"),
            kafka_sasl: listener("kafka-sasl")?,
            kafka_password: home.state().password,
            kafka_mutual: listener("kafka-mutual")?,
        })
    }
}

/// Makes, once, `ca.pem`, `server.pem` and `server.key` for PostgreSQL, both in `server-keystore.pem`
/// for Kafka, and `client.pem` and `client.key`, in `.dev/tls`.
pub(crate) fn prepare(home: &Home) -> Result<()> {
    let dir = home.server_dir("tls")?;
    let whole = dir.join("ca.pem");
    if whole.exists() {
        return Ok(());
    }
    let authority_key = KeyPair::generate()?;
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // OpenSSL takes a certificate for its own issuer whose two names are the same.
    let named = DnType::CommonName;
    authority
        .distinguished_name
        .push(named.clone(), "Rivulet development authority");
    let authority_pem = authority.self_signed(&authority_key)?.pem();
    let authority = Issuer::new(authority, authority_key);
    let issue = |name: &str| -> Result<(String, String)> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec![name.to_owned()])?;
        params.distinguished_name.push(named.clone(), name);
        let certificate = params.signed_by(&key, &authority)?;
        Ok((certificate.pem(), key.serialize_pem()))
    };
    let (server, server_key) = issue("localhost")?;
    let (client, client_key) = issue("client.example")?;
    for (name, text) in [
        ("server-keystore.pem", format!("{server_key}{server}")),
        ("server.pem", server),
        ("server.key", server_key),
        ("client.pem", client),
        ("client.key", client_key),
        // The last, so that its being there means that all are.
        ("ca.pem", authority_pem),
    ] {
        let file = dir.join(name);
        write_private(&file, text.as_bytes())?;
        if let Some(account) = home.account {
            account.own(&file)?;
        }
    }
    Ok(())
}
