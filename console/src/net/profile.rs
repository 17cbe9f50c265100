//! What `quarterdeck login` remembers: one small TOML file per profile.
//!
//! The files live in the XDG state folder, because their tokens change at each
//! refresh: `$XDG_STATE_HOME/quarterdeck/profiles/NAME.toml`, mode 0600 in a
//! folder of mode 0700. A file is replaced in one step, so a reader or a crash
//! sees the old one or the new one. Who refreshes tokens holds [`Profiles::lock`]
//! meanwhile: several consoles share a login, and a refresh token is good once.

use std::{
    fmt, fs,
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use etcetera::BaseStrategy as _;
use quarterdeck_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::clock;

/// The profile of who names none.
pub const DEFAULT_PROFILE: &str = "default";
/// The longest name of a profile, in bytes.
const NAME_MAX_BYTES: usize = 64;
/// The longest profile file, in bytes.
const FILE_MAX_BYTES: u64 = 64 * 1024;

/// A text that no log and no debug output shows.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Gives the text itself, to be sent and never to be shown.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// A login, as it is remembered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    pub server: String,
    pub project: String,
    pub username: String,
    /// Plaintext to another machine was asked for by name at login.
    #[serde(default)]
    pub allow_plaintext: bool,
    /// The certificate authority that was given at login.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// Absent after `quarterdeck logout`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<SavedTokens>,
}

/// The tokens of a login.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedTokens {
    pub access_token: Secret,
    pub refresh_token: Secret,
    /// Of the access token, by this machine's clock.
    pub expires_at: Timestamp,
}

/// Says which profile could not be read or written, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    #[error("profile {0:?}: expected a name of letters, digits, '.', '_', '-'")]
    BadName(String),
    #[error("cannot {doing} {}: {reason}", path.display())]
    Io { doing: &'static str, path: PathBuf, reason: String },
    #[error("{} is damaged ({reason}); run quarterdeck login{} again", path.display(), option(path))]
    Damaged { path: PathBuf, reason: String },
    #[error("no home folder is known; set HOME or XDG_STATE_HOME")]
    NoHome,
}

/// The option that names the profile of a file, where it is not the default one.
fn option(path: &Path) -> String {
    match path.file_stem().and_then(|name| name.to_str()) {
        Some(DEFAULT_PROFILE) | None => String::new(),
        Some(name) => format!(" --profile {name}"),
    }
}

/// The folder of profiles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profiles {
    folder: PathBuf,
}

/// Holds a profile against other processes until it is dropped.
#[derive(Debug)]
pub struct ProfileLock {
    _file: fs::File,
}

impl Profiles {
    /// Uses the XDG state folder.
    pub fn of_user() -> Result<Self, ProfileError> {
        let base = etcetera::choose_base_strategy().map_err(|_| ProfileError::NoHome)?;
        let state = base.state_dir().unwrap_or_else(|| base.data_dir());
        Ok(Self::at(state.join("quarterdeck").join("profiles")))
    }

    /// Uses `folder`, which is made when something is saved.
    pub fn at(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Reads a profile; `None` when there is none of that name.
    pub fn load(&self, name: &str) -> Result<Option<Profile>, ProfileError> {
        let path = self.path(name, "toml")?;
        let file = match fs::File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(io_error("read", &path, &e)),
        };
        let about = file.metadata().map_err(|e| io_error("read", &path, &e))?;
        if about.len() > FILE_MAX_BYTES {
            return Err(ProfileError::Damaged { path, reason: "it is too long".to_owned() });
        }
        if about.permissions().mode() & 0o077 != 0 {
            tracing::warn!(path = %path.display(), "others could read this login; closing it to them");
            file.set_permissions(fs::Permissions::from_mode(0o600))
                .map_err(|e| io_error("protect", &path, &e))?;
        }
        let text = io::read_to_string(file).map_err(|e| io_error("read", &path, &e))?;
        // The parser's own message quotes the line, which may hold a token.
        toml::from_str(&text).map(Some).map_err(|e| ProfileError::Damaged {
            path,
            reason: e.message().lines().next().unwrap_or("not TOML").to_owned(),
        })
    }

