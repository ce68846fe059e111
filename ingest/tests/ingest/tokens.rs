//! Client tokens: who may write for a family, for how long, and how much.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der},
    rsa::{KeySize, PrivateDecryptingKey},
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair},
};
use axum::{Router, http::StatusCode as Status, routing::get};
use jsonwebtoken::{
    Algorithm, EncodingKey, Header, encode,
    jwk::{Jwk, KeyAlgorithm},
};
use reqwest::{Response, StatusCode};
use rivulet_events::ParentId;
use rivulet_ingest::{Config, Error, serve};
use rivulet_tokens::{Config as Tokens, Secret, Source, mint};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::common::{Server, config, event, eventually, outcomes, problem, stored};

const SECRET: &str = "a secret of at least thirty-two bytes";
const OLD_SECRET: &str = "the secret that was used until today";

fn by_secret() -> Tokens {
    Tokens {
        secrets: Secret::lines(&format!("{SECRET}\n{OLD_SECRET}\n")),
        audience: "rivulet".to_owned(),
        issuer: Some("https://idp.example".to_owned()),
        ..Tokens::default()
    }
}

fn taking(tokens: Tokens) -> Config {
    Config {
        tokens: Some(tokens),
        ..config()
    }
}

fn now() -> i64 {
    chrono::Utc::now().timestamp()
}

/// What a good token says.
fn claims(parent: Uuid) -> Value {
    json!({
        "sub": parent, "aud": "rivulet", "iss": "https://idp.example",
        "iat": now(), "exp": now() + 600,
    })
}

fn signed(header: &Header, claims: &Value, key: &EncodingKey) -> String {
    encode(header, claims, key).unwrap()
}

fn hs256(claims: &Value) -> String {
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    signed(&Header::new(Algorithm::HS256), claims, &key)
}

async fn post(server: &Server, token: &str, events: &[Value]) -> Response {
    let post = server.client.post(server.url("/v1/events"));
    let body = json!({"events": events});
    post.bearer_auth(token).json(&body).send().await.unwrap()
}

async fn send(server: &Server, token: &str, events: &[Value]) -> Value {
    let response = post(server, token, events).await;
    let status = response.status();
    let answer: Value = response.json().await.unwrap();
    assert_eq!(status, StatusCode::OK, "{answer}");
    answer
}

/// A good event is refused with this word in the explanation, and the token is not repeated.
async fn refused(server: &Server, token: &str, word: &str) {
    let response = post(server, token, &[server.event()]).await;
    let headers = response.headers().clone();
    let status = response.status();
    let document: Value = response.json().await.unwrap();
    assert_eq!(status, StatusCode::UNAUTHORIZED, "{word}: {document}");
    assert_eq!(document["code"], "unauthorized");
    assert_eq!(headers["content-type"], "application/problem+json");
    let challenge = headers["www-authenticate"].to_str().unwrap();
    assert!(challenge.contains("error=\"invalid_token\""), "{challenge}");
    let detail = document["detail"].as_str().unwrap();
    assert!(detail.contains(word), "`{word}` is not in: {detail}");
    assert!(!detail.contains(token));
}

/// Whoever signs with keys that it publishes.
struct Signer {
    kid: String,
    algorithm: Algorithm,
    private: EncodingKey,
}

impl Signer {
    fn rsa(kid: &str) -> Self {
        let pair = PrivateDecryptingKey::generate(KeySize::Rsa2048).unwrap();
        let pkcs8 = AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).unwrap();
        // What is within the PKCS #8 of a 2048 bit key after its fixed head is PKCS #1.
        let private = EncodingKey::from_rsa_der(&pkcs8.as_ref()[26..]);
        Self {
            kid: kid.to_owned(),
            algorithm: Algorithm::RS256,
            private,
        }
    }

    fn ec(kid: &str) -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let pkcs8 = pair.to_pkcs8v1().unwrap();
        Self {
            kid: kid.to_owned(),
            algorithm: Algorithm::ES256,
            private: EncodingKey::from_ec_der(pkcs8.as_ref()),
        }
    }

    fn public(&self) -> Jwk {
        let mut jwk = Jwk::from_encoding_key(&self.private, self.algorithm).unwrap();
        jwk.common.key_id = Some(self.kid.clone());
        jwk
    }

    fn header(&self) -> Header {
        Header {
            kid: Some(self.kid.clone()),
            ..Header::new(self.algorithm)
        }
    }

    fn token(&self, claims: &Value) -> String {
        signed(&self.header(), claims, &self.private)
    }
}

