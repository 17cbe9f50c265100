//! Who may do what: every route, every role.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};

use super::support::Fixture;
use quarterdeck_server::http::openapi::specification;

/// What a route needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Needs {
    Nothing,
    SignedIn,
    Viewer,
    Operator,
    Admin,
    ServerAdmin,
    /// Signs in by something else than a bearer token.
    Other,
}

/// Method, path, and what is needed. A test below checks that none is missing.
const ROUTES: &[(&str, &str, Needs)] = {
    use Needs::{Admin, Nothing, Operator, Other, ServerAdmin, SignedIn, Viewer};
    &[
        ("GET", "/healthz", Nothing),
        ("GET", "/readyz", Nothing),
        ("GET", "/metrics", SignedIn),
        ("GET", "/api/v1/openapi.json", SignedIn),
        ("POST", "/api/v1/auth/login", Other),
        ("POST", "/api/v1/auth/refresh", Other),
        ("POST", "/api/v1/enroll", Other),
        ("GET", "/api/v1/projects/{project}/live", Other),
        ("PUT", "/api/v1/uploads/{id}", Other),
        ("GET", "/api/v1/uploads/{id}", Other),
        ("POST", "/api/v1/auth/logout", Other),
        ("GET", "/api/v1/auth/me", SignedIn),
        ("GET", "/api/v1/projects", SignedIn),
        // The project stands in the body: `service_tokens_need_the_role_in_their_project`.
        ("GET", "/api/v1/service-tokens", Admin),
        ("POST", "/api/v1/service-tokens", Other),
        ("DELETE", "/api/v1/service-tokens/{id}", Other),
        ("GET", "/api/v1/users", ServerAdmin),
        ("POST", "/api/v1/users", ServerAdmin),
        ("PATCH", "/api/v1/users/{username}", ServerAdmin),
        ("PUT", "/api/v1/users/{username}", ServerAdmin),
        ("DELETE", "/api/v1/users/{username}", ServerAdmin),
        ("POST", "/api/v1/projects", ServerAdmin),
        ("GET", "/api/v1/projects/{project}", Viewer),
        ("GET", "/api/v1/projects/{project}/settings", Viewer),
        ("PUT", "/api/v1/projects/{project}/settings", Admin),
        ("GET", "/api/v1/projects/{project}/members", Viewer),
        ("PUT", "/api/v1/projects/{project}/members/{username}", Admin),
        ("DELETE", "/api/v1/projects/{project}/members/{username}", Admin),
        ("GET", "/api/v1/projects/{project}/enrollment-tokens", Admin),
        ("POST", "/api/v1/projects/{project}/enrollment-tokens", Admin),
        ("DELETE", "/api/v1/projects/{project}/enrollment-tokens/{id}", Admin),
        ("GET", "/api/v1/projects/{project}/devices", Viewer),
        ("GET", "/api/v1/projects/{project}/devices/{device}", Viewer),
        ("PATCH", "/api/v1/projects/{project}/devices/{device}", Operator),
        ("DELETE", "/api/v1/projects/{project}/devices/{device}", Admin),
        ("POST", "/api/v1/projects/{project}/devices/{device}/retire", Admin),
        ("POST", "/api/v1/projects/{project}/devices/{device}/enroll-again", Admin),
        ("POST", "/api/v1/projects/{project}/devices/{device}/credentials", Admin),
        ("POST", "/api/v1/projects/{project}/devices/{device}/clear_service_failed", Operator),
        ("GET", "/api/v1/projects/{project}/devices/{device}/health", Viewer),
        ("GET", "/api/v1/projects/{project}/devices/{device}/commands", Viewer),
        ("GET", "/api/v1/projects/{project}/devices/{device}/timeline", Viewer),
        ("GET", "/api/v1/projects/{project}/devices/{device}/configuration", Viewer),
        ("PUT", "/api/v1/projects/{project}/devices/{device}/configuration", Operator),
        ("GET", "/api/v1/projects/{project}/commands", Viewer),
        ("POST", "/api/v1/projects/{project}/commands", Operator),
        ("POST", "/api/v1/projects/{project}/commands/cancel", Operator),
        ("GET", "/api/v1/projects/{project}/commands/{id}", Viewer),
        ("POST", "/api/v1/projects/{project}/commands/{id}/cancel", Operator),
        ("POST", "/api/v1/projects/{project}/commands/{id}/retry", Operator),
        ("GET", "/api/v1/projects/{project}/commands/{id}/timeline", Viewer),
        ("GET", "/api/v1/projects/{project}/commands/{id}/output", Viewer),
        ("GET", "/api/v1/projects/{project}/operations", Viewer),
        ("GET", "/api/v1/projects/{project}/alerts", Viewer),
        ("GET", "/api/v1/projects/{project}/alerts/{id}", Viewer),
        ("POST", "/api/v1/projects/{project}/alerts/{id}/acknowledge", Operator),
        ("POST", "/api/v1/projects/{project}/alerts/{id}/silence", Operator),
        ("GET", "/api/v1/projects/{project}/audit", Viewer),
        ("GET", "/api/v1/projects/{project}/overview", Viewer),
        ("POST", "/api/v1/projects/{project}/tickets", Viewer),
        ("GET", "/api/v1/projects/{project}/tunnels", Viewer),
        ("GET", "/api/v1/projects/{project}/tunnels/{id}", Viewer),
        ("POST", "/api/v1/projects/{project}/tunnels", Operator),
        ("POST", "/api/v1/projects/{project}/tunnels/{id}/close", Operator),
        // By its ticket.
        ("GET", "/api/v1/tunnels/{id}/stream", Other),
        ("GET", "/api/v1/projects/{project}/recordings", Viewer),
        ("GET", "/api/v1/projects/{project}/recordings/{id}", Viewer),
        ("DELETE", "/api/v1/projects/{project}/recordings/{id}", Admin),
        ("GET", "/api/v1/projects/{project}/recordings/{id}/events", Viewer),
        ("GET", "/api/v1/projects/{project}/recordings/{id}/cast", Viewer),
        ("GET", "/api/v1/projects/{project}/recordings/{id}/bytes", Viewer),
        ("GET", "/api/v1/projects/{project}/recordings/{id}/verify", Viewer),
    ]
};