    /// Writes a profile in one step.
    pub fn save(&self, name: &str, profile: &Profile) -> Result<(), ProfileError> {
        let path = self.path(name, "toml")?;
        let text = toml::to_string(profile)
            .map_err(|e| ProfileError::Damaged { path: path.clone(), reason: e.to_string() })?;
        self.make_folder()?;
        let fresh = self.folder.join(format!(".{name}.{}", clock::fresh_key()));
        let written = write_private(&fresh, text.as_bytes())
            .and_then(|()| fs::rename(&fresh, &path))
            .and_then(|()| fs::File::open(&self.folder)?.sync_all());
        written.map_err(|e| {
            // It may never have been made; what counts is the first error.
            let _ = fs::remove_file(&fresh);
            io_error("write", &path, &e)
        })
    }

    /// Waits until no other process holds the profile. Blocks: not for async tasks.
    pub fn lock(&self, name: &str) -> Result<ProfileLock, ProfileError> {
        let path = self.path(name, "lock")?;
        self.make_folder()?;
        let file = fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(|e| io_error("lock", &path, &e))?;
        file.lock().map_err(|e| io_error("lock", &path, &e))?;
        Ok(ProfileLock { _file: file })
    }

    fn path(&self, name: &str, extension: &str) -> Result<PathBuf, ProfileError> {
        let bytes = name.as_bytes();
        let good = bytes.first().is_some_and(u8::is_ascii_alphanumeric)
            && bytes.len() <= NAME_MAX_BYTES
            && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(b));
        if !good {
            return Err(ProfileError::BadName(name.chars().take(NAME_MAX_BYTES).collect()));
        }
        Ok(self.folder.join(format!("{name}.{extension}")))
    }

    fn make_folder(&self) -> Result<(), ProfileError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.folder)
            .map_err(|e| io_error("make", &self.folder, &e))
    }
}

fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

fn io_error(doing: &'static str, path: &Path, error: &io::Error) -> ProfileError {
    ProfileError::Io { doing, path: path.to_owned(), reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile() -> Profile {
        Profile {
            server: "http://127.0.0.1:8470".into(),
            project: "default".into(),
            username: "ops-1".into(),
            allow_plaintext: false,
            ca_file: None,
            tokens: Some(SavedTokens {
                access_token: Secret::new("access-1"),
                refresh_token: Secret::new("refresh-1"),
                expires_at: Timestamp::from_millis(1_000),
            }),
        }
    }

    fn profiles() -> (tempfile::TempDir, Profiles) {
        let folder = tempfile::tempdir().expect("a folder");
        let profiles = Profiles::at(folder.path().join("a/profiles"));
        (folder, profiles)
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("exists").permissions().mode() & 0o777
    }

    #[test]
    fn a_profile_is_for_its_owner_alone_and_comes_back_as_it_was() {
        let (_guard, profiles) = profiles();
        assert_eq!(profiles.load("prod"), Ok(None));
        profiles.save("prod", &profile()).expect("saved");
        profiles.save("prod", &profile()).expect("saved again");
        assert_eq!(profiles.load("prod"), Ok(Some(profile())));
        assert_eq!(mode(&profiles.folder), 0o700);
        assert_eq!(mode(&profiles.folder.join("prod.toml")), 0o600);
        let left: Vec<_> = fs::read_dir(&profiles.folder).expect("a folder").collect();
        assert_eq!(left.len(), 1, "no temporary file stays: {left:?}");
    }

    #[test]
    fn a_profile_that_others_could_read_is_closed_to_them() {
        let (_guard, profiles) = profiles();
        profiles.save("default", &profile()).expect("saved");
        let path = profiles.folder.join("default.toml");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("opened");
        assert!(profiles.load("default").expect("readable").is_some());
        assert_eq!(mode(&path), 0o600);
    }

    #[test]
    fn a_damaged_profile_is_named_without_its_secrets() {
        let (_guard, profiles) = profiles();
        profiles.save("default", &profile()).expect("saved");
        fs::write(profiles.folder.join("default.toml"), "access_token = hunter2").expect("written");
        let error = profiles.load("default").expect_err("damaged").to_string();
        assert!(error.contains("run quarterdeck login again"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }

    #[test]
    fn a_name_cannot_leave_the_folder() {
        let (_guard, profiles) = profiles();
        for bad in ["", "..", "a/b", ".hidden", &"x".repeat(65)] {
            assert!(matches!(profiles.load(bad), Err(ProfileError::BadName(_))), "{bad:?}");
        }
    }

    #[test]
    fn a_secret_is_never_shown() {
        assert!(!format!("{:?}", profile()).contains("access-1"));
    }
}
