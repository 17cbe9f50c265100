//! The document says what is served.

use reqwest::Method;

use super::support::Fixture;

#[tokio::test]
async fn every_documented_route_is_served_and_the_document_is_whole() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    let document = fixture.get("/api/v1/openapi.json", &admin).await.expect(200);
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let method: Method = method.to_uppercase().parse().unwrap();
            let url = path.replace(['{', '}'], "");
            let answer = fixture.call(method.clone(), &url, "", None).await;
            let is_unserved = answer.status == 405 || answer.body["detail"] == "no such path";
            assert!(!is_unserved, "{method} {path}: {}", answer.text);
            assert!(operation["responses"]["default"].is_object(), "{method} {path}");
        }
    }
    // Each schema that is spoken of is there.
    let text = document.to_string();
    for reference in text.split("\"$ref\":\"").skip(1) {
        let name =
            reference.split('"').next().unwrap().strip_prefix("#/components/schemas/").unwrap();
        assert!(document["components"]["schemas"][name].is_object(), "{name}");
    }
}
