//! A control group for each script, where the agent may make one.
//!
//! ```text
//!  agent starts ─▶ places: v1 `pids`, v2; or none
//!  script ─▶ made ─▶ joined with its start ─▶ ended in one go ─▶ removed
//!                                               └ somebody is left ─▶ tried again later
//! ```
//!
//! It does what a process group cannot: it bounds how many processes a script has at
//! once, so that one that forks without end takes down nothing but itself; and it
//! holds all of them, whatever sessions and groups they make. Where there is none, a
//! script is found by its group, by descent and by its mark, and is not bounded.
//!
//! In v1 a thread may be in a group by itself: the one that starts the script goes there,
//! and the script is born in it. In v2 the script is moved once it is there; what it has
//! started by then, in some microseconds, is found as if there were no group.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use sha2::{Digest as _, Sha256};
use tokio::process::{Child, Command};

use super::transfer::hex;

/// Processes and threads that a script may have at once; beyond, it cannot fork.
pub const PROCESSES_MAX: usize = 2_048;
/// Groups whose last process is awaited that are looked at for each new one.
const SWEPT_AT_ONCE: usize = 16;
const PREFIX: &str = "quarterdeck-";
/// Of the hash that tells an agent by.
const NAME_CHARS: usize = 16;
const PROCESSES: &str = "cgroup.procs";
/// Of v1 only: the threads.
const THREADS: &str = "tasks";
/// To these files: who writes it.
const MYSELF: &str = "0";
const LIMIT: &str = "pids.max";
const KILL: &str = "cgroup.kill";

/// Where this agent makes its groups.
#[derive(Debug, Default)]
pub struct Cgroups {
    places: Vec<PathBuf>,
    /// Tells this agent's groups from those of another.
    agent: String,
    made: AtomicU64,
    /// Those that were not empty when their script was over.
    left: Mutex<Vec<PathBuf>>,
}

/// The group of one script: a folder in each place.
#[derive(Debug, Default)]
pub struct Cgroup {
    folders: Vec<PathBuf>,
}

impl Cgroups {
    /// The groups of the agent with this data folder.
    pub fn of(data_dir: &Path) -> Self {
        let digest = Sha256::digest(data_dir.as_os_str().as_encoded_bytes());
        Self::find(&hex(&digest)[..NAME_CHARS])
    }

    /// Finds where groups can be made, and removes what an earlier run of this agent left there.
    pub fn find(agent: &str) -> Self {
        let read = |file| fs::read_to_string(file).unwrap_or_default();
        let places = places(&read("/proc/self/cgroup"), &read("/proc/self/mountinfo"));
        let mut cgroups = Self::default();
        agent.clone_into(&mut cgroups.agent);
        for place in places {
            // Allowed where nothing but groups stands in the place; else there is only `cgroup.kill`.
            let _ = fs::write(place.join("cgroup.subtree_control"), "+pids");
            cgroups.sweep(&place);
            if cgroups.is_of_use(&place) {
                cgroups.places.push(place);
            }
        }
        tracing::debug!(places = ?cgroups.places, "control groups for scripts");
        cgroups
    }

    /// Whether groups can be made here at all.
    pub const fn are_there(&self) -> bool {
        !self.places.is_empty()
    }

    /// Whether they bound how many processes a script has.
    pub fn bounds_processes(&self) -> bool {
        let group = self.make();
        let bounds = group.folders.iter().any(|folder| folder.join(LIMIT).exists());
        self.remove(group);
        bounds
    }

    /// Makes a group; one without a folder where there is none to be had.
    pub fn make(&self) -> Cgroup {
        self.remove_left();
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let mut group = Cgroup::default();
        for place in &self.places {
            let folder = place.join(format!("{PREFIX}{}-{number}", self.agent));
            match make_in(&folder) {
                Ok(()) => group.folders.push(folder),
                Err(error) => tracing::debug!(folder = %folder.display(), %error, "no group"),
            }
        }
        group
    }

    /// Removes a group whose script is over; later, if it left somebody behind.
    pub fn remove(&self, group: Cgroup) {
        let still = group.folders.into_iter().filter(|folder| !is_removed(folder));
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        left.extend(still);
    }

    fn remove_left(&self) {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let swept = left.len().min(SWEPT_AT_ONCE);
        let some: Vec<_> = left.drain(..swept).collect();
        left.extend(some.into_iter().filter(|folder| !is_removed(folder)));
    }

