//! Passwords: Argon2id, on blocking threads, a bounded number at once.
//!
//! A check takes the same time whether the user exists or not: an unknown one
//! is checked against a hash that no password has.

use std::sync::Arc;

use argon2::{
    Algorithm, Argon2, Params, PasswordHash, PasswordHasher, PasswordVerifier, Version,
    password_hash::SaltString,
};
use tokio::sync::Semaphore;

use crate::clock::Clock;

/// The shortest and the longest password, in characters (NIST SP 800-63B: 8, and no rule of composition).
pub const PASSWORD_MIN_CHARS: usize = 8;
pub const PASSWORD_MAX_CHARS: usize = 128;
/// Hashes that are computed at once; each takes [`MEMORY_KIB`].
const HASHES_AT_ONCE_MAX: usize = 2;
/// Requests that may wait for a hash; more are told to come again.
const HASHES_WAITING_MAX: usize = 64;
/// Argon2id's cost: OWASP's first choice for little memory.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// Says why a password was not hashed or checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    #[error("too many sign in at once; try again in a moment")]
    Busy,
    #[error("the password could not be hashed")]
    Hash,
}

/// Checks the length of a new password.
pub fn check_new(password: &str) -> Result<(), String> {
    let chars = password.chars().count();
    if (PASSWORD_MIN_CHARS..=PASSWORD_MAX_CHARS).contains(&chars) {
        Ok(())
    } else {
        Err(format!(
            "expected {PASSWORD_MIN_CHARS} to {PASSWORD_MAX_CHARS} characters, got {chars}"
        ))
    }
}

/// Hashes and checks passwords. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Passwords {
    at_once: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    clock: Clock,
    nobodys_hash: Arc<str>,
}

impl Passwords {
    /// Makes one; computes one hash on the spot.
    pub fn new(clock: &Clock) -> Result<Self, PasswordError> {
        let mut random = [0; 32];
        clock.fill_random(&mut random);
        let nobody = hash_now(clock, &random)?;
        Ok(Self {
            at_once: Arc::new(Semaphore::new(HASHES_AT_ONCE_MAX)),
            waiting: Arc::new(Semaphore::new(HASHES_WAITING_MAX)),
            clock: clock.clone(),
            nobodys_hash: nobody.into(),
        })
    }

    /// Hashes a new password.
    pub async fn hash(&self, password: String) -> Result<String, PasswordError> {
        let clock = self.clock.clone();
        self.run(move || hash_now(&clock, password.as_bytes())).await?
    }

    /// Whether a password is the one of `hash`; with no hash it never is, and takes as long.
    pub async fn verify(
        &self,
        password: String,
        hash: Option<String>,
    ) -> Result<bool, PasswordError> {
        let exists = hash.is_some();
        let hash = hash.unwrap_or_else(|| self.nobodys_hash.to_string());
        // Nobody's password is so long; hashing megabytes would be a way to keep us busy.
        let password =
            if password.len() > PASSWORD_MAX_CHARS * 4 { String::new() } else { password };
        let matches = self
            .run(move || {
                PasswordHash::new(&hash)
                    .is_ok_and(|hash| argon2().verify_password(password.as_bytes(), &hash).is_ok())
            })
            .await?;
        Ok(matches && exists)
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, PasswordError> {
        let _waiting = self.waiting.try_acquire().map_err(|_| PasswordError::Busy)?;
        let running =
            Arc::clone(&self.at_once).acquire_owned().await.map_err(|_| PasswordError::Busy)?;
        tokio::task::spawn_blocking(move || {
            // Held by the thread: a client that goes away does not free it for another.
            let _running = running;
            work()
        })
        .await
        .map_err(|_| PasswordError::Hash)
    }
}

/// Hashes on this thread: for subcommands, which have nothing else to do.
pub fn hash_now(clock: &Clock, password: &[u8]) -> Result<String, PasswordError> {
    let salt = SaltString::encode_b64(&clock.random::<16>()).map_err(|_| PasswordError::Hash)?;
    argon2()
        .hash_password(password, &salt)
        .map(|hash| hash.to_string())
        .map_err(|_| PasswordError::Hash)
}

fn argon2() -> Argon2<'static> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).expect("the constants are in range");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_is_checked_against_its_own_hash_and_nobody_has_one() {
        let passwords = Passwords::new(&Clock::system(None)).expect("hashes");
        let hash = passwords.hash("correct horse".into()).await.expect("hashes");
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert_eq!(passwords.verify("correct horse".into(), Some(hash.clone())).await, Ok(true));
        assert_eq!(passwords.verify("wrong horse".into(), Some(hash)).await, Ok(false));
        assert_eq!(passwords.verify("correct horse".into(), None).await, Ok(false));
    }

    #[test]
    fn a_new_password_has_8_to_128_characters() {
        for (password, is_good) in
            [("1234567", false), ("12345678", true), ("ääääääää", true), (&*"x".repeat(129), false)]
        {
            assert_eq!(check_new(password).is_ok(), is_good, "{password}");
        }
    }
}
