//! Files that commands may touch: only below the paths the owner allows, and
//! never through a link that leads out of them.
//!
//! A path is opened with `openat2` relative to its allowed prefix: the kernel
//! itself refuses to leave the prefix at any step (`RESOLVE_BENEATH`), also by
//! links that are changed meanwhile. Kernels before 5.6 lack it; there each
//! folder is resolved first and the result compared, which a local attacker
//! who swaps links at the right moment could deceive.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, Write as _},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, OpenHow, ResolveFlag, open, openat, openat2, renameat},
    sys::stat::{Mode, fchmod},
    unistd::{UnlinkatFlags, unlinkat},
};

/// Says why a file is not touched.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("the device's owner does not allow {} ([files] allow)", path.display())]
    NotAllowed { path: PathBuf },
    #[error("cannot {what} {}: {source}", path.display())]
    Io { what: &'static str, path: PathBuf, source: io::Error },
    #[error("{} is no regular file", path.display())]
    NotAFile { path: PathBuf },
}

/// Opens a file for reading.
pub fn open_to_read(allowed: &[PathBuf], path: &Path) -> Result<File, FileError> {
    let fd = open_below(allowed, path, OFlag::O_RDONLY | OFlag::O_NONBLOCK)?;
    let file = File::from(fd);
    let data = file.metadata().map_err(|source| FileError::Io {
        what: "read",
        path: path.to_owned(),
        source,
    })?;
    // A pipe or a device could hold the reader for ever.
    if data.is_file() { Ok(file) } else { Err(FileError::NotAFile { path: path.to_owned() }) }
}