    fn sweep(&self, place: &Path) {
        let own = format!("{PREFIX}{}-", self.agent);
        for entry in fs::read_dir(place).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(&own) {
                let _ = fs::remove_dir(entry.path());
            }
        }
    }

    /// Tries whether a group here bounds its script, or can be ended in one go.
    fn is_of_use(&self, place: &Path) -> bool {
        let trial = place.join(format!("{PREFIX}{}-trial", self.agent));
        let is_of_use =
            make_in(&trial).is_ok() && (trial.join(LIMIT).exists() || trial.join(KILL).exists());
        let _ = fs::remove_dir(trial);
        is_of_use
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        for place in std::mem::take(&mut self.places) {
            self.sweep(&place);
        }
    }
}

impl Cgroup {
    /// Starts a program in the group. Blocks for as long as the kernel takes for it.
    pub fn spawn(&self, command: &mut Command) -> io::Result<Child> {
        let with_threads = || self.folders.iter().filter(|folder| folder.join(THREADS).exists());
        // A group that cannot be joined is one that is missing.
        for folder in with_threads() {
            let _ = fs::write(folder.join(THREADS), MYSELF);
        }
        let started = command.spawn();
        for place in with_threads().filter_map(|folder| folder.parent()) {
            let _ = fs::write(place.join(THREADS), MYSELF);
        }
        if let Some(pid) = started.as_ref().ok().and_then(Child::id) {
            for folder in self.folders.iter().filter(|folder| !folder.join(THREADS).exists()) {
                let _ = fs::write(folder.join(PROCESSES), pid.to_string());
            }
        }
        started
    }

    /// Takes a process in that has not begun anything yet.
    pub fn enter(&self, pid: i32) {
        for folder in &self.folders {
            // A group that cannot be joined is one that is missing.
            let _ = fs::write(folder.join(PROCESSES), pid.to_string());
        }
    }

    /// Ends all that is in the group.
    pub fn kill(&self) {
        for folder in &self.folders {
            if fs::write(folder.join(KILL), "1").is_ok() {
                continue;
            }
            // Nobody in it is born any more, so once over the list is enough.
            let _ = fs::write(folder.join(LIMIT), "0");
            for pid in members(folder) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
    }

    /// Who is in the group.
    pub fn members(&self) -> BTreeSet<i32> {
        self.folders.iter().flat_map(|folder| members(folder)).collect()
    }

    /// Whether a program was born in the group, and so all that it started was too: only a
    /// thread that is in a group by itself bears there. A program that has ended may not be found.
    pub fn is_birthplace_of(&self, pid: i32) -> bool {
        let mut folders = self.folders.iter();
        folders.any(|folder| folder.join(THREADS).exists() && members(folder).contains(&pid))
    }
}

fn members(folder: &Path) -> Vec<i32> {
    let list = fs::read_to_string(folder.join(PROCESSES)).unwrap_or_default();
    list.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid > 1).collect()
}

fn make_in(folder: &Path) -> io::Result<()> {
    fs::create_dir(folder)?;
    let limit = folder.join(LIMIT);
    if limit.exists() { fs::write(limit, PROCESSES_MAX.to_string()) } else { Ok(()) }
}

fn is_removed(folder: &Path) -> bool {
    fs::remove_dir(folder).is_ok() || !folder.exists()
}

