//! Who somebody is (chapter 9). What they may do is asked in `http/extract.rs`.
//!
//! ```text
//!  password ──login──▶ session ──▶ access token (JWT, 10 min) ──▶ each request asks: is the session live?
//!                        │    └──▶ refresh token, good once ──refresh──▶ the next pair
//!                        └── logout, revoked, disabled, too old: 401 from the next request on
//! ```
//!
//! | module | subject |
//! | --- | --- |
//! | [`keys`] | the server's own keys, kept in the database |
//! | [`password`] | Argon2id, a bounded number at once |
//! | [`access`] | access tokens |
//! | [`refresh`] | refresh tokens and their rotation |
//! | [`limiter`] | how often somebody may guess |
//! | [`tickets`] | one-use tickets for WebSockets |
//!
//! Never here: a token or password in a log, an error or an audit entry.

pub mod access;
pub mod keys;
pub mod limiter;
pub mod password;
pub mod refresh;
pub mod tickets;

use aws_lc_rs::digest;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::{clock::Clock, hex};

/// Makes a random secret of 256 bits that says by its prefix what it is for.
pub fn new_secret(clock: &Clock, prefix: &str) -> String {
    format!("{prefix}{}", URL_SAFE_NO_PAD.encode(clock.random::<32>()))
}

/// What is stored of a secret of 256 random bits: a plain hash is enough, nobody guesses it.
pub fn hash_secret(secret: &str) -> String {
    hex::encode(digest::digest(&digest::SHA256, secret.as_bytes()).as_ref())
}

/// The longest username, in bytes.
pub const USERNAME_MAX_BYTES: usize = 64;

/// Checks a new username: a letter or digit, then letters, digits, `.`, `_`, `-`, `@`.
pub fn check_username(username: &str) -> Result<(), &'static str> {
    let bytes = username.as_bytes();
    let is_good = bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.len() <= USERNAME_MAX_BYTES
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"._-@".contains(b));
    // The trail names the server itself so.
    if is_good && !username.eq_ignore_ascii_case("server") {
        Ok(())
    } else {
        Err(
            "expected a letter or digit, then up to 63 of letters, digits, '.', '_', '-', '@'; not \"server\"",
        )
    }
}
