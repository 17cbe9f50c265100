//! The credentials of one client.
//!
//! ```text
//!  None ── nothing is sent
//!  Token ── an access or service token that somebody gave: used as it is, until the server says no
//!  Session ── a login: refreshed shortly before it ends, or on 401; after its end
//!             the next login of the same profile, where somebody waits for it
//! ```
//!
//! A refresh token is good once, so a refresh happens once: tasks of this
//! process queue on a mutex and take what the first one brought; other
//! processes with the same profile queue on its lock file. Once begun it comes
//! to its end, whoever gives up waiting for it: the server takes the old token
//! no more, and what it gave for it is to be remembered.

use std::{
    future::Future,
    panic,
    sync::{Arc, LazyLock},
    time::Duration,
};

use quarterdeck_protocol::api::Tokens;
use tokio::{sync::OwnedMutexGuard, time::timeout};
use tokio_util::task::TaskTracker;

use super::{
    clock,
    error::ApiError,
    profile::{Profile, ProfileLock, Profiles, SavedTokens, Secret},
};

/// An access token is renewed this long before its end, in milliseconds.
const RENEW_BEFORE_MS: i64 = 20_000;

/// How often a profile is looked at for a new login, once its own has ended.
const LOGIN_POLL: Duration = Duration::from_secs(2);

/// The refreshes of this process that are under way.
static REFRESHING: LazyLock<TaskTracker> = LazyLock::new(TaskTracker::new);

/// Waits until what was begun to be refreshed is remembered: before the process ends.
pub async fn settled(within: Duration) {
    REFRESHING.close();
    // Who quits does not wait for a server that is gone.
    let _ = timeout(within, REFRESHING.wait()).await;
}

/// What a client says of itself.
#[derive(Debug, Default)]
pub enum Credentials {
    /// Nobody yet: only `login` works.
    #[default]
    None,
    Token(GivenToken),
    Session(Session),
}

/// A token that stands for a login.
#[derive(Debug, Clone)]
pub struct GivenToken {
    pub token: Secret,
    /// Where it came from, as its owner names it: that is where another one goes.
    pub from: String,
}

/// A login that keeps itself fresh.
#[derive(Debug)]
pub struct Session {
    tokens: Arc<tokio::sync::Mutex<SavedTokens>>,
    keeper: Option<Keeper>,
}

/// Where a session's tokens are remembered.
#[derive(Debug, Clone)]
pub struct Keeper {
    pub profiles: Profiles,
    pub name: String,
    /// The server they are for: a profile that meanwhile belongs to another one is left alone.
    pub server: String,
}

impl Session {
    pub fn new(tokens: SavedTokens, keeper: Option<Keeper>) -> Self {
        Self { tokens: Arc::new(tokio::sync::Mutex::new(tokens)), keeper }
    }

    /// Gives an access token: the present one, or a new one when it is about to end or is `refused`.
    /// `refresh` is called at most once however many ask together.
    pub async fn access<F>(
        &self,
        refused: Option<&Secret>,
        refresh: impl FnOnce(Secret) -> F + Send + 'static,
    ) -> Result<Secret, ApiError>
    where
        F: Future<Output = Result<Tokens, ApiError>> + Send + 'static,
    {
        let tokens = Arc::clone(&self.tokens).lock_owned().await;
        if is_good(&tokens, refused) {
            return Ok(tokens.access_token.clone());
        }
        let renewing = renewed(tokens, self.keeper.clone(), refused.cloned(), refresh);
        match REFRESHING.spawn(renewing).await {
            Ok(renewed) => renewed,
            Err(error) => panic::resume_unwind(error.into_panic()),
        }
    }

    /// Whether its tokens are remembered in a profile, where another login may put others.
    pub const fn is_kept(&self) -> bool {
        self.keeper.is_some()
    }

    /// Waits until the profile holds other tokens than ours, and takes them; for ever without one.
    pub async fn signed_in_again(&self) {
        let Some(keeper) = &self.keeper else { return std::future::pending().await };
        loop {
            tokio::time::sleep(LOGIN_POLL).await;
            let keeper = keeper.clone();
            // What cannot be read now may be half written: the next look tells.
            let found = blocking(move || keeper.mine()).await.unwrap_or_default();
            let mut tokens = self.tokens.lock().await;
            if let Some(found) = found.and_then(|profile| profile.tokens)
                && found.refresh_token != tokens.refresh_token
            {
                *tokens = found;
                return;
            }
        }
    }

