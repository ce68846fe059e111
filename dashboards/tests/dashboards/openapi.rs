//! The OpenAPI document against the router, and the page to try it.

use crate::common::Api;

#[test]
fn every_route_is_described() {
    let document = serde_json::to_value(rivulet_dashboards::openapi()).unwrap();
    let described: Vec<_> = document["paths"].as_object().unwrap().keys().collect();
    let sources = [
        include_str!("../../src/api.rs"),
        include_str!("../../../telemetry/src/health.rs"),
    ];
    let routes = sources
        .iter()
        .flat_map(|source| source.split(".route(\"").skip(1));
    let routes = routes.filter_map(|rest| rest.split('"').next());
    // Pages for people are not part of the API.
    let is_page = |route: &&str| *route == "/" || route.starts_with("/page/");
    let mut routes: Vec<_> = routes.filter(|route| !is_page(route)).collect();
    routes.sort_unstable();
    assert_eq!(described, routes);
    assert!(routes.len() > 9, "{routes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_to_try_it_is_whole_and_takes_nothing_from_elsewhere() {
    let api = Api::start().await;
    let get = async |path: &str| {
        let answer = api.client.get(format!("{}{path}", api.url)).send();
        answer.await.unwrap().error_for_status().unwrap()
    };
    // By way of a redirect.
    let page = get("/docs").await;
    let policy = page.headers()["content-security-policy"].to_str().unwrap();
    for part in [
        "default-src 'none'",
        "script-src 'self'",
        "frame-ancestors 'none'",
    ] {
        assert!(policy.contains(part), "{policy}");
    }
    let html = page.text().await.unwrap();
    assert!(!html.contains("://"), "{html}");
    let parts = html
        .split('"')
        .filter(|part| part.ends_with(".js") || part.ends_with(".css"));
    let parts: Vec<_> = parts.map(|part| part.trim_start_matches("./")).collect();
    assert!(
        parts
            .iter()
            .any(|part| part.ends_with("/swagger-initializer.js")),
        "{html}"
    );
    for part in parts {
        let file = get(&format!("/docs/{part}")).await;
        let caching = file.headers()["cache-control"].to_str().unwrap();
        assert!(caching.ends_with("immutable"), "{part}: {caching}");
        assert!(!file.text().await.unwrap().is_empty(), "{part}");
    }
    let settings = get("/docs/swagger-initializer.js")
        .await
        .text()
        .await
        .unwrap();
    assert!(
        settings.contains(r#""url": "../openapi.json""#),
        "{settings}"
    );
    assert!(settings.contains(r#""validatorUrl": "none""#), "{settings}");
    let document: serde_json::Value = get("/openapi.json").await.json().await.unwrap();
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(
        api.refusal("", "/docs/nothing.js").await,
        (404, "not_found".to_owned())
    );
    api.stop().await;
}
