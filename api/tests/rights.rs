//! Each role at each endpoint: who is let in and who isn't, from the table that the router is built of.

mod support;

use gristmill_api::{Need, Route, routes};
use gristmill_protocol::api::Role;
use hyper::StatusCode;
use serde_json::{Value, json};

use crate::support::Server;

/// A path with something in its places.
fn filled(route: &Route) -> String {
    // In the namespace that all callers of the test have.
    let query = if route.query.iter().any(|(name, _)| *name == "namespace") { "?namespace=team-a" } else { "" };
    let path = route
        .path
        .replace("{run}", "run-0192f0c1a2b37000a1b2c3d4e5f60718")
        .replace("{digest}", &format!("sha256:{}", "0".repeat(64)))
        .replace("{task}", "0")
        .replace("{version}", "1")
        .replace("{name}", "nobody")
        .replace("{id}", "0000000000000000");
    path + query
}

fn is_denied(status: StatusCode) -> bool {
    matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
}

#[tokio::test]
async fn each_role_may_do_what_the_table_says_and_nothing_else() {
    let server = Server::for_others().await;
    let mut callers = Vec::new();
    for role in Role::ALL {
        for namespaces in [["*"], ["team-a"]] {
            callers.push((role, namespaces[0] == "*", server.token(role.as_str(), role, &namespaces).await));
        }
    }
    let mut asked = 0;
    for route in routes() {
        let path = filled(&route);
        // A body that no endpoint takes: whoever is let in is told so, and nothing is changed by it.
        let body = (route.method != "GET").then(|| json!({ "no such field": 1 }));
        for (role, everywhere, token) in &callers {
            let answer = server.ask(route.method, &path, Some(token), body.clone(), &[]).await;
            let may = match route.need {
                Need::Nothing => true,
                Need::Role(least) => *role >= least,
                Need::Cluster(least) => *role >= least && *everywhere,
            };
            let (method, status) = (route.method, answer.status);
            assert_eq!(!is_denied(status), may, "{method} {path} as {role:?}, everywhere: {everywhere}: {status}");
            assert_ne!(status, StatusCode::INTERNAL_SERVER_ERROR, "{method} {path}: {:?}", answer.body);
            if !may {
                assert_eq!((status, answer.code().as_str()), (StatusCode::FORBIDDEN, "denied"), "{method} {path}");
            }
            asked += 1;
        }
        for token in [None, Some("gmt_0000000000000000_nobody"), Some("nonsense")] {
            let answer = server.ask(route.method, &path, token, body.clone(), &[]).await;
            let expected = if route.need == Need::Nothing { "let in" } else { "asked for a token" };
            let is_let_in = answer.status != StatusCode::UNAUTHORIZED;
            assert_eq!(is_let_in, route.need == Need::Nothing, "{} {path} must be {expected}", route.method);
        }
    }
    assert_eq!(asked, routes().len() * 8);
    // Every change needs more than a viewer, but for what changes nothing.
    for route in routes().iter().filter(|route| route.method != "GET" && route.path != "/v1/pipelines/check") {
        assert_ne!(route.need, Need::Role(Role::Viewer), "{} {}", route.method, route.path);
    }
}

#[tokio::test]
async fn what_is_done_and_denied_is_written_down_without_the_token() {
    let server = Server::for_others().await;
    let (viewer, admin) =
        (server.token("ann", Role::Viewer, &["*"]).await, server.token("root", Role::Admin, &["*"]).await);
    let submit = json!({ "pipeline": "name: nightly\nsteps:\n  a: { noop: {} }\n" });
    for _ in 0..3 {
        let answer = server.ask("POST", "/v1/runs", Some(&viewer), Some(submit.clone()), &[]).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN);
    }
    assert_eq!(server.ask("GET", "/v1/runs", None, None, &[]).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(server.ask("POST", "/v1/runs", Some(&admin), Some(submit), &[]).await.status, StatusCode::CREATED);
    let audit = server.ask("GET", "/v1/audit", Some(&admin), None, &[]).await;
    let items = audit.json()["items"].as_array().expect("a list").clone();
    let told: Vec<(&str, &str, u64)> = items
        .iter()
        .map(|item| (item["by"].as_str().unwrap(), item["what"].as_str().unwrap(), item["status"].as_u64().unwrap()))
        .collect();
    // Repeats of a denial are counted, and written when their minute is over.
    assert_eq!(told, [("root", "POST /v1/runs", 201), ("-", "GET /v1/runs", 401), ("ann", "POST /v1/runs", 403)]);
    let text = String::from_utf8_lossy(&audit.body).into_owned();
    assert!(!text.contains("gmt_"), "{text}");
}

