//! How a device becomes one of a project, and proves later that it is.
//!
//! ```text
//!  device                                   server
//!  nonce (kept) ── token, id, nonce ──────▶ token good? device new? ── one commit: token used,
//!               ◀── secret ──────────────── device stored with hash(secret)
//!  crash before it stored the secret: asks again with the same nonce, gets the same secret
//! ```
//!
//! The secret is derived from the token, which the server does not store, the
//! nonce, of which it stores a hash, and a salt. So the answer to a repeated
//! request can be made again, though neither the server's database nor another
//! holder of the token could make it.
//!
//! Secrets are 256 random bits, so a fast hash protects them: nobody can try
//! them all, and a slow hash at each connection would only let strangers tire
//! the server. Passwords, which people choose, have a slow one (`auth/`).

use aws_lc_rs::{constant_time, digest, hmac};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use quarterdeck_protocol::{
    api::{EnrollRequest, EnrollResponse},
    ids::{DeviceId, ProjectId},
    topics,
};
use serde_json::json;

use super::{Actor, After, Engine, Refused, devices as actions};
use crate::{
    hex,
    mqtt::link::{Denied, DeviceIdentity},
    store::{
        Tx,
        devices::{self as store, Enrolled},
        enrollment_tokens as tokens, projects,
    },
};

/// A nonce that others cannot guess, in characters; with a shorter one a request cannot be repeated.
const NONCE_MIN_CHARS: usize = 16;
const NONCE_MAX_BYTES: usize = 256;
/// The longest secret that is looked at.
const SECRET_MAX_BYTES: usize = 512;

/// Hashes an enrolment token as it is stored.
pub fn token_hash(token: &str) -> String {
    hex::encode(digest::digest(&digest::SHA256, token.as_bytes()).as_ref())
}

/// Makes a device one of a project.
pub(super) async fn enroll(
    engine: &Engine,
    tx: &mut Tx,
    from: &str,
    request: &EnrollRequest,
) -> Result<(EnrollResponse, After), Refused> {
    let invalid_token = || Refused::Unauthorized {
        code: "invalid_token",
        detail: "the enrolment token is unknown, used up, expired or revoked".to_owned(),
    };
    let now = engine.clock().wall();
    let token =
        tokens::by_hash(tx, &token_hash(&request.token)).await?.ok_or_else(invalid_token)?;
    let project = ProjectId::new(&token.project_id).map_err(|_| invalid_token())?;
    let device = &request.device_id;
    let nonce = usable_nonce(request)?;
    let known = store::credential(tx, project.as_str(), device.as_str()).await?;

    if let (Some(known), Some(nonce)) = (&known, nonce)
        && known.retired_at.is_none()
        && token.revoked_at.is_none()
        && let Some(salt) = known.enroll_nonce.as_deref().and_then(|stored| salt_of(stored, nonce))
    {
        let secret = derive(&request.token, salt, &project, device, nonce);
        if same_hash(&secret_hash(secret.as_bytes()), &known.secret_hash) {
            return Ok((answer(engine, &project, device, secret), After::default()));
        }
    }
    if !token.is_good(now) {
        return Err(invalid_token());
    }
    if known.as_ref().is_some_and(|known| !known.enroll_again) {
        return Err(Refused::conflict(
            "device_exists",
            format!("device {device} exists already; an admin must allow it to enrol again"),
        ));
    }
    if let Some(kind) = &request.kind {
        actions::check_type("type", kind)?;
    }
    let mut tags = request.tags.clone();
    // What the token says stands over what the device claims.
    tags.extend(token.tags()?);
    actions::check_tags("tags", &tags)?;
    if !tokens::take_use(tx, &token.id, now).await? {
        return Err(invalid_token());
    }
    let salt = hex::encode(&engine.clock().random::<16>());
    let (secret, stored_nonce) = match nonce {
        Some(nonce) => (
            derive(&request.token, &salt, &project, device, nonce),
            Some(format!("{}:{salt}", nonce_hash(nonce))),
        ),
        None => (random_secret(engine), None),
    };
    let enrolled = Enrolled {
        project: &project,
        device,
        kind: request.kind.as_deref(),
        secret_hash: &secret_hash(secret.as_bytes()),
        nonce: stored_nonce.as_deref(),
        at: now,
    };
    store::enroll(tx, &enrolled).await?;
    if known.is_none() || !tags.is_empty() {
        store::set_tags(tx, &project, device, &tags).await?;
    }
    let actor = Actor { name: format!("device:{device}"), from: from.to_owned() };
    let mut after = After::default();
    after.disconnect.push((project.clone(), device.clone()));
    let detail = json!({ "enrollment_token": token.id, "again": known.is_some() });
    let (_, after) =
        actions::done(engine, tx, &actor, &project, device, "device.enroll", detail, after).await?;
    Ok((answer(engine, &project, device, secret), after))
}

