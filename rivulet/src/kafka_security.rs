//! How the connections to Kafka are protected: the flags, as librdkafka's properties.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};

/// TLS and SASL to Kafka.
#[derive(Args, Clone)]
pub(crate) struct KafkaSecurity {
    /// How brokers are spoken to. With ssl and sasl-ssl their certificates and host names are verified.
    #[arg(long, env = "RIVULET_KAFKA_SECURITY", default_value = "plaintext")]
    kafka_security: Protocol,
    /// PEM file of the authorities that brokers' certificates are trusted by; the system's without it.
    #[arg(long, env = "RIVULET_KAFKA_CA", value_name = "FILE")]
    kafka_ca: Option<PathBuf>,
    /// PEM file of this client's certificate, for brokers that ask for one.
    #[arg(long, env = "RIVULET_KAFKA_CERT", value_name = "FILE")]
    kafka_cert: Option<PathBuf>,
    /// PEM file of its private key.
    #[arg(long, env = "RIVULET_KAFKA_KEY", value_name = "FILE")]
    kafka_key: Option<PathBuf>,
    /// How this client proves who it is.
    #[arg(
        long,
        env = "RIVULET_KAFKA_SASL_MECHANISM",
        default_value = "SCRAM-SHA-512"
    )]
    kafka_sasl_mechanism: Mechanism,
    /// Kafka user.
    #[arg(long, env = "RIVULET_KAFKA_USERNAME", value_name = "USER")]
    kafka_username: Option<String>,
    /// Its password.
    #[arg(long, env = "RIVULET_KAFKA_PASSWORD", hide_env_values = true)]
    kafka_password: Option<String>,
    /// A file with the password, in place of it.
    #[arg(long, env = "RIVULET_KAFKA_PASSWORD_FILE", value_name = "FILE")]
    kafka_password_file: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Protocol {
    #[value(alias = "PLAINTEXT")]
    Plaintext,
    #[value(alias = "SSL")]
    Ssl,
    #[value(alias = "SASL_PLAINTEXT")]
    SaslPlaintext,
    #[value(alias = "SASL_SSL")]
    SaslSsl,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mechanism {
    #[value(name = "PLAIN")]
    Plain,
    #[value(name = "SCRAM-SHA-256")]
    ScramSha256,
    #[value(name = "SCRAM-SHA-512")]
    ScramSha512,
}

impl KafkaSecurity {
    /// For [`rivulet_kafka::Cluster`], before the properties that were `given` as such and win. What
    /// is not encrypted or verified is logged once, unless all `brokers` are on this machine.
    ///
    /// # Errors
    /// Settings of which one would have no effect, or a password that everybody could read.
    pub(crate) fn properties(
        &self,
        brokers: &str,
        given: &[(String, String)],
    ) -> anyhow::Result<Vec<(String, String)>> {
        // A variable that is set to nothing, as compose files do, is not set.
        let text = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let file = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        let (ca, cert, key) = (
            file(&self.kafka_ca),
            file(&self.kafka_cert),
            file(&self.kafka_key),
        );
        let protocol = self.kafka_security;
        let encrypted = matches!(protocol, Protocol::Ssl | Protocol::SaslSsl);
        let sasl = matches!(protocol, Protocol::SaslPlaintext | Protocol::SaslSsl);
        let remote = brokers
            .split(',')
            .any(|broker| !crate::exposure::is_local(host(broker)));
        if !encrypted && (ca.is_some() || cert.is_some() || key.is_some()) {
            bail!(
                "a certificate for Kafka is given, but RIVULET_KAFKA_SECURITY does not encrypt: \
                 everything would be sent in plain text; set it to ssl or sasl-ssl"
            );
        }
        if cert.is_some() != key.is_some() {
            bail!("RIVULET_KAFKA_CERT and RIVULET_KAFKA_KEY go together: one is missing");
        }
        let username = text(&self.kafka_username);
        let password = self.password()?;
        if !sasl && (username.is_some() || password.is_some()) {
            bail!(
                "a user or password for Kafka is given, but RIVULET_KAFKA_SECURITY does not log in: \
                 set it to sasl-ssl"
            );
        }
        if protocol == Protocol::SaslPlaintext
            && self.kafka_sasl_mechanism == Mechanism::Plain
            && remote
        {
            bail!(
                "PLAIN over sasl-plaintext shows Kafka's password to everybody on the way: use \
                 sasl-ssl, or SCRAM-SHA-512"
            );
        }
        let says = |name: &str, value: &str| {
            let mut given = given.iter();
            given.any(|(given, v)| given == name && v.to_ascii_lowercase().contains(value))
        };
        let open = match given.iter().any(|(name, _)| name == "security.protocol") {
            true => says("security.protocol", "plaintext"),
            false => !encrypted,
        };
        if remote
            && (says("enable.ssl.certificate.verification", "false")
                || says("ssl.endpoint.identification.algorithm", "none"))
        {
            crate::exposure::warn_once(
                "Kafka's certificate or name is not verified: another server can take its place",
            );
        }
        if open && remote {
            crate::exposure::warn_once(
                "Kafka is spoken to in plain text: everybody on the way can read children's events; \
                 RIVULET_KAFKA_SECURITY is ssl or sasl-ssl where they may not",
            );
        }
        let mut properties = vec![("security.protocol", property(&protocol).replace('-', "_"))];
        if encrypted {
            // librdkafka's defaults, which a release of it must not change unseen.
            properties.extend([
                ("enable.ssl.certificate.verification", "true".to_owned()),
                ("ssl.endpoint.identification.algorithm", "https".to_owned()),
            ]);
            let files = [
                ("ssl.ca.location", ca),
                ("ssl.certificate.location", cert),
                ("ssl.key.location", key),
            ];
            properties.extend(
                files
                    .into_iter()
                    .filter_map(|(name, file)| Some((name, file?))),
            );
        }
        if sasl {
            let (Some(username), Some(password)) = (username, password) else {
                bail!(
                    "RIVULET_KAFKA_SECURITY logs in, but RIVULET_KAFKA_USERNAME or its password \
                     (RIVULET_KAFKA_PASSWORD or RIVULET_KAFKA_PASSWORD_FILE) is missing"
                );
            };
            properties.extend([
                ("sasl.mechanism", property(&self.kafka_sasl_mechanism)),
                ("sasl.username", username),
                ("sasl.password", password),
            ]);
        }
        let owned = |(name, value): (&str, String)| (name.to_owned(), value);
        Ok(properties.into_iter().map(owned).collect())
    }

    fn password(&self) -> anyhow::Result<Option<String>> {
        let given = self
            .kafka_password
            .clone()
            .filter(|password| !password.is_empty());
        match (given, &self.kafka_password_file) {
            (given, None) => Ok(given),
            (None, Some(path)) => {
                let text = std::fs::read_to_string(path).with_context(|| {
                    format!("Kafka's password {} cannot be read", path.display())
                })?;
                Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()))
            }
            (Some(_), Some(_)) => {
                bail!(
                    "both RIVULET_KAFKA_PASSWORD and RIVULET_KAFKA_PASSWORD_FILE are set: give one"
                )
            }
        }
    }
}