    /// The token that ends the session at the server.
    pub async fn refresh_token(&self) -> Secret {
        self.tokens.lock().await.refresh_token.clone()
    }
}

/// Refreshes the tokens, unless the profile has good ones, and remembers them.
async fn renewed<F>(
    mut tokens: OwnedMutexGuard<SavedTokens>,
    keeper: Option<Keeper>,
    refused: Option<Secret>,
    refresh: impl FnOnce(Secret) -> F,
) -> Result<Secret, ApiError>
where
    F: Future<Output = Result<Tokens, ApiError>>,
{
    let Some(keeper) = keeper else {
        *tokens = saved(refresh(tokens.refresh_token.clone()).await?);
        return Ok(tokens.access_token.clone());
    };
    let of_profile = keeper.clone();
    let (lock, found) = blocking(move || of_profile.lock_and_load()).await?;
    if let Some(found) = found {
        *tokens = found;
        if is_good(&tokens, refused.as_ref()) {
            return Ok(tokens.access_token.clone());
        }
    }
    let fresh = saved(refresh(tokens.refresh_token.clone()).await?);
    *tokens = fresh.clone();
    blocking(move || keeper.store(&lock, Some(fresh))).await?;
    Ok(tokens.access_token.clone())
}

impl Keeper {
    fn lock_and_load(&self) -> Result<(Arc<ProfileLock>, Option<SavedTokens>), ApiError> {
        let lock = self.profiles.lock(&self.name)?;
        Ok((Arc::new(lock), self.mine()?.and_then(|profile| profile.tokens)))
    }

    /// Replaces the remembered tokens; the lock says that nobody else does so meanwhile.
    fn store(&self, _held: &ProfileLock, tokens: Option<SavedTokens>) -> Result<(), ApiError> {
        if let Some(profile) = self.mine()? {
            self.profiles.save(&self.name, &Profile { tokens, ..profile })?;
        }
        Ok(())
    }

    fn mine(&self) -> Result<Option<Profile>, ApiError> {
        Ok(self.profiles.load(&self.name)?.filter(|profile| profile.server == self.server))
    }
}

/// Turns the server's answer into what is remembered.
pub fn saved(tokens: Tokens) -> SavedTokens {
    let life_ms = i64::try_from(tokens.expires_in).unwrap_or(i64::MAX).saturating_mul(1000);
    SavedTokens {
        access_token: Secret::new(tokens.access_token),
        refresh_token: Secret::new(tokens.refresh_token),
        expires_at: clock::now().plus_millis(life_ms),
    }
}

fn is_good(tokens: &SavedTokens, refused: Option<&Secret>) -> bool {
    refused != Some(&tokens.access_token)
        && tokens.expires_at.millis_since(clock::now()) > RENEW_BEFORE_MS
}

