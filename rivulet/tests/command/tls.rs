//! TLS to PostgreSQL, Kafka and ClickHouse as the command makes it, on servers with certificates of
//! an authority that this test trusts, or does not.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use rivulet_kafka::{TopicPlan, create_topics};
use rivulet_sandbox::{ALLOW_EXTERNAL, KAFKA_USER, TestBed, Tls};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::aws_lc_rs,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    },
};

struct Rig {
    bed: TestBed,
    tls: Tls,
    /// `host:port` of ClickHouse behind TLS.
    clickhouse: String,
    /// An authority that signed nothing.
    other_ca: tempfile::NamedTempFile,
}

impl Rig {
    async fn new() -> Self {
        let tls = Tls::of_checkout().unwrap();
        let bed = TestBed::new().await;
        create_topics(&bed.cluster, &TopicPlan::default())
            .await
            .unwrap();
        rivulet_migrations::postgres(&bed.pool).await.unwrap();
        rivulet_migrations::clickhouse(&bed.clickhouse, &bed.clickhouse_database)
            .await
            .unwrap();
        let url = url::Url::parse(&bed.clickhouse_url).unwrap();
        let clickhouse = format!("127.0.0.1:{}", url.port().unwrap());
        let clickhouse = behind_tls(clickhouse, &tls).await;
        let key = rcgen::KeyPair::generate().unwrap();
        let mut other = rcgen::CertificateParams::new(Vec::new()).unwrap();
        other.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let other_ca = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&other_ca, other.self_signed(&key).unwrap().pem()).unwrap();
        Self {
            bed,
            tls,
            clickhouse: format!("https://localhost:{clickhouse}"),
            other_ca,
        }
    }

    fn postgres(&self, host: &str, ca: Option<&Path>) -> String {
        let mut url = url::Url::parse(&self.bed.database_url).unwrap();
        url.set_host(Some(host)).unwrap();
        url.query_pairs_mut()
            .clear()
            .append_pair("sslmode", "verify-full");
        if let Some(ca) = ca {
            let ca = ca.display().to_string();
            url.query_pairs_mut().append_pair("sslrootcert", &ca);
        }
        url.into()
    }

    /// What is right for all three services.
    fn good(&self) -> BTreeMap<&'static str, String> {
        let ca = self.tls.ca.display().to_string();
        BTreeMap::from([
            (
                "DATABASE_URL",
                self.postgres("localhost", Some(&self.tls.ca)),
            ),
            ("CLICKHOUSE_URL", self.clickhouse.clone()),
            ("RIVULET_CLICKHOUSE_CA", ca.clone()),
            (
                "RIVULET_CLICKHOUSE_DATABASE",
                self.bed.clickhouse_database.clone(),
            ),
            ("KAFKA_BROKERS", self.tls.kafka_sasl.clone()),
            (
                "RIVULET_TOPIC_PREFIX",
                self.bed.cluster.topic_prefix.clone(),
            ),
            ("RIVULET_KAFKA_SECURITY", "sasl-ssl".to_owned()),
            ("RIVULET_KAFKA_CA", ca),
            ("RIVULET_KAFKA_SASL_MECHANISM", "PLAIN".to_owned()),
            ("RIVULET_KAFKA_USERNAME", KAFKA_USER.to_owned()),
            ("RIVULET_KAFKA_PASSWORD", self.tls.kafka_password.clone()),
        ])
    }

    /// What `check-config` prints of each service, with some of the good settings replaced, or taken
    /// out where there is nothing in their place.
    async fn check(&self, replace: &[(&'static str, String)]) -> BTreeMap<String, String> {
        let mut settings = self.good();
        settings.extend(replace.iter().cloned());
        settings.retain(|_, value| !value.is_empty());
        let out = tokio::process::Command::new(env!("CARGO_BIN_EXE_rivulet"))
            .arg("check-config")
            .env_clear()
            .envs(settings)
            .output()
            .await
            .unwrap();
        let said = format!(
            "{}{}",
            String::from_utf8_lossy(&out.stdout),
            String::from_utf8_lossy(&out.stderr)
        );
        assert!(!said.contains(&self.tls.kafka_password), "{said}");
        ["PostgreSQL", "Kafka", "ClickHouse"]
            .map(|service| {
                let of = |line: &&str| line.contains(&format!("  {service}: "));
                let line = said.lines().find(of);
                (service.to_owned(), line.unwrap_or(&said).to_owned())
            })
            .into()
    }
}

/// The port of a door with the checkout's certificate, before a server without one.
async fn behind_tls(target: String, tls: &Tls) -> u16 {
    let dir = tls.ca.parent().unwrap();
    let cert = CertificateDer::from_pem_file(dir.join("server.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(dir.join("server.key")).unwrap();
    let config = ServerConfig::builder_with_provider(aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (acceptor, target) = (acceptor.clone(), target.clone());
            tokio::spawn(async move {
                let mut client = acceptor.accept(client).await?;
                let mut server = TcpStream::connect(target).await?;
                tokio::io::copy_bidirectional(&mut client, &mut server).await
            });
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_are_verified_and_none_is_spoken_to_that_cannot_prove_its_name() {
    if std::env::var_os(ALLOW_EXTERNAL).is_some() {
        eprintln!("not tested: these services' certificates are not known");
        return;
    }
    let rig = Rig::new().await;
    // An authority that did not sign, or the system's alone, which did not either.
    let other = rig.other_ca.path();
    let untrusted = [
        ("DATABASE_URL", rig.postgres("localhost", Some(other))),
        ("RIVULET_CLICKHOUSE_CA", other.display().to_string()),
        ("RIVULET_KAFKA_CA", other.display().to_string()),
    ];
    let unconfigured = [
        ("DATABASE_URL", rig.postgres("localhost", None)),
        ("RIVULET_CLICKHOUSE_CA", String::new()),
        ("RIVULET_KAFKA_CA", String::new()),
    ];
    // The right authority, for another name. Clients are led from there to `localhost` by Kafka, so
    // that one proves that the first connection is verified, too.
    let by_address = |url: &str| url.replace("localhost", "127.0.0.1");
    let misnamed = [
        ("DATABASE_URL", rig.postgres("127.0.0.1", Some(&rig.tls.ca))),
        ("CLICKHOUSE_URL", by_address(&rig.clickhouse)),
        ("KAFKA_BROKERS", by_address(&rig.tls.kafka_sasl)),
    ];
    // Kafka's other ways in: a certificate for a password, and neither.
    let nobody = [
        ("KAFKA_BROKERS", rig.tls.kafka_mutual.clone()),
        ("RIVULET_KAFKA_SECURITY", "ssl".to_owned()),
        ("RIVULET_KAFKA_SASL_MECHANISM", String::new()),
        ("RIVULET_KAFKA_USERNAME", String::new()),
        ("RIVULET_KAFKA_PASSWORD", String::new()),
    ];
    let certificate = [
        ("RIVULET_KAFKA_CERT", &rig.tls.client_cert),
        ("RIVULET_KAFKA_KEY", &rig.tls.client_key),
    ]
    .map(|(name, path)| (name, path.display().to_string()));
    let mutual = [&nobody[..], &certificate].concat();
    let guessed = [("RIVULET_KAFKA_PASSWORD", "guessed".to_owned())];
    // At once: Kafka's refusals are waited for.
    let (good, untrusted, unconfigured, misnamed, nobody, mutual, guessed) = tokio::join!(
        rig.check(&[]),
        rig.check(&untrusted),
        rig.check(&unconfigured),
        rig.check(&misnamed),
        rig.check(&nobody),
        rig.check(&mutual),
        rig.check(&guessed),
    );

    assert!(
        good.values().all(|line| line.starts_with("ok ")),
        "{good:#?}"
    );
    for refused in [&untrusted, &unconfigured, &misnamed] {
        for line in refused.values() {
            assert!(line.starts_with("FAILED"), "{refused:#?}");
        }
    }
    for lines in [&untrusted, &unconfigured] {
        for service in ["PostgreSQL", "ClickHouse"] {
            assert!(lines[service].contains("UnknownIssuer"), "{lines:#?}");
        }
        let why = "certificate verify failed";
        assert!(lines["Kafka"].contains(why), "{lines:#?}");
    }
    for service in ["PostgreSQL", "ClickHouse"] {
        assert!(
            misnamed[service].contains("not valid for name"),
            "{misnamed:#?}"
        );
    }
    assert!(mutual["Kafka"].starts_with("ok "), "{mutual:#?}");
    for refused in [&nobody, &guessed] {
        assert!(refused["Kafka"].starts_with("FAILED"), "{refused:#?}");
    }
    let why = "Authentication failed";
    assert!(guessed["Kafka"].contains(why), "{guessed:#?}");
}
