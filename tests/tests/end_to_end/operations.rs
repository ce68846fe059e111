//! Health and metrics on a listener apart, for who runs Rivulet.

use std::{collections::BTreeMap, net::TcpListener, time::Duration};

use reqwest::Client;
use rivulet_sandbox::TestBed;
use rivulet_tests::Rivulet;

const APART: &str = "RIVULET_OPERATIONS_LISTEN";

fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

/// Status and body.
async fn get(client: &Client, address: &str, path: &str) -> (u16, String) {
    let url = format!("http://{address}{path}");
    let answer = client.get(url).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_leave_the_port_that_everybody_reaches() {
    let _turn = crate::turn::of(module_path!());
    let rivulet = Rivulet::new(TestBed::new().await, &[]).await.unwrap();
    let client = Client::builder().no_proxy().build().unwrap();
    for (name, check) in [("ingest", "kafka"), ("api", "registry")] {
        let apart = free_address();
        let env = [(APART, apart.clone())];
        let role = rivulet.start_with(name, &env).await.unwrap();
        for path in ["/healthz", "/readyz"] {
            let (status, told) = get(&client, &role.address, path).await;
            assert_eq!(status, 200, "{name} {path}");
            assert_eq!(get(&client, &apart, path).await, (200, told));
        }
        let (status, told) = get(&client, &role.address, "/metrics").await;
        assert_eq!(status, 404, "{told}");
        assert!(told.contains("\"code\":\"not_found\""), "{told}");
        let (status, told) = get(&client, &apart, "/metrics").await;
        assert_eq!(status, 200);
        let ready = format!("rivulet_ready{{role=\"{name}\",check=\"{check}\"}} 1");
        assert!(told.contains(&ready), "{told}");
        // Nothing else is there.
        assert_eq!(get(&client, &apart, "/openapi.json").await.0, 404);
        assert_eq!(get(&client, &apart, "/v1/events").await.0, 404);
        role.stop().await.unwrap();
    }

    let apart = free_address();
    let env = [(APART, apart.clone())];
    let all = rivulet.start_with("all", &env).await.unwrap();
    // By its own port it is ingest that is ready: the read API may take a moment longer.
    let ready = async {
        loop {
            match get(&client, &apart, "/readyz").await {
                (200, told) => return told,
                _ => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    };
    let told = tokio::time::timeout(Duration::from_secs(60), ready);
    let told = told.await.unwrap();
    let checks: BTreeMap<String, String> = serde_json::from_str(&told).unwrap();
    let names: Vec<_> = checks.keys().map(String::as_str).collect();
    let wanted = [
        "api.accepting",
        "api.registry",
        "ingest.accepting",
        "ingest.kafka",
        "ingest.registry",
    ];
    assert_eq!(names, wanted, "{told}");
    assert_eq!(get(&client, &all.address, "/metrics").await.0, 404);
    all.stop().await.unwrap();

    // Two listeners at one address: one of them would never be reached.
    let address = free_address();
    let twice = [
        "ingest",
        "--listen",
        &address,
        "--operations-listen",
        &address,
    ];
    let output = rivulet.output(&twice).await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{said}");
    let refused = format!("{address} cannot be listened on");
    assert!(said.contains(&refused), "{said}");
}
