//! Access tokens: JWTs, signed with Ed25519 and nothing else, good for ten minutes.
//!
//! Time is asked of the server's clock, not by the JWT library; that a token's
//! session is live is asked of the store, with each request.

use jsonwebtoken::{Algorithm, Header, Validation, decode, encode};
use quarterdeck_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::keys::Keys;

/// The life of an access token, in seconds.
pub const ACCESS_TTL_S: i64 = 600;
const ISSUER: &str = "quarterdeck-server";
const AUDIENCE: &str = "quarterdeck-api";
/// The longest token that is looked at, in bytes.
const TOKEN_MAX_BYTES: usize = 4 * 1024;
/// What servers' clocks may differ by, in seconds.
const LEEWAY_S: i64 = 5;

#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: String,
    jti: String,
    iat: i64,
    nbf: i64,
    exp: i64,
}

/// A token that is authentic and in its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    pub session_id: String,
    pub username: String,
    pub expires_at: Timestamp,
}

/// Says that a token is not good; to the client all reasons look alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    #[error("the access token is not valid")]
    Invalid,
    #[error("the access token has expired")]
    Expired,
}

/// Makes the access token of a session.
pub fn issue(
    keys: &Keys,
    session_id: &str,
    username: &str,
    now: Timestamp,
) -> Result<String, AccessError> {
    let now_s = now.as_millis().div_euclid(1000);
    let claims = Claims {
        iss: ISSUER.to_owned(),
        aud: AUDIENCE.to_owned(),
        sub: username.to_owned(),
        jti: session_id.to_owned(),
        iat: now_s,
        nbf: now_s,
        exp: now_s + ACCESS_TTL_S,
    };
    encode(&Header::new(Algorithm::EdDSA), &claims, &keys.access_encoding)
        .map_err(|_| AccessError::Invalid)
}

/// Checks an access token.
pub fn check(keys: &Keys, token: &str, now: Timestamp) -> Result<Access, AccessError> {
    if token.len() > TOKEN_MAX_BYTES {
        return Err(AccessError::Invalid);
    }
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.set_issuer(&[ISSUER]);
    validation.set_audience(&[AUDIENCE]);
    validation.set_required_spec_claims(&["exp", "nbf", "aud", "iss"]);
    // Against our own clock, below.
    validation.validate_exp = false;
    validation.validate_nbf = false;
    let claims: Claims =
        decode(token, &keys.access_decoding, &validation).map_err(|_| AccessError::Invalid)?.claims;
    let now_s = now.as_millis().div_euclid(1000);
    if claims.nbf > now_s + LEEWAY_S {
        return Err(AccessError::Invalid);
    }
    if claims.exp <= now_s {
        return Err(AccessError::Expired);
    }
    Ok(Access {
        session_id: claims.jti,
        username: claims.sub,
        expires_at: Timestamp::from_millis(claims.exp.saturating_mul(1000)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{auth::keys::Seeds, clock::Clock};
    use jsonwebtoken::EncodingKey;
    use serde_json::{Value, json};

    fn keys() -> Keys {
        Seeds::random(&Clock::system(None)).keys().expect("keys")
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(1_800_000_000_000).plus_seconds(seconds)
    }

    fn claims() -> Value {
        let now = at(0).as_millis() / 1000;
        json!({"iss": ISSUER, "aud": AUDIENCE, "sub": "ops", "jti": "s", "iat": now, "nbf": now, "exp": now + 600})
    }

    #[test]
    fn a_token_is_good_for_ten_minutes_and_no_second_more() {
        let keys = keys();
        let token = issue(&keys, "s", "ops", at(0)).expect("issued");
        assert_eq!(check(&keys, &token, at(599)).map(|a| a.username), Ok("ops".to_owned()));
        assert_eq!(check(&keys, &token, at(600)), Err(AccessError::Expired));
        assert_eq!(check(&keys, &token, at(-60)), Err(AccessError::Invalid));
    }

    #[test]
    fn another_key_and_another_algorithm_are_refused() {
        let keys = keys();
        let token = issue(&self::keys(), "s", "ops", at(0)).expect("issued");
        assert_eq!(check(&keys, &token, at(1)), Err(AccessError::Invalid));
        // HS256 with the public key as its secret, the classic confusion.
        let public = keys.access_decoding.try_get_as_bytes().expect("bytes");
        let token =
            encode(&Header::new(Algorithm::HS256), &claims(), &EncodingKey::from_secret(public))
                .expect("encodes");
        assert_eq!(check(&keys, &token, at(1)), Err(AccessError::Invalid));
        // alg none.
        use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as B64};
        let none = format!(
            "{}.{}.",
            B64.encode(r#"{"alg":"none","typ":"JWT"}"#),
            B64.encode(claims().to_string())
        );
        assert_eq!(check(&keys, &none, at(1)), Err(AccessError::Invalid));
    }

    #[test]
    fn each_required_claim_is_required() {
        let keys = keys();
        for missing in ["iss", "aud", "exp", "nbf", "jti", "sub"] {
            let mut claims = claims();
            claims.as_object_mut().expect("an object").remove(missing);
            let token = encode(&Header::new(Algorithm::EdDSA), &claims, &keys.access_encoding)
                .expect("encodes");
            assert_eq!(check(&keys, &token, at(1)), Err(AccessError::Invalid), "{missing}");
        }
        for (name, value) in [("iss", "other"), ("aud", "other")] {
            let mut claims = claims();
            claims[name] = json!(value);
            let token = encode(&Header::new(Algorithm::EdDSA), &claims, &keys.access_encoding)
                .expect("encodes");
            assert_eq!(check(&keys, &token, at(1)), Err(AccessError::Invalid), "{name}");
        }
    }
}
