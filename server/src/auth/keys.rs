//! The server's own keys: made at the first start, kept in the database, so
//! that they outlive a restart and several servers share them.

use std::sync::Arc;

use aws_lc_rs::{
    hmac,
    signature::{Ed25519KeyPair, KeyPair as _},
};
use jsonwebtoken::{DecodingKey, EncodingKey};

use crate::{
    clock::Clock,
    hex,
    store::{StoreError, Tx, meta},
};

const AUDIT_KEY: &str = "key.audit";
const ACCESS_KEY: &str = "key.access";
const REFRESH_KEY: &str = "key.refresh";

/// All keys of a server. Shows none of them.
#[derive(Clone)]
pub struct Keys {
    /// Signs the heads of the audit trail.
    pub audit: Arc<Ed25519KeyPair>,
    /// Signs access tokens.
    pub(super) access_encoding: EncodingKey,
    pub(super) access_decoding: DecodingKey,
    /// Authenticates refresh tokens.
    pub(super) refresh: hmac::Key,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").finish_non_exhaustive()
    }
}

/// The keys as stored: 32 random bytes each.
#[derive(Clone)]
pub struct Seeds {
    audit: [u8; 32],
    access: [u8; 32],
    refresh: [u8; 32],
}

impl std::fmt::Debug for Seeds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seeds").finish_non_exhaustive()
    }
}

impl Seeds {
    pub fn random(clock: &Clock) -> Self {
        Self { audit: clock.random(), access: clock.random(), refresh: clock.random() }
    }

    /// Writes them, at the first start.
    pub async fn put(&self, tx: &mut Tx) -> Result<(), StoreError> {
        for (name, seed) in
            [(AUDIT_KEY, &self.audit), (ACCESS_KEY, &self.access), (REFRESH_KEY, &self.refresh)]
        {
            meta::put(tx, name, &hex::encode(seed)).await?;
        }
        Ok(())
    }

    /// Reads them; `None` before the first start.
    pub async fn get(tx: &mut Tx) -> Result<Option<Self>, StoreError> {
        let mut seeds = [[0_u8; 32]; 3];
        for (name, seed) in [AUDIT_KEY, ACCESS_KEY, REFRESH_KEY].into_iter().zip(&mut seeds) {
            let Some(text) = meta::get(tx, name).await? else { return Ok(None) };
            *seed = hex::decode(&text)
                .and_then(|bytes| bytes.try_into().ok())
                .ok_or_else(|| StoreError::Corrupt { what: name.to_owned() })?;
        }
        let [audit, access, refresh] = seeds;
        Ok(Some(Self { audit, access, refresh }))
    }

    /// Makes the keys of the seeds.
    pub fn keys(&self) -> Result<Keys, StoreError> {
        let bad = |name: &str| StoreError::Corrupt { what: name.to_owned() };
        let audit = Ed25519KeyPair::from_seed_unchecked(&self.audit).map_err(|_| bad(AUDIT_KEY))?;
        let access =
            Ed25519KeyPair::from_seed_unchecked(&self.access).map_err(|_| bad(ACCESS_KEY))?;
        let pkcs8 = access.to_pkcs8v1().map_err(|_| bad(ACCESS_KEY))?;
        Ok(Keys {
            audit: Arc::new(audit),
            access_encoding: EncodingKey::from_ed_der(pkcs8.as_ref()),
            access_decoding: DecodingKey::from_ed_der(access.public_key().as_ref()),
            refresh: hmac::Key::new(hmac::HMAC_SHA256, &self.refresh),
        })
    }
}