fn jwks(signers: &[&Signer]) -> Value {
    let keys: Vec<_> = signers.iter().map(|signer| signer.public()).collect();
    json!({"keys": keys})
}

/// A server of keys that tests can change, and break.
#[derive(Clone, Default)]
struct KeyServer {
    /// `None` answers 500.
    document: Arc<Mutex<Option<Value>>>,
    asked: Arc<AtomicUsize>,
}

impl KeyServer {
    async fn listen(&self, listener: TcpListener) {
        let this = self.clone();
        let answer = async move || {
            this.asked.fetch_add(1, Ordering::Relaxed);
            match &*this.document.lock().unwrap() {
                Some(document) => (Status::OK, document.to_string()),
                None => (Status::INTERNAL_SERVER_ERROR, String::new()),
            }
        };
        let router = Router::new().route("/jwks", get(answer));
        tokio::spawn(async move { axum::serve(listener, router).await });
    }

    async fn start(document: Value) -> (Self, Source) {
        let this = Self::default();
        this.publish(Some(document));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let source = Self::source(&listener);
        this.listen(listener).await;
        (this, source)
    }

    fn source(listener: &TcpListener) -> Source {
        let address = listener.local_addr().unwrap();
        Source::parse(&format!("http://{address}/jwks")).unwrap()
    }