#[tokio::test]
async fn a_token_ends_when_it_is_revoked() {
    let server = Server::for_others().await;
    let admin = server.token("root", Role::Admin, &["*"]).await;
    let made = server
        .ask(
            "POST",
            "/v1/tokens",
            Some(&admin),
            Some(json!({ "name": "ci", "role": "viewer", "namespaces": ["*"] })),
            &[],
        )
        .await;
    assert_eq!(made.status, StatusCode::CREATED);
    let (id, token) = (made.json()["id"].clone(), made.json()["token"].as_str().expect("a token").to_owned());
    let id = id.as_str().expect("an id");
    assert_eq!(server.ask("GET", "/v1/whoami", Some(&token), None, &[]).await.json()["name"], "ci");
    let listed = server.ask("GET", "/v1/tokens", Some(&admin), None, &[]).await;
    assert!(!String::from_utf8_lossy(&listed.body).contains(&token[21..]), "a list holds no secret");
    let revoked = server.ask("DELETE", &format!("/v1/tokens/{id}"), Some(&admin), None, &[]).await;
    assert_eq!(revoked.status, StatusCode::NO_CONTENT);
    assert_eq!(server.ask("GET", "/v1/whoami", Some(&token), None, &[]).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn on_this_machine_nobody_needs_a_token_until_one_is_made() {
    let server = Server::start().await;
    assert_eq!(server.get("/v1/whoami").await.json()["anonymous"], true);
    // The first must be able to make others.
    let small = json!({ "name": "ci", "role": "viewer", "namespaces": ["*"] });
    assert_eq!(server.post("/v1/tokens", small).await.status, StatusCode::CONFLICT);
    let first = server.post("/v1/tokens", json!({ "name": "root", "role": "admin", "namespaces": ["*"] })).await;
    assert_eq!(first.status, StatusCode::CREATED);
    assert_eq!(server.get("/v1/whoami").await.status, StatusCode::UNAUTHORIZED);
    let token = first.json()["token"].as_str().expect("a token").to_owned();
    // A browser signs in, and its cookie does the rest.
    let signed = server.post("/v1/session", json!({ "token": token })).await;
    assert_eq!(signed.status, StatusCode::NO_CONTENT);
    let cookie = signed.headers["set-cookie"].to_str().expect("text").to_owned();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
    let pair = cookie.split(';').next().expect("a pair");
    let who = server.ask("GET", "/v1/whoami", None, None, &[("cookie", pair)]).await;
    assert_eq!(who.json()["name"], "root");
    assert_eq!(server.post("/v1/session", json!({ "token": "gmt_x" })).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn pages_of_other_sites_are_refused() {
    let server = Server::start().await;
    let host = server.address.to_string();
    for headers in [
        [("origin", "https://evil.example"), ("host", host.as_str())],
        [("origin", "http://evil.example"), ("host", "evil.example")],
    ] {
        let answer = server.ask("GET", "/v1/whoami", None, None, &headers).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{headers:?}");
    }
    let own = format!("http://{host}");
    assert_eq!(server.ask("GET", "/v1/whoami", None, None, &[("origin", &own)]).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_namespace_is_not_there_for_those_who_are_not_of_it() {
    let server = Server::for_others().await;
    let ours = server.token("ours", Role::Submitter, &["team-a"]).await;
    let theirs = server.token("theirs", Role::Submitter, &["team-b", "default"]).await;
    let submit = json!({ "pipeline": "name: nightly\nsteps:\n  a: { noop: {} }\n", "namespace": "team-a" });
    let denied = server.ask("POST", "/v1/runs", Some(&theirs), Some(submit.clone()), &[]).await;
    assert_eq!(denied.status, StatusCode::FORBIDDEN);
    let made = server.ask("POST", "/v1/runs", Some(&ours), Some(submit), &[]).await.json();
    let run = made["run"].as_str().expect("a run").to_owned();
    let names = |answer: &support::Answer| answer.json()["items"].as_array().map(Vec::len);
    assert_eq!(names(&server.ask("GET", "/v1/runs", Some(&ours), None, &[]).await), Some(1));
    assert_eq!(names(&server.ask("GET", "/v1/runs", Some(&theirs), None, &[]).await), Some(0));
    for path in ["", "/explain", "/timeline", "/tasks", "/tasks/0", "/events"] {
        let path = format!("/v1/runs/{run}{path}");
        let status = async |token: &str| server.ask("GET", &path, Some(token), None, &[]).await.status;
        assert_eq!((status(&ours).await, status(&theirs).await), (StatusCode::OK, StatusCode::NOT_FOUND), "{path}");
    }
    let cancel = format!("/v1/runs/{run}/cancel");
    assert_eq!(server.ask("POST", &cancel, Some(&theirs), None, &[]).await.status, StatusCode::NOT_FOUND);
    assert_eq!(server.ask("POST", &cancel, Some(&ours), None, &[]).await.status, StatusCode::ACCEPTED);
    let asked = server.ask("GET", "/v1/runs?namespace=team-a", Some(&theirs), None, &[]).await;
    assert_eq!(asked.status, StatusCode::FORBIDDEN);
    let keep = json!({ "pipeline": "name: nightly\nsteps:\n  a: { noop: {} }\n", "namespace": "team-a" });
    assert_eq!(server.ask("POST", "/v1/pipelines", Some(&ours), Some(keep), &[]).await.status, StatusCode::CREATED);
    let listed = server.ask("GET", "/v1/pipelines", Some(&theirs), None, &[]).await.json();
    assert_eq!(listed["items"], Value::Array(Vec::new()));
    let path = "/v1/pipelines/nightly?namespace=team-a";
    assert_eq!(server.ask("GET", path, Some(&theirs), None, &[]).await.status, StatusCode::NOT_FOUND);
}
