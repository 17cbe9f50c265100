//! What `/proc` says of processes: who they are, whose children, and how to
//! find all that came from one.

use std::{collections::HashMap, fs, io, thread, time::Duration};

use nix::{
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};

use crate::journal::record::{ProcessId, ProcessMark};

/// The variable that marks every process of a command.
pub const COMMAND_VARIABLE: &str = "QUARTERDECK_COMMAND_ID";
/// Rounds of killing: each finds what the one before left being born.
const KILL_ROUNDS: usize = 50;
/// How long killed processes are waited for, in milliseconds.
const DEATH_MAX_MS: u64 = 5_000;
const DEATH_POLL_MS: u64 = 2;

/// One process, from `/proc/PID/stat`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
    pub pid: i32,
    pub name: String,
    /// `R`, `S`, `Z`, …
    pub state: char,
    pub parent: i32,
    pub group: i32,
    pub session: i32,
    /// User and system time, in clock ticks.
    pub cpu_ticks: u64,
    pub threads: u64,
    pub start_ticks: u64,
    pub resident_pages: u64,
}

impl Stat {
    /// Reads a line of `/proc/PID/stat`; the name in it may hold anything, parentheses too.
    pub fn parse(line: &str) -> Option<Self> {
        let (pid, rest) = line.split_once(" (")?;
        let (name, rest) = rest.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let number = |n: usize| fields.get(n)?.parse::<u64>().ok();
        let id = |n: usize| fields.get(n)?.parse::<i32>().ok();
        Some(Self {
            pid: pid.trim().parse().ok()?,
            name: name.to_owned(),
            state: fields.first()?.chars().next()?,
            parent: id(1)?,
            group: id(2)?,
            session: id(3)?,
            cpu_ticks: number(11)? + number(12)?,
            threads: number(17)?,
            start_ticks: number(19)?,
            resident_pages: number(21)?,
        })
    }

    pub fn of(pid: i32) -> Option<Self> {
        // Not `read_to_string`: a name may be no UTF-8.
        let bytes = fs::read(format!("/proc/{pid}/stat")).ok()?;
        Self::parse(&String::from_utf8_lossy(&bytes))
    }

    pub const fn is_alive(&self) -> bool {
        !matches!(self.state, 'Z' | 'X' | 'x')
    }

    /// Who it is, even when its number is another's one day.
    pub const fn id(&self) -> ProcessId {
        ProcessId { pid: self.pid, start_ticks: self.start_ticks }
    }
}

/// Reads who a process is.
pub fn identify(pid: i32) -> io::Result<ProcessId> {
    let stat = Stat::of(pid).ok_or(io::ErrorKind::NotFound)?;
    Ok(ProcessId { pid, start_ticks: stat.start_ticks })
}

/// All processes, as far as they can be read.
pub fn all() -> Vec<Stat> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(Stat::of)
        .collect()
}

/// All that descend from `root`, nearest first; zombies are left out, their children are not.
pub fn descendants(root: i32) -> Vec<Stat> {
    let mut children: HashMap<i32, Vec<Stat>> = HashMap::new();
    for stat in all() {
        children.entry(stat.parent).or_default().push(stat);
    }
    let mut found = Vec::new();
    let mut parents = vec![root];
    while let Some(parent) = parents.pop() {
        for child in children.remove(&parent).unwrap_or_default() {
            parents.push(child.pid);
            found.push(child);
        }
    }
    found.retain(Stat::is_alive);
    found
}

/// Sends a signal to all that descend from `root`.
pub fn signal_descendants(root: i32, signal: Signal) -> usize {
    let found = descendants(root);
    for stat in &found {
        // Whoever is gone meanwhile needs no signal.
        let _ = kill(Pid::from_raw(stat.pid), signal);
    }
    found.len()
}

/// Kills all that descend from `root`; `false` if some are still being born.
pub fn kill_descendants(root: i32) -> bool {
    (0..KILL_ROUNDS).any(|_| signal_descendants(root, Signal::SIGKILL) == 0)
}

/// Whether the process lives, and is the one that was noted.
pub fn lives(id: ProcessId) -> bool {
    Stat::of(id.pid).is_some_and(|stat| stat.id() == id && stat.is_alive())
}

/// Kills whatever is left of a command's processes, after its agent went down.
///
/// A process is one of them if it descends from the supervisor, is in the group
/// that the program leads, or carries the command's mark in its environment;
/// whether the numbers still mean the same processes is told by their start
/// times. Returns how many were killed, when they are gone; one that the system
/// holds is waited for [`DEATH_MAX_MS`].
pub fn kill_leftovers(mark: &ProcessMark, command_id: &str, boot_id: &str) -> usize {
    if mark.boot_id != boot_id {
        return 0;
    }
    let mut killed = Vec::new();
    if lives(mark.program) {
        let _ = killpg(Pid::from_raw(mark.program.pid), Signal::SIGKILL);
        killed.push(mark.program);
    }
    for _ in 0..KILL_ROUNDS {
        let mut found =
            if lives(mark.supervisor) { descendants(mark.supervisor.pid) } else { Vec::new() };
        found.extend(all().into_iter().filter(|stat| {
            stat.is_alive()
                && stat.start_ticks >= mark.supervisor.start_ticks
                && carries_mark(stat.pid, command_id)
        }));
        let before = killed.len();
        for id in found.iter().map(Stat::id) {
            // Who was sent the signal takes a moment to die, but forks no more.
            if !killed.contains(&id) {
                let _ = kill(Pid::from_raw(id.pid), Signal::SIGKILL);
                killed.push(id);
            }
        }
        if killed.len() == before {
            break;
        }
    }
    if lives(mark.supervisor) {
        let _ = kill(Pid::from_raw(mark.supervisor.pid), Signal::SIGKILL);
    }
    wait_gone(&killed);
    killed.len()
}

/// Waits until processes that were killed are gone: their memory goes first, and their names last.
pub fn wait_gone(killed: &[ProcessId]) {
    for _ in 0..DEATH_MAX_MS / DEATH_POLL_MS {
        if !killed.iter().any(|id| lives(*id)) {
            return;
        }
        thread::sleep(Duration::from_millis(DEATH_POLL_MS));
    }
}

fn carries_mark(pid: i32, command_id: &str) -> bool {
    let Ok(environment) = fs::read(format!("/proc/{pid}/environ")) else { return false };
    let mark = format!("{COMMAND_VARIABLE}={command_id}");
    environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_does_not_shift_the_fields() {
        let line = "42 (a) b (c) S 1 42 41 0 -1 4194560 1 0 0 0 7 8 0 0 20 0 3 0 999 1000 55 18446744073709551615";
        let stat = Stat::parse(line).expect("valid");
        assert_eq!((stat.pid, stat.name.as_str(), stat.state), (42, "a) b (c", 'S'));
        assert_eq!((stat.parent, stat.group, stat.session), (1, 42, 41));
        assert_eq!((stat.cpu_ticks, stat.threads, stat.start_ticks), (15, 3, 999));
        assert_eq!(stat.resident_pages, 55);
        assert_eq!(Stat::parse("no stat"), None);
    }

    #[test]
    fn a_recycled_process_id_is_another_process() {
        let me = identify(std::process::id() as i32).expect("this process is here");
        assert!(lives(me));
        assert!(!lives(ProcessId { start_ticks: me.start_ticks + 1, ..me }));
    }
}