    fn publish(&self, document: Option<Value>) {
        *self.document.lock().unwrap() = document;
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

fn by_jwks(source: Source) -> Tokens {
    Tokens {
        secrets: Vec::new(),
        jwks: Some(source),
        // Long enough that nothing but an unknown key has it read again.
        refresh_every: Duration::from_secs(3_600),
        refresh_pause: Duration::from_millis(50),
        ..by_secret()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_writes_its_own_children_and_learns_nothing_of_others() {
    let server = Server::with(taking(by_secret())).await;
    let (elsewhere, theirs) = (Uuid::new_v4(), Uuid::new_v4());
    let (deleted, sibling) = (Uuid::new_v4(), Uuid::new_v4());
    server.register(elsewhere, theirs).await;
    server.register(Uuid::new_v4(), deleted).await;
    server.admin_delete(&format!("children/{deleted}")).await;
    server.register(server.parent, sibling).await;
    let nobody = Uuid::new_v4();
    let token = hs256(&claims(server.parent));

    // Twice: the second time what was read is in memory.
    for _ in 0..2 {
        let events = [server.child, theirs, nobody, deleted, sibling].map(event);
        let answer = send(&server, &token, &events).await;
        assert_eq!(
            outcomes(&answer),
            ["accepted", "rejected", "rejected", "rejected", "accepted"]
        );
        // Another family's child, one that is nowhere and one that was deleted look the same.
        for index in 1..4 {
            let result = &answer["results"][index];
            assert_eq!(result["code"], "unknown_child", "{answer}");
            assert_eq!(result["message"], answer["results"][2]["message"]);
            assert_eq!(result["pointer"], "/child_id");
        }
    }

    // A child that moves out can no longer be written, a child that moves in can.
    let moved = json!({"parent_id": elsewhere, "age_group": "wonder_cubs"});
    let path = format!("children/{sibling}");
    server.admin_put(&path, &moved).await;
    let of_others = hs256(&claims(elsewhere));
    eventually("the child is the other family's", async || {
        let ours = send(&server, &token, &[event(sibling)]).await;
        let others = send(&server, &of_others, &[event(sibling)]).await;
        outcomes(&ours) == ["rejected"] && outcomes(&others) == ["accepted"]
    })
    .await;
    assert!(stored(&server.cluster).len() >= 5);

    // Its own child that was deleted is said to be.
    server
        .admin_delete(&format!("children/{}", server.child))
        .await;
    eventually("the child is deleted", async || {
        let answer = send(&server, &token, &[server.event()]).await;
        answer["results"][0]["code"] == "child_deleted"
    })
    .await;
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_posts_events_and_nothing_else() {
    let server = Server::with(taking(by_secret())).await;
    let token = hs256(&claims(server.parent));
    for path in ["parents", "children"] {
        let url = server.url(&format!("/v1/admin/{path}/{}", server.parent));
        for method in [reqwest::Method::PUT, reqwest::Method::DELETE] {
            let request = server.client.request(method, &url).bearer_auth(&token);
            let (status, code, _) = problem(request.send().await.unwrap()).await;
            assert_eq!((status, code.as_str()), (403, "forbidden"));
        }
    }
    // The key beside it goes on working.
    server.send(&[server.event()]).await;
    server.stop().await.unwrap();

    let without = Server::start().await;
    refused(&without, &token, "not taken here").await;
    without.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_in_which_a_token_is_not_good() {
    let server = Server::with(taking(by_secret())).await;
    let good = claims(server.parent);
    let with = |change: Value| {
        let mut claims = good.clone();
        let members = claims.as_object_mut().unwrap();
        for (name, value) in change.as_object().unwrap() {
            if value.is_null() {
                members.remove(name);
            } else {
                members.insert(name.clone(), value.clone());
            }
        }
        hs256(&claims)
    };
    for fine in [
        with(json!({})),
        with(json!({"aud": ["other", "rivulet"]})),
        with(json!({"iat": null})),
        // Within the leeway.
        with(json!({"iat": now() + 10, "nbf": now() + 10})),
        with(json!({"exp": now() + 600, "iat": (now() as f64) + 0.5})),
        with(json!({"iat": now() - 100, "exp": now() - 100 + 24 * 3_600})),
    ] {
        let answer = send(&server, &fine, &[server.event()]).await;
        assert_eq!(outcomes(&answer), ["accepted"]);
    }
    for (change, word) in [
        (json!({"exp": now() - 100}), "expired"),
        (json!({"nbf": now() + 300}), "not valid yet"),
        (
            json!({"iat": now() + 300, "exp": now() + 400}),
            "not valid yet",
        ),
        (json!({"aud": "another"}), "audience"),
        (json!({"aud": ["another"]}), "audience"),
        (json!({"iss": "https://evil.example"}), "issuer"),
        (json!({"exp": null}), "lacks `exp`"),
        (json!({"aud": null}), "lacks `aud`"),
        (json!({"iss": null}), "lacks `iss`"),
        (json!({"sub": null}), "lacks `sub`"),
        (json!({"sub": "me"}), "`sub` must be"),
        (json!({"exp": now() + 24 * 3_600 + 60}), "lives too long"),
        (
            json!({"iat": null, "exp": now() + 25 * 3_600}),
            "lives too long",
        ),
        // Old enough that little of its life is left: still not what may be made.
        (
            json!({"iat": now() - 30 * 86_400, "exp": now() + 60}),
            "lives too long",
        ),
        (json!({"exp": "soon"}), "cannot be read"),
        (json!({"exp": -1}), "lacks `exp`"),
    ] {
        refused(&server, &with(change), word).await;
    }

    let token = hs256(&good);
    let parts: Vec<_> = token.split('.').collect();
    let other = EncodingKey::from_secret(b"a secret that nobody here knows of at all");
    let header = Header::new(Algorithm::HS256);
    refused(&server, &signed(&header, &good, &other), "signature").await;
    refused(&server, &format!("{}.{}.", parts[0], parts[1]), "signature").await;
    let theirs = hs256(&claims(Uuid::new_v4()));
    let theirs: Vec<_> = theirs.split('.').collect();
    let swapped = format!("{}.{}.{}", parts[0], theirs[1], parts[2]);
    refused(&server, &swapped, "signature").await;
    for unreadable in [
        "a.b.c",
        "..",
        "a.b",
        &parts[..2].join("."),
        &format!("{token}.x"),
    ] {
        refused(&server, unreadable, "cannot be read").await;
    }
    // Of a claim or a header given twice, no reader may take whichever it likes.
    let twice = |header: &str, name: &str, value: &Value| {
        let claims = good.to_string();
        let claims = match name {
            "" => claims,
            name => format!("{{\"{name}\":{value},{}", &claims[1..]),
        };
        let text = format!(
            "{}.{}",
            base64url(header.as_bytes()),
            base64url(claims.as_bytes())
        );
        let key = EncodingKey::from_secret(SECRET.as_bytes());
        let signature = jsonwebtoken::crypto::sign(text.as_bytes(), &key, Algorithm::HS256);
        format!("{text}.{}", signature.unwrap())
    };
    let plain = r#"{"alg":"HS256"}"#;
    let answer = send(&server, &twice(plain, "", &Value::Null), &[server.event()]).await;
    assert_eq!(outcomes(&answer), ["accepted"]);
    for (name, value) in [
        ("sub", json!(Uuid::new_v4())),
        ("exp", json!(now() + 60)),
        ("iat", json!(now())),
        ("aud", json!("another")),
        ("iss", json!("https://evil.example")),
    ] {
        let token = twice(plain, name, &value);
        refused(&server, &token, "cannot be read").await;
    }
    let token = twice(r#"{"alg":"none","alg":"HS256"}"#, "", &Value::Null);
    refused(&server, &token, "cannot be read").await;
    // No signature at all, in the spellings that libraries have fallen for.
    for none in ["none", "None", "NONE", "nOnE", ""] {
        let header = json!({"alg": none, "typ": "JWT"}).to_string();
        let header = base64url(header.as_bytes());
        for signature in ["", parts[2]] {
            let forged = format!("{header}.{}.{signature}", parts[1]);
            refused(&server, &forged, "cannot be read").await;
        }
    }
    for algorithm in [Algorithm::HS384, Algorithm::HS512] {
        let key = EncodingKey::from_secret(SECRET.as_bytes());
        let token = signed(&Header::new(algorithm), &good, &key);
        refused(&server, &token, "algorithm").await;
    }
    let critical = Header {
        crit: Some(vec!["b64".to_owned()]),
        ..Header::new(Algorithm::HS256)
    };
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    refused(&server, &signed(&critical, &good, &key), "cannot be read").await;
    // Keys of a JWKS are not known here.
    refused(&server, &Signer::rsa("k").token(&good), "algorithm").await;

    // The old secret is good while it is listed, and what the command makes is.
    let old = EncodingKey::from_secret(OLD_SECRET.as_bytes());
    let old = signed(&header, &good, &old);
    let parent = ParentId::new(server.parent);
    let minted = mint(&by_secret(), parent, Duration::from_secs(60)).unwrap();
    for token in [old, minted] {
        let answer = send(&server, &token, &[server.event()]).await;
        assert_eq!(outcomes(&answer), ["accepted"]);
    }
    assert!(mint(&by_secret(), parent, Duration::from_secs(86_401)).is_err());
    server.stop().await.unwrap();
}

fn base64url(bytes: &[u8]) -> String {
    use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_family_has_a_rate_limit_of_its_own() {
    let server = Server::with(Config {
        token_rate: 1,
        token_burst: 1_000,
        ..taking(by_secret())
    })
    .await;
    let (ours, theirs) = (
        hs256(&claims(server.parent)),
        hs256(&claims(Uuid::new_v4())),
    );
    let refused: Vec<Value> = (0..600).map(|_| json!({})).collect();
    assert_eq!(
        post(&server, &ours, &refused).await.status(),
        StatusCode::OK
    );
    // A new token is no new limit.
    let mut later = claims(server.parent);
    later["exp"] = json!(now() + 700);
    let (status, code, headers) = problem(post(&server, &hs256(&later), &refused).await).await;
    assert_eq!((status, code.as_str()), (429, "rate_limited"));
    assert_eq!(headers["ratelimit-limit"], "1000");
    assert!(headers.contains_key("retry-after"));
    for sender in [&theirs, &server.ingest_key] {
        assert_eq!(
            post(&server, sender, &refused).await.status(),
            StatusCode::OK
        );
    }
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_for_one_algorithm_whatever_the_token_says() {
    let (rsa, ec) = (Signer::rsa("rsa"), Signer::ec("ec"));
    let mut encrypts = Signer::rsa("encrypts").public();
    encrypts.common.public_key_use = Some(jsonwebtoken::jwk::PublicKeyUse::Encryption);
    let pss = Signer::rsa("pss");
    let mut for_pss = pss.public();
    for_pss.common.key_algorithm = Some(KeyAlgorithm::PS256);
    let mut document = jwks(&[&rsa, &ec]);
    document["keys"].as_array_mut().unwrap().extend([
        json!(encrypts),
        json!(for_pss),
        // A symmetric key in public is everybody's.
        json!({"kty": "oct", "kid": "oct", "k": base64url(SECRET.as_bytes()), "alg": "HS256"}),
        json!({"kty": "AKP", "kid": "later", "alg": "ML-DSA-44", "pub": "AA"}),
        json!("no key"),
    ]);
    let (_, source) = KeyServer::start(document).await;
    let server = Server::with(taking(by_jwks(source))).await;
    let good = claims(server.parent);
    for signer in [&rsa, &ec] {
        let answer = send(&server, &signer.token(&good), &[server.event()]).await;
        assert_eq!(outcomes(&answer), ["accepted"]);
        // There is one key of this algorithm, so the token need not name it.
        let nameless = signed(&Header::new(signer.algorithm), &good, &signer.private);
        let answer = send(&server, &nameless, &[server.event()]).await;
        assert_eq!(outcomes(&answer), ["accepted"]);
    }

    // The public key as if it were a secret: raw, and as the texts in which it is known.
    let public = rsa.public();
    let jsonwebtoken::jwk::AlgorithmParameters::RSA(parameters) = &public.algorithm else {
        panic!("an RSA key");
    };
    for secret in [
        parameters.n.clone().into_bytes(),
        json!(public).to_string().into_bytes(),
        SECRET.as_bytes().to_vec(),
    ] {
        for kid in ["rsa", "oct"] {
            let header = Header {
                kid: Some(kid.to_owned()),
                ..Header::new(Algorithm::HS256)
            };
            let forged = signed(&header, &good, &EncodingKey::from_secret(&secret));
            refused(&server, &forged, "algorithm").await;
        }
    }
    // One kind's name with the other kind's algorithm.
    let confused = Header {
        kid: Some("ec".to_owned()),
        ..Header::new(Algorithm::RS256)
    };
    let confused = signed(&confused, &good, &rsa.private);
    refused(&server, &confused, "`kid`").await;
    let other = Header {
        kid: Some("rsa".to_owned()),
        ..Header::new(Algorithm::RS512)
    };
    refused(&server, &signed(&other, &good, &rsa.private), "algorithm").await;
    refused(&server, &pss.token(&good), "`kid`").await;
    let stranger = Signer::rsa("rsa");
    refused(&server, &stranger.token(&good), "signature").await;
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_rotate_without_a_gap_and_garbage_does_not_reach_their_server() {
    let (first, second) = (Signer::ec("first"), Signer::rsa("second"));
    let (keys, source) = KeyServer::start(jwks(&[&first])).await;
    let server = Server::with(taking(Tokens {
        refresh_pause: Duration::from_secs(1),
        ..by_jwks(source)
    }))
    .await;
    let good = claims(server.parent);
    let accepted = async |signer: &Signer| {
        let response = post(&server, &signer.token(&good), &[server.event()]).await;
        response.status() == StatusCode::OK
    };
    assert!(accepted(&first).await);

    keys.publish(Some(jwks(&[&first, &second])));
    eventually("the new key is known", async || accepted(&second).await).await;
    assert!(accepted(&first).await, "and the old one still is");

    keys.publish(Some(jwks(&[&second])));
    let before = keys.asked();
    let started = std::time::Instant::now();
    for n in 0..200 {
        let garbage = Signer {
            kid: format!("garbage {n}"),
            ..Signer::ec("")
        };
        refused(&server, &garbage.token(&good), "`kid`").await;
    }
    // One reading a pause, and one that was wanted before.
    let most = started.elapsed().as_secs() as usize + 2;
    assert!(keys.asked() - before <= most, "{}", keys.asked() - before);
    eventually("the old key is gone", async || {
        let garbage = Signer::ec("garbage");
        let _ = post(&server, &garbage.token(&good), &[]).await;
        !accepted(&first).await
    })
    .await;
    refused(&server, &first.token(&good), "`kid`").await;
    assert!(accepted(&second).await);
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_keys_may_be_down_at_boot_and_later() {
    let signer = Signer::ec("key");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let source = KeyServer::source(&listener);
    let address = listener.local_addr().unwrap();
    drop(listener);
    let server = Server::with(taking(by_jwks(source))).await;
    let token = signer.token(&claims(server.parent));

    // Keys work, tokens are to be sent again.
    server.send(&[server.event()]).await;
    let (status, code, headers) = problem(post(&server, &token, &[server.event()]).await).await;
    assert_eq!((status, code.as_str()), (503, "unavailable"));
    assert!(headers.contains_key("retry-after"));

    let keys = KeyServer::default();
    keys.publish(Some(jwks(&[&signer])));
    keys.listen(TcpListener::bind(address).await.unwrap()).await;
    eventually("tokens are taken", async || {
        post(&server, &token, &[server.event()]).await.status() == StatusCode::OK
    })
    .await;

    // Down, or nonsense: what was known is still known, and what was not cannot be told.
    let stranger = Signer::ec("unknown").token(&claims(server.parent));
    for broken in [None, Some(json!({"keys": []})), Some(json!("nonsense"))] {
        let asked = keys.asked();
        keys.publish(broken);
        eventually("the failure is met", async || {
            let response = post(&server, &stranger, &[server.event()]).await;
            keys.asked() > asked && response.status() == StatusCode::SERVICE_UNAVAILABLE
        })
        .await;
        let answer = send(&server, &token, &[server.event()]).await;
        assert_eq!(outcomes(&answer), ["accepted"]);
    }
    keys.publish(Some(jwks(&[&signer])));
    eventually("the stranger is refused", async || {
        post(&server, &stranger, &[server.event()]).await.status() == StatusCode::UNAUTHORIZED
    })
    .await;
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_may_be_in_a_file_that_must_be_good_at_boot() {
    let signer = Signer::rsa("key");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("jwks.json");
    let tokens = by_jwks(Source::File(path.clone()));

    let bed = rivulet_sandbox::TestBed::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let refused = serve(
        taking(tokens.clone()),
        bed.cluster.clone(),
        bed.pool.clone(),
        listener,
        rivulet_telemetry::Metrics::detached(),
        CancellationToken::new(),
    )
    .await;
    assert!(matches!(refused, Err(Error::Tokens(_))), "{refused:?}");

    std::fs::write(&path, jwks(&[&signer]).to_string()).unwrap();
    let server = Server::with(taking(tokens)).await;
    let token = signer.token(&claims(server.parent));
    let answer = send(&server, &token, &[server.event()]).await;
    assert_eq!(outcomes(&answer), ["accepted"]);
    server.stop().await.unwrap();
}