/// As librdkafka calls it, which is as its flag does, but for the dashes of protocols.
fn property(value: &impl ValueEnum) -> String {
    let value = value.to_possible_value();
    value.map_or_else(String::new, |value| value.get_name().to_owned())
}

/// The host of `HOST:PORT`, `[IPV6]:PORT` or either after a scheme, as librdkafka takes them.
fn host(broker: &str) -> &str {
    let broker = broker.trim();
    let address = broker.split_once("://").map_or(broker, |(_, rest)| rest);
    match address.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => address.split(':').next().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        security: KafkaSecurity,
    }

    fn properties(brokers: &str, flags: &[&str]) -> anyhow::Result<Vec<(String, String)>> {
        let flags = [&["test"], flags].concat();
        Cli::try_parse_from(flags)
            .unwrap()
            .security
            .properties(brokers, &[])
    }

    const LOGIN: [&str; 4] = ["--kafka-username", "ana", "--kafka-password", "planted"];

    #[test]
    fn encryption_verifies_and_every_mechanism_is_built_in() {
        for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
            let flags = [
                "--kafka-security",
                "sasl-ssl",
                "--kafka-sasl-mechanism",
                mechanism,
            ];
            let properties = properties("kafka.example:9093", &[&flags[..], &LOGIN].concat());
            let properties = properties.unwrap();
            for expected in [
                ("security.protocol", "sasl_ssl"),
                ("enable.ssl.certificate.verification", "true"),
                ("ssl.endpoint.identification.algorithm", "https"),
                ("sasl.mechanism", mechanism),
                ("sasl.password", "planted"),
            ] {
                let expected = (expected.0.to_owned(), expected.1.to_owned());
                assert!(properties.contains(&expected), "{expected:?}");
            }
        }
    }

    #[test]
    fn a_setting_without_effect_or_a_password_in_the_open_is_refused() {
        let plain = [
            "--kafka-security",
            "sasl-plaintext",
            "--kafka-sasl-mechanism",
            "PLAIN",
        ];
        let plain = [&plain[..], &LOGIN].concat();
        for (brokers, flags, consequence) in [
            ("k:1", &["--kafka-ca", "ca.pem"][..], "in plain text"),
            (
                "k:1",
                &["--kafka-security", "ssl", "--kafka-cert", "c.pem"],
                "go together",
            ),
            ("k:1", &LOGIN, "does not log in"),
            ("127.0.0.1:1,k:1", &plain, "shows Kafka's password"),
            ("k:1", &["--kafka-security", "sasl-ssl"], "is missing"),
        ] {
            let refused = properties(brokers, flags).unwrap_err().to_string();
            assert!(refused.contains(consequence), "{refused}");
            assert!(!refused.contains("planted"));
        }
        properties("127.0.0.1:1,[::1]:1,localhost:1", &plain).unwrap();
    }
}
