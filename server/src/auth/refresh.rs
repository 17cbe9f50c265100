//! Refresh tokens: opaque, good once, and safe to lose on the way.
//!
//! ```text
//!  generation g ──refresh──▶ g + 1 ──refresh──▶ g + 2 …
//!       │
//!       ├─ again within GRACE_MS, with the same Idempotency-Key ─▶ g + 1 once more: the
//!       │                                     answer was lost, or the client crashed
//!       └─ again otherwise, or an older one ─▶ stolen: the session ends, for both
//! ```
//!
//! A token names its session and generation and is authenticated by the
//! server's key, so any old one is recognised for what it is, while only two
//! hashes are stored. It also carries a *salt*, which is made of the key that it
//! was asked for with: so the very same token can be made again for whoever
//! knows that key, and for nobody else.

use aws_lc_rs::{digest, hmac};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use uuid::Uuid;

use super::keys::Keys;
use crate::clock::Clock;

/// How long a session lives without a refresh, in seconds.
pub const SESSION_IDLE_MAX_S: i64 = 30 * 24 * 3600;
/// How long the token before the present one is still answered, in milliseconds.
pub const GRACE_MS: i64 = 10_000;
const PREFIX: &str = "qdr_";
const SALT_BYTES: usize = 16;
const PAYLOAD_BYTES: usize = 16 + 8 + SALT_BYTES;
const TOKEN_BYTES: usize = PAYLOAD_BYTES + 32;

/// What an authentic token says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refresh {
    pub session: Uuid,
    pub generation: u64,
    pub salt: Salt,
}

/// What tells two tokens of one generation apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Salt([u8; SALT_BYTES]);

impl Salt {
    /// The same for the same key.
    pub fn of_key(idempotency_key: &str) -> Self {
        let digest = digest::digest(&digest::SHA256, idempotency_key.as_bytes());
        let mut salt = [0; SALT_BYTES];
        salt.copy_from_slice(&digest.as_ref()[..SALT_BYTES]);
        Self(salt)
    }

    /// Never the same again.
    pub fn fresh(clock: &Clock) -> Self {
        Self(clock.random())
    }
}

impl Refresh {
    /// Writes the token; the same one each time.
    pub fn token(self, keys: &Keys) -> String {
        let mut bytes = self.payload();
        bytes.extend_from_slice(hmac::sign(&keys.refresh, &bytes).as_ref());
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))
    }

    /// Reads a token; `None` when this server's key did not make it.
    pub fn read(keys: &Keys, token: &str) -> Option<Self> {
        let text = token.strip_prefix(PREFIX).filter(|text| text.len() <= TOKEN_BYTES * 2)?;
        let bytes = URL_SAFE_NO_PAD.decode(text).ok().filter(|b| b.len() == TOKEN_BYTES)?;
        let (payload, tag) = bytes.split_at(PAYLOAD_BYTES);
        // In constant time.
        hmac::verify(&keys.refresh, payload, tag).ok()?;
        let (session, rest) = payload.split_at(16);
        let (generation, salt) = rest.split_at(8);
        Some(Self {
            session: Uuid::from_slice(session).ok()?,
            generation: u64::from_be_bytes(generation.try_into().ok()?),
            salt: Salt(salt.try_into().ok()?),
        })
    }

    /// The token after this one.
    #[must_use]
    pub const fn next(self, salt: Salt) -> Self {
        Self { generation: self.generation + 1, salt, ..self }
    }

    fn payload(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(TOKEN_BYTES);
        bytes.extend_from_slice(self.session.as_bytes());
        bytes.extend_from_slice(&self.generation.to_be_bytes());
        bytes.extend_from_slice(&self.salt.0);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::keys::Seeds;

    #[test]
    fn a_token_is_read_back_and_a_changed_one_is_not() {
        let clock = Clock::system(None);
        let keys = Seeds::random(&clock).keys().expect("keys");
        let salt = Salt::fresh(&clock);
        let refresh = Refresh { session: clock.new_uuid(), generation: 7, salt };
        let token = refresh.token(&keys);
        assert_eq!(Refresh::read(&keys, &token), Some(refresh));
        assert_eq!(token, refresh.token(&keys));
        assert_ne!(token, refresh.next(salt).token(&keys));
        let next = |key| refresh.next(Salt::of_key(key)).token(&keys);
        assert_eq!(next("k1"), next("k1"));
        assert_ne!(next("k1"), next("k2"));
        let other = Seeds::random(&clock).keys().expect("keys");
        assert_eq!(Refresh::read(&other, &token), None);
        for bad in
            ["", "qdr_", "qdr_AAAA", &token[4..], &format!("{token}A"), &token.replace('A', "B")]
        {
            if bad != token {
                assert_eq!(Refresh::read(&keys, bad), None, "{bad}");
            }
        }
    }
}
