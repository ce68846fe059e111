//! Files that are part of the program: whoever may ask for them as often as they like makes no work of it.

use std::io::Read as _;

use flate2::read::GzDecoder;
use reqwest::{Method, Response};
use rivulet_dashboards::Config;

use crate::common::Api;

const FOREVER: &str = "public, max-age=31536000, immutable";

async fn ask(api: &Api, method: Method, path: &str, headers: &[(&str, &str)]) -> Response {
    let request = api.client.request(method, format!("{}{path}", api.url));
    let request = headers.iter().fold(request, |request, (name, value)| {
        request.header(*name, *value)
    });
    request.send().await.unwrap()
}

fn header(answer: &Response, name: &str) -> String {
    let value = answer.headers().get(name);
    value.map_or_else(String::new, |value| value.to_str().unwrap().to_owned())
}

/// What a page names, and what its scripts and styles do.
fn named(page: &str, folder: &str) -> Vec<String> {
    let parts = page.split('"').filter(|part| part.contains(folder));
    parts
        .map(|part| part.trim_start_matches("./").to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_kept_for_good_and_compressed_before_they_are_asked_for() {
    let api = Api::start().await;
    let get =
        async |path: &str, headers: &[(&str, &str)]| ask(&api, Method::GET, path, headers).await;
    let page = get("/", &[]).await.text().await.unwrap();
    let mut paths = named(&page, "/page/");
    assert!(paths.len() > 15, "{page}");
    let release = paths[0].split('/').nth(2).unwrap().to_owned();
    assert_eq!(release.len(), 16, "{release}");
    for path in &paths {
        assert!(path.starts_with(&format!("/page/{release}/")), "{path}");
        assert_eq!(
            header(&get(path, &[]).await, "cache-control"),
            FOREVER,
            "{path}"
        );
    }
    let docs = get("/docs/", &[]).await.text().await.unwrap();
    let of_docs = named(&docs, "./");
    assert_eq!(of_docs.len(), 7, "{docs}");
    paths.extend(of_docs.into_iter().map(|file| format!("/docs/{file}")));
    // What is asked for again each time, so that a new release is one at once.
    for path in [
        "/",
        "/docs/",
        "/openapi.json",
        "/page/app.js",
        "/docs/swagger-ui-bundle.js",
        // Of another node's release, while there are two.
        "/page/0123456789abcdef/app.js",
    ] {
        assert_eq!(
            header(&get(path, &[]).await, "cache-control"),
            "no-cache",
            "{path}"
        );
        paths.push(path.to_owned());
    }
    for path in &paths {
        let whole = get(path, &[]).await;
        assert_eq!(whole.status(), 200, "{path}");
        assert_eq!(header(&whole, "content-encoding"), "", "{path}");
        let (kind, tag) = (header(&whole, "content-type"), header(&whole, "etag"));
        assert!(!tag.is_empty(), "{path}");
        let length = header(&whole, "content-length");
        let whole = whole.bytes().await.unwrap();
        assert_eq!(length, whole.len().to_string(), "{path}");

        let takes = ("accept-encoding", "gzip, br");
        let packed = get(path, &[takes]).await;
        assert_eq!(header(&packed, "content-type"), kind, "{path}");
        assert_eq!(header(&packed, "vary"), "accept-encoding", "{path}");
        // Made once, so its length is known; compressed as it goes out it is not.
        let length = header(&packed, "content-length");
        let is_packed = header(&packed, "content-encoding") == "gzip";
        let bytes = packed.bytes().await.unwrap();
        assert_eq!(length, bytes.len().to_string(), "{path}");
        match is_packed {
            true => {
                let mut text = Vec::new();
                GzDecoder::new(&bytes[..]).read_to_end(&mut text).unwrap();
                assert!(text == whole, "{path}: other bytes");
                assert!(bytes.len() < whole.len(), "{path}");
            }
            false => assert!(bytes == whole && kind == "image/png", "{path}"),
        }

        let head = ask(&api, Method::HEAD, path, &[takes]).await;
        assert_eq!(head.status(), 200, "{path}");
        assert_eq!(header(&head, "content-length"), length, "{path}");
        assert_eq!(header(&head, "etag"), tag, "{path}");
        for headers in [
            &[("if-none-match", tag.as_str())][..],
            &[("if-none-match", tag.as_str()), takes],
        ] {
            let again = get(path, headers).await;
            assert_eq!(again.status(), 304, "{path}");
            assert_eq!(header(&again, "etag"), tag, "{path}");
            assert_eq!(header(&again, "content-encoding"), "", "{path}");
            assert!(again.bytes().await.unwrap().is_empty());
        }
    }
    // What a script or style names beside itself is of its release.
    for path in paths.iter().filter(|path| path.contains(&release)) {
        let text = get(path, &[]).await.text().await.unwrap();
        assert!(
            !text.contains("\"/page/") && !text.contains("'/page/"),
            "{path}"
        );
    }
    // Numbers are compressed as they are asked for, once.
    let family = api.family(&[crate::common::today()]).await;
    let daily = format!("/v1/children/{}/daily", family.child);
    let request = api
        .client
        .get(format!("{}{daily}", api.url))
        .bearer_auth(&family.token);
    let answer = request
        .header("accept-encoding", "gzip")
        .send()
        .await
        .unwrap();
    assert_eq!(header(&answer, "content-encoding"), "gzip");
    let mut text = String::new();
    GzDecoder::new(&answer.bytes().await.unwrap()[..])
        .read_to_string(&mut text)
        .unwrap();
    assert!(text.starts_with("{\"child_id\""), "{text}");
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_to_try_the_api_can_be_switched_off() {
    let api = Api::with(Config {
        docs: false,
        ..Config::default()
    })
    .await;
    for path in [
        "/docs",
        "/docs/",
        "/docs/index.html",
        "/docs/swagger-ui-bundle.js",
    ] {
        let refused = api.refusal("", path).await;
        assert_eq!(refused, (404, "not_found".to_owned()), "{path}");
    }
    // Clients are made from it, and the parents' page is another matter.
    for path in ["/openapi.json", "/"] {
        assert_eq!(
            ask(&api, Method::GET, path, &[]).await.status(),
            200,
            "{path}"
        );
    }
    api.stop().await;
}