/// Finds the folders of the groups that this process is in, in the hierarchies of use here: from
/// `/proc/self/cgroup` and `/proc/self/mountinfo`.
fn places(cgroup: &str, mountinfo: &str) -> Vec<PathBuf> {
    let mut places = Vec::new();
    for line in mountinfo.lines() {
        let Some((mount, file_system)) = line.split_once(" - ") else { continue };
        let mut file_system = file_system.split(' ');
        let kind = file_system.next().unwrap_or_default();
        let options = file_system.next_back().unwrap_or_default();
        let is_pids = |list: &str| list.split(',').any(|word| word == "pids");
        let is_ours = |controllers: &str| match kind {
            "cgroup2" => controllers.is_empty(),
            "cgroup" => is_pids(options) && is_pids(controllers),
            _ => false,
        };
        let mut mount = mount.split(' ').skip(3);
        let (Some(root), Some(point)) = (mount.next(), mount.next()) else { continue };
        let own = cgroup.lines().find_map(|line| {
            let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
            is_ours(controllers).then_some(path)
        });
        let below = own.and_then(|own| Path::new(own).strip_prefix(root).ok());
        places.extend(below.map(|below| Path::new(point).join(below)));
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_places_are_found_in_both_versions() {
        let table: [(&str, &str, &[&str]); 5] = [
            (
                "0::/system.slice/quarterdeck.service\n",
                "29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n",
                &["/sys/fs/cgroup/system.slice/quarterdeck.service"],
            ),
            (
                "9:name=systemd:/\n8:pids:/a\n4:memory:/b\n0::/\n",
                "39 31 0:36 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n\
                 35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                 41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
                &["/sys/fs/cgroup/pids/a", "/sys/fs/cgroup/unified"],
            ),
            // In a container, whose own group is the mount's root.
            (
                "0::/docker/1\n",
                "29 23 0:26 /docker/1 /sys/fs/cgroup rw - cgroup2 cgroup rw\n",
                &["/sys/fs/cgroup"],
            ),
            ("0::/other\n", "29 23 0:26 /docker/1 /sys/fs/cgroup rw - cgroup2 cgroup rw\n", &[]),
            ("", "garbage\n1 2 - cgroup2\n", &[]),
        ];
        for (cgroup, mountinfo, expected) in table {
            let expected: Vec<_> = expected.iter().map(PathBuf::from).collect();
            assert_eq!(places(cgroup, mountinfo), expected, "{mountinfo}");
        }
    }

    #[test]
    fn without_a_place_a_command_runs_as_it_is() {
        let nowhere = Cgroups::default();
        let group = nowhere.make();
        assert!(group.folders.is_empty());
        group.kill();
        nowhere.remove(group);
    }

    /// A group with this script in it; nothing where there is none to be had.
    fn run_in_group(agent: &str, limit: usize, script: &str) -> Option<Running> {
        let cgroups = Cgroups::find(agent);
        let group = cgroups.make();
        let folder = group.folders.iter().find(|folder| folder.join(LIMIT).exists())?.clone();
        fs::write(folder.join(LIMIT), limit.to_string()).expect("it is ours");
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        let child = group.spawn(&mut command).expect("it starts");
        Some(Running { cgroups, group, folder, child })
    }

    struct Running {
        cgroups: Cgroups,
        group: Cgroup,
        folder: PathBuf,
        child: Child,
    }

    impl Running {
        async fn until(&self, holds: impl Fn(&str) -> bool) {
            let read = || fs::read_to_string(self.folder.join(PROCESSES)).unwrap_or_default();
            while !holds(&read()) {
                tokio::task::yield_now().await;
            }
        }
    }

    #[tokio::test]
    async fn what_is_in_a_group_is_ended_in_one_go_also_in_another_session() {
        let script = "setsid sleep 1000 & setsid sleep 1000 & wait";
        let Some(mut running) = run_in_group("test-kill", 100, script) else { return };
        running.until(|members| members.lines().count() == 3).await;
        running.group.kill();
        assert!(!running.child.wait().await.expect("it is ours").success());
        running.until(str::is_empty).await;
        running.cgroups.remove(running.group);
        assert!(!running.folder.exists());
    }

    #[tokio::test]
    async fn a_group_bounds_how_many_processes_there_are() {
        const LIMIT: usize = 12;
        let script = "for i in $(seq 1000); do sleep 1000 & done; wait";
        let Some(mut running) = run_in_group("test-limit", LIMIT, script) else { return };
        // The shell gives up at the first that it cannot start.
        assert!(!running.child.wait().await.expect("it is ours").success());
        running.until(|members| members.lines().count() == LIMIT - 1).await;
        running.group.kill();
        running.until(str::is_empty).await;
        running.cgroups.remove(running.group);
    }

    #[test]
    fn a_group_that_is_not_empty_is_removed_once_it_is() {
        let place = tempfile::tempdir().expect("a folder");
        let folder = place.path().join("group");
        fs::create_dir_all(folder.join("somebody")).expect("made");
        let cgroups = Cgroups::default();
        cgroups.remove(Cgroup { folders: vec![folder.clone()] });
        cgroups.make();
        assert!(folder.exists());
        fs::remove_dir(folder.join("somebody")).expect("removed");
        cgroups.make();
        assert!(!folder.exists());
    }
}
