//! How a device becomes one of the project's.

use anyhow::{Context, Result};
use quarterdeck_protocol::api::{CreateEnrollmentToken, EnrollmentToken};
use quarterdeck_tests::{
    Fleet,
    agent::{Device, DeviceOptions},
    fleet::enroll,
};
use reqwest::Method;
use serde_json::{Value, json};

#[tokio::test]
async fn a_device_gets_the_tags_of_its_token_and_of_its_owner() -> Result<()> {
    let fleet = Fleet::start().await?;
    let create = CreateEnrollmentToken {
        tags: [("site".to_owned(), "berlin".to_owned())].into(),
        ..CreateEnrollmentToken::default()
    };
    let token = fleet.api().enrollment_token(&create).await?;
    let options = DeviceOptions {
        kind: Some("KIOSK".to_owned()),
        tags: [("role".to_owned(), "display".to_owned())].into(),
        ..DeviceOptions::default()
    };
    let _device = Device::start("pi-1", fleet.folder(), fleet.api().base(), &token, options)?;
    fleet.online("pi-1").await?;
    let device = fleet.api().device("pi-1").await?;
    assert_eq!(device.kind, "KIOSK");
    assert_eq!(json!(device.tags), json!({"site": "berlin", "role": "display"}));
    let listed: Vec<Value> =
        fleet.api().list("@/devices?tag.site=berlin").await.unwrap_or_default();
    assert!(listed.len() <= 1);
    Ok(())
}

#[tokio::test]
async fn a_token_is_good_for_as_many_devices_as_it_says_and_no_more() -> Result<()> {
    let fleet = Fleet::start().await?;
    let token = fleet.enrollment_token(2).await?;
    enroll(fleet.api(), &token, "pi-1").await?;
    enroll(fleet.api(), &token, "pi-2").await?;
    let body = json!({"token": token, "device_id": "pi-3"});
    let answer = fleet.api().without_token().request(Method::POST, "/enroll", &body).await?;
    assert!([401, 403].contains(&answer.status), "{} {}", answer.status, answer.text());
    answer.problem()?;
    assert_eq!(fleet.api().count("@/devices").await?, 2);
    Ok(())
}

#[tokio::test]
async fn a_revoked_or_made_up_token_enrols_nobody() -> Result<()> {
    let fleet = Fleet::start().await?;
    let made: EnrollmentToken = fleet.api().post("@/enrollment-tokens", &json!({})).await?;
    let path = format!("@/enrollment-tokens/{}", made.id);
    fleet.api().request(Method::DELETE, &path, &Value::Null).await?.read::<Value>()?;
    for token in [made.token.as_deref().context("no token")?, "made-up", ""] {
        let body = json!({"token": token, "device_id": "pi-1"});
        let answer = fleet.api().without_token().request(Method::POST, "/enroll", &body).await?;
        assert!([401, 403, 422].contains(&answer.status), "{} {}", answer.status, answer.text());
        answer.problem()?;
    }
    assert_eq!(fleet.api().count("@/devices").await?, 0);
    Ok(())
}

#[tokio::test]
async fn a_device_that_exists_cannot_be_enrolled_over() -> Result<()> {
    let fleet = Fleet::start().await?;
    fleet.enroll("pi-1").await?;
    let token = fleet.enrollment_token(5).await?;
    let body = json!({"token": token, "device_id": "pi-1"});
    let answer = fleet.api().without_token().request(Method::POST, "/enroll", &body).await?;
    let problem = answer.refused(409)?;
    assert!(!problem.detail.is_empty());
    Ok(())
}

#[tokio::test]
async fn an_enrolment_cut_by_a_crash_of_the_server_comes_out_whole() -> Result<()> {
    let mut fleet = Fleet::start().await?;
    for (round, cut_ms) in [0_u64, 5, 15, 30, 60].into_iter().enumerate() {
        let id = format!("pi-{round}");
        let token = fleet.enrollment_token(1).await?;
        let options = DeviceOptions::default();
        let _device = Device::start(&id, fleet.folder(), fleet.api().base(), &token, options)?;
        tokio::time::sleep(std::time::Duration::from_millis(cut_ms)).await;
        fleet.restart_server().await?;
        fleet.online(&id).await?;
    }
    Ok(())
}