/// Runs file work where it may block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| ApiError::Setup(format!("a task of the console broke off: {e}")))?
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    fn tokens(n: u32, expires_in: u64) -> Tokens {
        Tokens {
            access_token: format!("access-{n}"),
            refresh_token: format!("refresh-{n}"),
            expires_in,
        }
    }

    fn profile(tokens: SavedTokens) -> Profile {
        Profile {
            server: "http://127.0.0.1:1".into(),
            project: "default".into(),
            username: "ops".into(),
            allow_plaintext: false,
            ca_file: None,
            tokens: Some(tokens),
        }
    }

    fn keeper(folder: &tempfile::TempDir) -> Keeper {
        Keeper {
            profiles: Profiles::at(folder.path().to_owned()),
            name: "default".into(),
            server: "http://127.0.0.1:1".into(),
        }
    }

    #[tokio::test]
    async fn many_who_find_the_token_refused_refresh_it_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let keeper = keeper(&folder);
        keeper.profiles.save("default", &profile(saved(tokens(1, 600)))).expect("saved");
        // Two sessions over one profile stand for two processes.
        let sessions =
            [(); 2].map(|()| Arc::new(Session::new(saved(tokens(1, 600)), Some(keeper.clone()))));
        let refreshed = Arc::new(AtomicU32::new(0));
        let refused = Secret::new("access-1");

        let asks = (0..40).map(|n| {
            let (session, refreshed, refused) =
                (Arc::clone(&sessions[n % 2]), Arc::clone(&refreshed), refused.clone());
            tokio::spawn(async move {
                session
                    .access(Some(&refused), |refresh_token| async move {
                        assert_eq!(refresh_token.reveal(), "refresh-1");
                        let n = refreshed.fetch_add(1, Ordering::SeqCst) + 2;
                        tokio::task::yield_now().await;
                        Ok(tokens(n, 600))
                    })
                    .await
            })
        });
        for ask in futures_util::future::join_all(asks).await {
            assert_eq!(ask.expect("ran").expect("refreshed").reveal(), "access-2");
        }
        assert_eq!(refreshed.load(Ordering::SeqCst), 1);
        let kept = keeper.profiles.load("default").expect("readable").expect("there");
        assert_eq!(kept.tokens.expect("tokens").refresh_token.reveal(), "refresh-2");
    }

    #[tokio::test]
    async fn a_token_near_its_end_is_renewed_before_it_is_used() {
        let session = Session::new(saved(tokens(1, 5)), None);
        let access = session.access(None, |_| async { Ok(tokens(2, 600)) }).await;
        assert_eq!(access.expect("renewed").reveal(), "access-2");
        let access = session.access(None, |_| async { panic!("it is fresh") }).await;
        assert_eq!(access.expect("kept").reveal(), "access-2");
    }

    #[tokio::test]
    async fn a_refresh_that_nobody_waits_for_any_more_is_remembered() {
        let folder = tempfile::tempdir().expect("a folder");
        let keeper = keeper(&folder);
        keeper.profiles.save("default", &profile(saved(tokens(1, 0)))).expect("saved");
        let session = Session::new(saved(tokens(1, 0)), Some(keeper.clone()));
        let (asks, asked) = tokio::sync::oneshot::channel();
        let (answers, answer) = tokio::sync::oneshot::channel();
        let refresh = |_| async move {
            asks.send(()).expect("waited for");
            answer.await.expect("answered");
            Ok(tokens(2, 600))
        };
        tokio::select! {
            access = session.access(None, refresh) => panic!("{access:?}"),
            asked = asked => asked.expect("sent"),
        }
        answers.send(()).expect("waited for");
        let access = session.access(None, |_| async { panic!("it is fresh") }).await;
        assert_eq!(access.expect("renewed").reveal(), "access-2");
        let remembered = keeper.profiles.load("default").expect("read").expect("there");
        assert_eq!(remembered.tokens.expect("kept").refresh_token.reveal(), "refresh-2");
    }

    #[tokio::test]
    async fn a_login_that_has_ended_is_followed_by_the_next_of_its_profile() {
        let folder = tempfile::tempdir().expect("a folder");
        let keeper = keeper(&folder);
        keeper.profiles.save("default", &profile(saved(tokens(1, 0)))).expect("saved");
        let session = Arc::new(Session::new(saved(tokens(1, 0)), Some(keeper.clone())));
        let waiting = tokio::spawn({
            let session = Arc::clone(&session);
            async move { session.signed_in_again().await }
        });
        // Signed out by hand, and in again.
        let signed_out = Profile { tokens: None, ..profile(saved(tokens(1, 0))) };
        keeper.profiles.save("default", &signed_out).expect("saved");
        keeper.profiles.save("default", &profile(saved(tokens(2, 600)))).expect("saved");
        waiting.await.expect("signed in");
        let access = session.access(None, |_| async { panic!("it is fresh") }).await;
        assert_eq!(access.expect("taken up").reveal(), "access-2");
    }

    #[tokio::test]
    async fn a_profile_that_now_belongs_to_another_server_is_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let keeper = keeper(&folder);
        let other = Profile { server: "https://other".into(), ..profile(saved(tokens(9, 600))) };
        keeper.profiles.save("default", &other).expect("saved");
        let session = Session::new(saved(tokens(1, 0)), Some(keeper.clone()));
        let access = session.access(None, |_| async { Ok(tokens(2, 600)) }).await;
        assert_eq!(access.expect("renewed").reveal(), "access-2");
        assert_eq!(keeper.profiles.load("default"), Ok(Some(other)));
    }
}