/// Makes or renews the secret of a device that cannot run the agent.
pub(super) async fn issue(
    engine: &Engine,
    tx: &mut Tx,
    actor: &Actor,
    project: &ProjectId,
    device: &DeviceId,
) -> Result<(EnrollResponse, After), Refused> {
    if projects::settings(tx, project).await?.is_none() {
        return Err(Refused::NotFound { what: "project" });
    }
    let known = store::credential(tx, project.as_str(), device.as_str()).await?;
    if known.as_ref().is_some_and(|known| known.retired_at.is_some() && !known.enroll_again) {
        return Err(Refused::conflict(
            "device_retired",
            "the device is retired; allow it to enrol again first",
        ));
    }
    let secret = random_secret(engine);
    let enrolled = Enrolled {
        project,
        device,
        kind: None,
        secret_hash: &secret_hash(secret.as_bytes()),
        nonce: None,
        at: engine.clock().wall(),
    };
    store::enroll(tx, &enrolled).await?;
    let mut after = After::default();
    after.disconnect.push((project.clone(), device.clone()));
    let detail = json!({ "renewed": known.is_some() });
    let (_, after) = actions::done(
        engine,
        tx,
        actor,
        project,
        device,
        "device.issue_credentials",
        detail,
        after,
    )
    .await?;
    Ok((answer(engine, project, device, secret), after))
}

/// Checks `{project}/{device}` and its secret, in time that tells nothing of it.
pub(super) async fn authenticate(
    engine: &Engine,
    user: &str,
    secret: &[u8],
) -> Result<DeviceIdentity, Denied> {
    let (project_id, device_id) = topics::parse_username(user).ok_or(Denied::BadCredentials)?;
    if secret.len() > SECRET_MAX_BYTES {
        return Err(Denied::BadCredentials);
    }
    let found = async {
        let mut tx = engine.0.store.read().await?;
        store::credential(&mut tx, project_id.as_str(), device_id.as_str()).await
    };
    let found = found.await.map_err(|error| {
        tracing::error!(%error, "a device's secret cannot be checked");
        Denied::Unavailable
    })?;
    let given = secret_hash(secret);
    // An unknown device takes as long as a known one.
    let stored = found.as_ref().map_or("", |known| known.secret_hash.as_str());
    let is_right = same_hash(&given, stored);
    match found {
        Some(known) if is_right && known.retired_at.is_some() => Err(Denied::Revoked),
        Some(_) if is_right => Ok(DeviceIdentity { project_id, device_id }),
        _ => Err(Denied::BadCredentials),
    }
}

fn usable_nonce(request: &EnrollRequest) -> Result<Option<&str>, Refused> {
    match request.nonce.as_deref() {
        Some(nonce) if nonce.len() > NONCE_MAX_BYTES => {
            Err(Refused::invalid("nonce", format!("expected at most {NONCE_MAX_BYTES} bytes")))
        }
        Some(nonce) if nonce.chars().count() >= NONCE_MIN_CHARS => Ok(Some(nonce)),
        _ => Ok(None),
    }
}

fn answer(
    engine: &Engine,
    project: &ProjectId,
    device: &DeviceId,
    secret: String,
) -> EnrollResponse {
    let settings = engine.settings();
    EnrollResponse {
        project_id: project.clone(),
        device_id: device.clone(),
        mqtt_url: settings.mqtt_url,
        device_secret: Some(secret),
        certificate_pem: None,
        ca_pem: settings.ca_pem,
    }
}

fn random_secret(engine: &Engine) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(engine.clock().random::<32>())
}

fn derive(token: &str, salt: &str, project: &ProjectId, device: &DeviceId, nonce: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, token.as_bytes());
    let mut context = hmac::Context::with_key(&key);
    for part in ["quarterdeck device secret 1", salt, project.as_str(), device.as_str(), nonce] {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part.as_bytes());
    }
    BASE64_URL_SAFE_NO_PAD.encode(context.sign().as_ref())
}

fn nonce_hash(nonce: &str) -> String {
    hex::encode(digest::digest(&digest::SHA256, nonce.as_bytes()).as_ref())
}

/// The salt beside a stored nonce, when it is this one.
fn salt_of<'a>(stored: &'a str, nonce: &str) -> Option<&'a str> {
    let (hash, salt) = stored.split_once(':')?;
    same_hash(hash, &nonce_hash(nonce)).then_some(salt)
}

fn secret_hash(secret: &[u8]) -> String {
    hex::encode(digest::digest(&digest::SHA256, secret).as_ref())
}

fn same_hash(one: &str, other: &str) -> bool {
    constant_time::verify_slices_are_equal(one.as_bytes(), other.as_bytes()).is_ok()
}
