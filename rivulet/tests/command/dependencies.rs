//! What is built in, by cargo's own account: the part of deny.toml that needs no other tool.

use std::process::Command;

/// The crates that the command is built from, each `name vX.Y.Z`.
fn built_in() -> Vec<String> {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "--package", "rivulet"])
        .args(["--edges", "normal,build", "--prefix", "none", "--no-dedupe"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(tree.status.success(), "{tree:?}");
    let text = String::from_utf8(tree.stdout).unwrap();
    let crate_of = |line: &str| {
        let words: Vec<_> = line.split_whitespace().take(2).collect();
        words.join(" ")
    };
    let mut crates: Vec<String> = text.lines().map(crate_of).collect();
    crates.sort();
    crates.dedup();
    crates
}

#[test]
fn there_is_one_tls_and_one_cryptography() {
    let crates = built_in();
    let versions = |name: &str| {
        let named = |text: &&String| text.split(' ').next() == Some(name);
        crates.iter().filter(named).count()
    };
    for one in ["rustls", "aws-lc-rs", "aws-lc-sys", "rustls-webpki"] {
        assert_eq!(versions(one), 1, "{one} in {crates:?}");
    }
    // OpenSSL's bindings are librdkafka's.
    assert_eq!(versions("openssl-sys"), 1);
    for banned in ["ring", "native-tls", "openssl", "hyper-tls"] {
        assert_eq!(versions(banned), 0, "{banned}");
    }
}
