//! The HTTP port over TLS: who is trusted, what is refused, and a new certificate without a restart.

use std::{path::Path, time::Duration};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use reqwest::{Certificate, Client};
use rivulet_ingest::Config;
use rivulet_kafka::{TopicPlan, create_topics};
use rivulet_sandbox::TestBed;
use rivulet_web::{self as web, TlsFiles};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::common::{Server, config, eventually};

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        Self { issuer, pem }
    }

    /// Writes a certificate for `localhost` and its key.
    fn issue(&self, files: &TlsFiles, expired: bool) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        if expired {
            params.not_after = date_time_ymd(2020, 1, 1);
        }
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(&files.cert, certificate.pem()).unwrap();
        std::fs::write(&files.key, key.serialize_pem()).unwrap();
    }

    /// A client that trusts this authority alone, and opens a connection for each request.
    fn client(&self) -> Client {
        let certificate = Certificate::from_pem(self.pem.as_bytes()).unwrap();
        Client::builder()
            .no_proxy()
            .pool_max_idle_per_host(0)
            .tls_certs_only([certificate])
            .build()
            .unwrap()
    }
}

fn files(dir: &Path) -> TlsFiles {
    TlsFiles {
        cert: dir.join("cert.pem"),
        key: dir.join("key.pem"),
        reread: Duration::from_millis(20),
    }
}

async fn start(authority: &Authority, config: Config) -> Server {
    let bed = TestBed::new().await;
    create_topics(&bed.cluster, &TopicPlan::default())
        .await
        .unwrap();
    rivulet_migrations::postgres(&bed.pool).await.unwrap();
    let (cluster, pool) = (bed.cluster.clone(), bed.pool.clone());
    Server::reached_by(authority.client(), bed, config, cluster, pool).await
}

/// Whether the client gets an answer; why not, as text.
async fn asks(client: &Client, url: &str) -> Result<(), String> {
    let asked = client.get(url).send().await;
    asked.map(drop).map_err(|error| format!("{error:?}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_verify_it_and_its_certificate_is_replaced_while_it_runs() {
    let directory = tempfile::tempdir().unwrap();
    let files = files(directory.path());
    let authority = Authority::new("ours");
    authority.issue(&files, false);
    let port = web::Config {
        tls: Some(files.clone()),
        ..web::Config::default()
    };
    let server = start(&authority, Config { port, ..config() }).await;
    let answer = server.send(&[server.event()]).await;
    assert_eq!(answer["accepted"], 1);
    let url = server.url("/healthz");

    // Another authority, another name.
    let other = Authority::new("other");
    let refused = asks(&other.client(), &url).await.unwrap_err();
    assert!(refused.contains("UnknownIssuer"), "{refused}");
    let by_address = format!("https://{}/healthz", server.address);
    let refused = asks(&authority.client(), &by_address).await.unwrap_err();
    assert!(refused.contains("NotValidForName"), "{refused}");

    // Plain text gets an alert and no word of HTTP, and no request is made of it.
    let mut plain = server.raw("content-length: 0\r\n").await;
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer).await;
    assert!(
        answer.len() < 10 && !answer.starts_with(b"HTTP"),
        "{answer:?}"
    );

    // A key that is not the certificate's, as between two steps of a replacement: the old pair stays.
    let mut kept = kept_open(&authority, &server).await;
    let stale = async |expected: &str| {
        let line = format!(r#"rivulet_http_tls_certificate_stale{{role="ingest"}} {expected}"#);
        let metrics = server.client.get(server.url("/metrics")).send().await;
        metrics.unwrap().text().await.unwrap().contains(&line)
    };
    let key = KeyPair::generate().unwrap().serialize_pem();
    std::fs::write(&files.key, key).unwrap();
    eventually("the bad pair is seen", async || stale("1").await).await;
    asks(&authority.client(), &url).await.unwrap();

    other.issue(&files, false);
    eventually("the new certificate is shown", async || {
        asks(&other.client(), &url).await.is_ok()
    })
    .await;
    let refused = asks(&authority.client(), &url).await.unwrap_err();
    assert!(refused.contains("UnknownIssuer"), "{refused}");
    kept.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await
        .unwrap();
    let mut answer = [0; 15];
    kept.read_exact(&mut answer).await.unwrap();
    assert_eq!(
        &answer, b"HTTP/1.1 200 OK",
        "a connection outlives its certificate"
    );

    authority.issue(&files, true);
    eventually("the expired certificate is refused", async || {
        let asked = asks(&authority.client(), &url).await;
        asked.is_err_and(|error| error.contains("Expired"))
    })
    .await;
    drop(kept);
    server.stop().await.unwrap();
}

/// A connection after its handshake.
async fn kept_open(
    authority: &Authority,
    server: &Server,
) -> impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + use<> {
    use tokio_rustls::rustls::pki_types::{CertificateDer, pem::PemObject as _};
    use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap())
        .unwrap();
    let tls = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(server.address).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(tls));
    connector
        .connect("localhost".try_into().unwrap(), stream)
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_asked_and_stops_sending_is_answered() {
    let directory = tempfile::tempdir().unwrap();
    let files = files(directory.path());
    let authority = Authority::new("ours");
    authority.issue(&files, false);
    let config = Config {
        port: web::Config {
            tls: Some(files),
            ..web::Config::default()
        },
        ..config()
    };
    let server = start(&authority, config).await;
    let body = serde_json::json!({"events": [server.event()]}).to_string();
    let request = format!(
        "POST /v1/events HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        server.ingest_key,
        body.len()
    );
    for _ in 0..5 {
        let mut stream = kept_open(&authority, &server).await;
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        // How the server ends the connection is not asked here.
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        assert!(answer.contains("\"accepted\":1"), "{answer}");
    }
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_handshake_has_a_place_and_makes_room_for_a_newcomer() {
    let directory = tempfile::tempdir().unwrap();
    let files = files(directory.path());
    let authority = Authority::new("ours");
    authority.issue(&files, false);
    let config = Config {
        port: web::Config {
            tls: Some(files),
            max_connections: 1,
            header_timeout: Duration::from_secs(600),
            ..web::Config::default()
        },
        ..config()
    };
    let server = start(&authority, config).await;
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    // The only place is taken by one that has not asked for anything.
    let url = server.url("/healthz");
    asks(&authority.client(), &url).await.unwrap();
    let cut = silent.read(&mut [0; 16]).await;
    assert!(matches!(cut, Ok(0) | Err(_)), "it was answered: {cut:?}");

    // One that is under way does not hold up the end.
    let _silent = TcpStream::connect(server.address).await.unwrap();
    server.stop().await.unwrap();
}

#[test]
fn files_that_no_handshake_could_use_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let files = files(directory.path());
    assert!(files.check().unwrap_err().to_string().contains("cert.pem"));
    Authority::new("ours").issue(&files, false);
    files.check().unwrap();
    let good = std::fs::read(&files.key).unwrap();
    let other = KeyPair::generate().unwrap().serialize_pem();
    for (cert, key, what) in [
        (None, Some(other.as_bytes()), "together"),
        (None, Some(&b"no key"[..]), "private key"),
        (Some(&b""[..]), None, "certificate"),
    ] {
        let before = std::fs::read(&files.cert).unwrap();
        std::fs::write(&files.cert, cert.unwrap_or(&before)).unwrap();
        std::fs::write(&files.key, key.unwrap_or(&good)).unwrap();
        let refused = files.check().unwrap_err().to_string();
        assert!(refused.contains(what), "{refused}");
        std::fs::write(&files.cert, before).unwrap();
    }
}