/// Filled with ids that nothing has, so that nobody's call changes anything.
fn filled(path: &str, project: &str) -> String {
    path.replace("{project}", project)
        .replace("{id}", "018f0000-0000-7000-8000-000000000001")
        .replace("{device}", "no-such-device")
        .replace("{username}", "no-such-user")
}

async fn status(fixture: &Fixture, method: &str, path: &str, token: &str) -> (u16, Value) {
    let method: Method = method.parse().expect("a method");
    // No route takes this: who may call it gets 422, 404 or 200, and changes nothing.
    let body =
        (method != Method::GET && method != Method::DELETE).then(|| json!({ "nothing": true }));
    let answer = fixture.call(method, path, token, body.as_ref()).await;
    (answer.status.as_u16(), answer.body)
}

#[test]
fn the_table_has_every_route_and_no_other() {
    let document = serde_json::to_value(specification()).expect("JSON");
    let mut documented = BTreeSet::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for method in item.as_object().expect("methods").keys() {
            documented.insert((method.to_uppercase(), path.clone()));
        }
    }
    let tabled: BTreeSet<_> =
        ROUTES.iter().map(|(m, p, _)| ((*m).to_owned(), (*p).to_owned())).collect();
    assert_eq!(documented, tabled);
}

#[tokio::test]
async fn each_role_may_do_what_it_needs_to_and_no_more() {
    let fixture = Fixture::start().await;
    let server_admin = fixture.admin().await;
    fixture.project(&server_admin, "other").await;
    let viewer = fixture.member(&server_admin, "viv", "default", "viewer").await;
    let operator = fixture.member(&server_admin, "ops", "default", "operator").await;
    let admin = fixture.member(&server_admin, "ada", "default", "admin").await;
    let stranger = fixture.member(&server_admin, "sam", "other", "admin").await;
    let ranks = [
        (&viewer, Needs::Viewer),
        (&operator, Needs::Operator),
        (&admin, Needs::Admin),
        (&server_admin, Needs::ServerAdmin),
    ];

    for (method, path, needs) in ROUTES {
        if *needs == Needs::Other {
            continue;
        }
        let own = filled(path, "default");
        let (anonymous, _) = status(&fixture, method, &own, "").await;
        if *needs == Needs::Nothing {
            assert_eq!(anonymous, 200, "{method} {path}");
            continue;
        }
        assert_eq!(anonymous, 401, "{method} {path} without a token");
        if *needs == Needs::SignedIn {
            assert_eq!(status(&fixture, method, &own, &stranger).await.0, 200, "{method} {path}");
            continue;
        }
        for (token, rank) in ranks {
            let (got, body) = status(&fixture, method, &own, token).await;
            let may = rank as u8 >= *needs as u8;
            if may {
                assert!(![401, 403].contains(&got), "{method} {path} as {rank:?}: {got} {body}");
            } else {
                assert_eq!(
                    (got, body["code"].as_str()),
                    (403, Some("forbidden")),
                    "{method} {path} as {rank:?}"
                );
            }
        }
        // A project of others looks like one that does not exist.
        if path.contains("{project}") {
            let (foreign, mut foreign_body) = status(&fixture, method, &own, &stranger).await;
            let (unknown, mut unknown_body) =
                status(&fixture, method, &filled(path, "nope"), &stranger).await;
            assert_eq!((foreign, unknown), (404, 404), "{method} {path}");
            foreign_body["request_id"] = json!(0);
            unknown_body["request_id"] = json!(0);
            assert_eq!(foreign_body, unknown_body, "{method} {path}");
        }
    }
    // Each refusal for want of a role is on record, by what it was about.
    let about = "/projects/default/audit?outcome=denied&object=device:no-such-device";
    let found = fixture.get(about, &viewer).await.expect(200);
    assert!(found["total"].as_u64().unwrap() > 3, "{found}");
    let denied =
        fixture.get("/projects/default/audit?outcome=denied&limit=1000", &viewer).await.expect(200);
    for entry in denied["items"].as_array().unwrap() {
        assert_ne!(entry["object"], "", "{entry}");
    }
    let actions: BTreeSet<&str> = denied["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["action"].as_str().unwrap())
        .collect();
    for action in [
        "command.create",
        "settings.change",
        "device.retire",
        "alert.silence",
        "user.create",
        "project.create",
    ] {
        assert!(actions.contains(action), "{action} in {actions:?}");
    }
}

#[tokio::test]
async fn service_tokens_need_the_role_in_their_project() {
    let fixture = Fixture::start().await;
    let server_admin = fixture.admin().await;
    fixture.project(&server_admin, "other").await;
    let operator = fixture.member(&server_admin, "ops", "default", "operator").await;
    let admin = fixture.member(&server_admin, "ada", "default", "admin").await;
    let create = |project: &str| json!({ "name": "x", "project": project, "role": "viewer" });
    fixture.post("/service-tokens", &operator, &create("default")).await.problem(403, "forbidden");
    fixture.post("/service-tokens", &admin, &create("other")).await.problem(404, "not_found");
    fixture.post("/service-tokens", &admin, &create("nope")).await.problem(404, "not_found");
    let own = fixture.post("/service-tokens", &admin, &create("default")).await.expect(201);
    let foreign =
        fixture.post("/service-tokens", &server_admin, &create("other")).await.expect(201);
    assert_eq!(fixture.get("/service-tokens", &admin).await.expect(200)["total"], 1);
    assert_eq!(fixture.get("/service-tokens", &server_admin).await.expect(200)["total"], 2);
    // Who administers nothing is told so, whatever the body says.
    let stranger = fixture.member(&server_admin, "sam", "other", "viewer").await;
    for token in [&operator, &stranger] {
        fixture.get("/service-tokens", token).await.problem(403, "forbidden");
        let nonsense = json!({ "nothing": true });
        fixture.post("/service-tokens", token, &nonsense).await.problem(403, "forbidden");
    }
    let of_other = "/service-tokens?project=other";
    fixture.get(of_other, &admin).await.problem(404, "not_found");
    let path = |token: &Value| format!("/service-tokens/{}", token["id"].as_str().unwrap());
    fixture.call(Method::DELETE, &path(&foreign), &admin, None).await.problem(404, "not_found");
    fixture.call(Method::DELETE, &path(&own), &operator, None).await.problem(403, "forbidden");
    fixture.call(Method::DELETE, &path(&own), &admin, None).await.expect(204);
}

#[tokio::test]
async fn ids_of_another_project_are_not_found() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    fixture.project(&admin, "other").await;
    fixture.device(&admin, "other", "pi-1").await;
    let command = fixture.command(&admin, "other", "pi-1", "ping", json!({})).await;
    let token =
        fixture.post("/projects/other/enrollment-tokens", &admin, &json!({})).await.expect(201);
    let token = token["id"].as_str().unwrap();
    let commands = "/projects/default/commands";
    for (method, path) in [
        ("GET", "/projects/default/devices/pi-1".to_owned()),
        ("PATCH", "/projects/default/devices/pi-1".to_owned()),
        ("DELETE", "/projects/default/devices/pi-1".to_owned()),
        ("GET", "/projects/default/devices/pi-1/health".to_owned()),
        ("GET", "/projects/default/devices/pi-1/commands".to_owned()),
        ("GET", "/projects/default/devices/pi-1/timeline".to_owned()),
        ("POST", "/projects/default/devices/pi-1/enroll-again".to_owned()),
        ("GET", format!("{commands}/{command}")),
        ("GET", format!("{commands}/{command}/timeline")),
        ("GET", format!("{commands}/{command}/output")),
        ("POST", format!("{commands}/{command}/cancel")),
        ("POST", format!("{commands}/{command}/retry")),
        ("DELETE", format!("/projects/default/enrollment-tokens/{token}")),
    ] {
        let method: Method = method.parse().unwrap();
        let body = [Method::POST, Method::PATCH].contains(&method).then(|| json!({}));
        fixture.call(method, &path, &admin, body.as_ref()).await.problem(404, "not_found");
    }
    let cancel = json!({ "ids": [command] });
    let answer = fixture.post("/projects/default/commands/cancel", &admin, &cancel).await;
    assert_ne!(answer.status, 200, "{}", answer.text);
    assert_eq!(
        fixture.get(&format!("/projects/other/commands/{command}"), &admin).await.expect(200)["status"],
        "queued"
    );
    let targets = json!({ "targets": { "devices": ["pi-1"] }, "type": "ping" });
    let problem = fixture.post(commands, &admin, &targets).await.expect(422);
    assert!(problem["field"].as_str().unwrap().starts_with("targets.devices"), "{problem}");
}