fn open_below(allowed: &[PathBuf], path: &Path, flags: OFlag) -> Result<OwnedFd, FileError> {
    let refused = || FileError::NotAllowed { path: path.to_owned() };
    let failed = |errno: Errno| match errno {
        Errno::EXDEV | Errno::ELOOP => refused(),
        errno => FileError::Io { what: "open", path: path.to_owned(), source: errno.into() },
    };
    let flags = flags | OFlag::O_CLOEXEC;
    let prefixes = allowed.iter().filter(|prefix| path.starts_with(prefix));
    // The longest prefix reaches furthest: links between it and a shorter one are the owner's.
    let prefix = prefixes.max_by_key(|prefix| prefix.as_os_str().len()).ok_or_else(refused)?;
    let rest = path.strip_prefix(prefix).expect("it starts with it");
    if rest.as_os_str().is_empty() {
        return open(prefix, flags, Mode::empty()).map_err(failed);
    }
    let root = open(prefix, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(failed)?;
    let how = OpenHow::new()
        .flags(flags)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    match openat2(&root, rest, how) {
        Err(Errno::ENOSYS | Errno::EPERM) => {
            let io = |source| FileError::Io { what: "open", path: path.to_owned(), source };
            let real_prefix = fs::canonicalize(prefix).map_err(io)?;
            let real = fs::canonicalize(path).map_err(io)?;
            if !real.starts_with(&real_prefix) {
                return Err(refused());
            }
            open(&real, flags | OFlag::O_NOFOLLOW, Mode::empty()).map_err(failed)
        }
        other => other.map_err(failed),
    }
}

/// A file under construction beside its target; gone again unless [`NewFile::install`] is reached.
#[derive(Debug)]
pub struct NewFile {
    folder: OwnedFd,
    file: File,
    temporary: String,
    path: PathBuf,
    is_installed: bool,
}

impl NewFile {
    /// Makes an empty file in the target's folder, which must exist.
    pub fn create(allowed: &[PathBuf], path: &Path, unique: &str) -> Result<Self, FileError> {
        let refused = || FileError::NotAllowed { path: path.to_owned() };
        let parent = path.parent().ok_or_else(refused)?;
        if allowed.iter().all(|prefix| !path.starts_with(prefix)) {
            return Err(refused());
        }
        // When the file itself is what is allowed, its folder is as it is.
        let folder = match open_below(allowed, parent, OFlag::O_RDONLY | OFlag::O_DIRECTORY) {
            Err(FileError::NotAllowed { .. }) if allowed.iter().any(|prefix| prefix == path) => {
                open(parent, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
                    .map_err(|errno| FileError::Io {
                        what: "open",
                        path: parent.to_owned(),
                        source: errno.into(),
                    })?
            }
            other => other?,
        };
        let temporary = format!(".quarterdeck-{unique}.part");
        let flags =
            OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        // A leftover of a crash has the same name.
        let _ = unlinkat(&folder, temporary.as_str(), UnlinkatFlags::NoRemoveDir);
        let fd = openat(&folder, temporary.as_str(), flags, Mode::from_bits_truncate(0o600))
            .map_err(|errno| FileError::Io {
                what: "write beside",
                path: path.to_owned(),
                source: errno.into(),
            })?;
        Ok(Self {
            folder,
            file: File::from(fd),
            temporary,
            path: path.to_owned(),
            is_installed: false,
        })
    }

    pub fn write(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        self.file.write_all(bytes).map_err(|source| self.failed("write", source))
    }

    /// Puts the file in its place at once, with everything on the disk.
    pub fn install(mut self, mode: u32) -> Result<(), FileError> {
        let name: &OsStr =
            self.path.file_name().ok_or_else(|| FileError::NotAFile { path: self.path.clone() })?;
        let done = fchmod(&self.file, Mode::from_bits_truncate(mode))
            .map_err(io::Error::from)
            .and_then(|()| self.file.sync_all())
            .and_then(|()| {
                renameat(&self.folder, self.temporary.as_str(), &self.folder, name)
                    .map_err(io::Error::from)
            })
            .and_then(|()| File::from(self.folder.try_clone()?).sync_all());
        done.map_err(|source| self.failed("install", source))?;
        self.is_installed = true;
        Ok(())
    }

    fn failed(&self, what: &'static str, source: io::Error) -> FileError {
        FileError::Io { what, path: self.path.clone(), source }
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.is_installed {
            let _ = unlinkat(&self.folder, self.temporary.as_str(), UnlinkatFlags::NoRemoveDir);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    struct Place {
        _folder: tempfile::TempDir,
        allowed: Vec<PathBuf>,
        inside: PathBuf,
        outside: PathBuf,
    }

    fn place() -> Place {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let (inside, outside) = (root.join("inside"), root.join("outside"));
        fs::create_dir(&inside).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("secret"), "s").unwrap();
        fs::write(inside.join("open"), "o").unwrap();
        Place { _folder: folder, allowed: vec![inside.clone()], inside, outside }
    }

    fn push(place: &Place, path: &Path) -> Result<(), FileError> {
        let mut file = NewFile::create(&place.allowed, path, "test")?;
        file.write(b"new")?;
        file.install(0o640)
    }

    #[test]
    fn only_files_below_an_allowed_path_are_read() {
        let place = place();
        assert!(open_to_read(&place.allowed, &place.inside.join("open")).is_ok());
        for path in [place.outside.join("secret"), place.inside.with_file_name("insider")] {
            let error = open_to_read(&place.allowed, &path).unwrap_err();
            assert!(matches!(error, FileError::NotAllowed { .. }), "{error}");
        }
        let error = open_to_read(&place.allowed, &place.inside).unwrap_err();
        assert!(matches!(error, FileError::NotAFile { .. }), "{error}");
    }

    #[test]
    fn a_link_that_leads_out_is_not_followed() {
        let place = place();
        symlink(place.outside.join("secret"), place.inside.join("file-link")).unwrap();
        symlink(&place.outside, place.inside.join("folder-link")).unwrap();
        symlink("open", place.inside.join("good-link")).unwrap();
        for name in ["file-link", "folder-link/secret"] {
            let error = open_to_read(&place.allowed, &place.inside.join(name)).unwrap_err();
            assert!(matches!(error, FileError::NotAllowed { .. }), "{name}: {error}");
        }
        assert!(open_to_read(&place.allowed, &place.inside.join("good-link")).is_ok());
        let error = push(&place, &place.inside.join("folder-link/new")).unwrap_err();
        assert!(matches!(error, FileError::NotAllowed { .. }), "{error}");
        assert!(!place.outside.join("new").exists());
        // A link that is itself the target is replaced, not followed.
        push(&place, &place.inside.join("file-link")).unwrap();
        assert_eq!(fs::read(place.outside.join("secret")).unwrap(), b"s");
        assert_eq!(fs::read(place.inside.join("file-link")).unwrap(), b"new");
    }

    #[test]
    fn a_new_file_appears_whole_with_its_mode_or_not_at_all() {
        let place = place();
        let path = place.inside.join("new");
        push(&place, &path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        let mut given_up = NewFile::create(&place.allowed, &path, "test").unwrap();
        given_up.write(b"half").unwrap();
        drop(given_up);
        assert_eq!(fs::read(&path).unwrap(), b"new");
        let left: Vec<_> = fs::read_dir(&place.inside).unwrap().collect();
        assert_eq!(left.len(), 2, "{left:?}");
    }

    #[test]
    fn a_single_file_can_be_allowed() {
        let mut place = place();
        let path = place.inside.join("open");
        place.allowed = vec![path.clone()];
        push(&place, &path).unwrap();
        assert!(open_to_read(&place.allowed, &path).is_ok());
        assert!(push(&place, &place.inside.join("other")).is_err());
    }
}
