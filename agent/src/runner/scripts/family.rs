//! All processes that came from a script, and how they are ended.
//!
//! | the script | its processes are found by |
//! | --- | --- |
//! | was born in a control group | the group's own list |
//! | else | group, descent, or mark, in one look at all processes of the host |
//!
//! A look costs as much as the host has processes, and scripts end in masses: all time-outs of
//! a minute, or the agent's own stop. So whoever asks while a look is being taken waits for the
//! next one, which serves all that wait.

use std::{
    collections::{HashMap, HashSet},
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill, killpg},
    unistd::{Pid, getpgid},
};
use tokio::sync::oneshot;

use crate::{
    io::{
        cgroup::Cgroup,
        procfs::{self, Stat},
    },
    journal::record::ProcessId,
};

/// The variable that marks every process of a script.
pub(super) const MARK: &str = "QUARTERDECK_WORKFLOW_COMMAND";
/// Rounds of killing: each finds what the one before left being born, or dying.
const KILL_ROUNDS: usize = 100;
/// Between two rounds, for what was killed to die, in milliseconds.
const KILL_PAUSE_MS: u64 = 5;

/// How the processes of a script are told from all others.
#[derive(Debug, Clone)]
pub(super) struct Family {
    /// The group that the script leads.
    pub group: i32,
    /// None of them was born before.
    pub since_ticks: u64,
    pub mark: String,
    pub cgroup: Arc<Cgroup>,
    /// Each of them was born in the control group.
    pub is_in_cgroup: bool,
    pub endings: Arc<Endings>,
}

/// With which signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// SIGTERM, once for each; the script itself has not been reaped yet.
    Terminate,
    /// SIGKILL, until none is left.
    Kill,
}

/// Who asks for processes to be ended, and waits for it.
#[derive(Debug)]
pub(super) struct Endings {
    /// Lists all processes of the host.
    list: fn() -> Vec<Stat>,
    asked: Mutex<Asked>,
}

#[derive(Debug, Default)]
struct Asked {
    waiting: Vec<Asking>,
    /// Somebody serves them.
    is_served: bool,
}

#[derive(Debug)]
struct Asking {
    family: Family,
    ending: Ending,
    done: oneshot::Sender<()>,
}

impl Endings {
    pub(super) fn new(list: fn() -> Vec<Stat>) -> Arc<Self> {
        Arc::new(Self { list, asked: Mutex::default() })
    }

    fn asked(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves all that ask, until nobody does.
    fn serve(&self) {
        loop {
            let batch = {
                let mut asked = self.asked();
                asked.is_served = !asked.waiting.is_empty();
                mem::take(&mut asked.waiting)
            };
            if batch.is_empty() {
                return;
            }
            self.end_all(&batch);
            for asking in batch {
                // Who asked may have been dropped.
                let _ = asking.done.send(());
            }
        }
    }

    fn end_all(&self, batch: &[Asking]) {
        let of = |ending| {
            let wanted = batch.iter().filter(move |asking| asking.ending == ending);
            wanted.map(|asking| &asking.family)
        };
        let killed: Vec<_> = of(Ending::Kill).collect();
        let oldest = killed.iter().map(|family| family.since_ticks).min();
        let mut look = Look::new((self.list)(), oldest);
        for family in of(Ending::Terminate) {
            family.terminate(&look);
        }
        for family in &killed {
            family.cgroup.kill();
        }
        for _ in 0..KILL_ROUNDS {
            let found = killed.iter().filter(|family| family.kill(&look)).count();
            if found == 0 {
                return;
            }
            thread::sleep(Duration::from_millis(KILL_PAUSE_MS));
            look = Look::new((self.list)(), oldest);
        }
    }
}

impl Family {
    /// Ends all of it.
    pub(super) async fn end(&self, ending: Ending) {
        let family = self.clone();
        if self.is_in_cgroup {
            return on_another_thread(move || family.end_in_cgroup(ending)).await;
        }
        let (done, is_done) = oneshot::channel();
        let is_served = {
            let mut asked = self.endings.asked();
            asked.waiting.push(Asking { family, ending, done });
            mem::replace(&mut asked.is_served, true)
        };
        if !is_served {
            let endings = Arc::clone(&self.endings);
            tokio::spawn(on_another_thread(move || endings.serve()));
        }
        // It is dropped unsaid only together with the agent.
        let _ = is_done.await;
    }

    fn terminate(&self, look: &Look) {
        // Found before any is told: who loses its parent is no descendant any more.
        let descendants = look.descendants(self.group);
        signal_group(self.group, Signal::SIGTERM);
        for stat in descendants.iter().filter(|stat| stat.group != self.group) {
            let _ = kill(Pid::from_raw(stat.pid), Signal::SIGTERM);
        }
    }

    /// Says whether there was anybody to kill.
    fn kill(&self, look: &Look) -> bool {
        let is_later = |stat: &&Stat| stat.start_ticks >= self.since_ticks;
        let in_group = look.group(self.group).filter(is_later).count();
        if in_group > 0 {
            // In one go, so that none of the group is born between.
            signal_group(self.group, Signal::SIGKILL);
        }
        let others = look.descendants(self.group);
        let others = others.into_iter().chain(look.marked(&self.mark)).filter(is_later);
        let others: Vec<_> = others.filter(|stat| stat.group != self.group).collect();
        for stat in &others {
            let _ = kill(Pid::from_raw(stat.pid), Signal::SIGKILL);
        }
        in_group > 0 || !others.is_empty()
    }

    fn end_in_cgroup(&self, ending: Ending) {
        match ending {
            Ending::Kill => self.cgroup.kill(),
            Ending::Terminate => {
                let group = Pid::from_raw(self.group);
                let members = self.cgroup.members();
                let members = members.into_iter().map(Pid::from_raw);
                let others = members.filter(|pid| getpgid(Some(*pid)) != Ok(group));
                let others: Vec<_> = others.collect();
                signal_group(self.group, Signal::SIGTERM);
                for pid in others {
                    let _ = kill(pid, Signal::SIGTERM);
                }
            }
        }
    }
}

/// All processes of the host at one time, as they are asked for.
struct Look {
    living: Vec<Stat>,
    /// Of parent, of group, of mark: places in `living`, or of the dead, whose children live.
    children: HashMap<i32, Vec<i32>>,
    by_pid: HashMap<i32, usize>,
    by_group: HashMap<i32, Vec<usize>>,
    by_mark: HashMap<String, Vec<usize>>,
}

impl Look {
    /// Reads marks of those born at `oldest` or later only, and none without it.
    fn new(stats: Vec<Stat>, oldest: Option<u64>) -> Self {
        let mut children: HashMap<_, Vec<_>> = HashMap::new();
        for stat in &stats {
            children.entry(stat.parent).or_default().push(stat.pid);
        }
        let living: Vec<_> = stats.into_iter().filter(Stat::is_alive).collect();
        let mut look = Self {
            children,
            by_pid: HashMap::new(),
            by_group: HashMap::new(),
            by_mark: HashMap::new(),
            living: Vec::new(),
        };
        for (at, stat) in living.iter().enumerate() {
            look.by_pid.insert(stat.pid, at);
            look.by_group.entry(stat.group).or_default().push(at);
            let is_wanted = oldest.is_some_and(|oldest| stat.start_ticks >= oldest);
            if let Some(mark) = is_wanted.then(|| marked(stat.pid)).flatten() {
                look.by_mark.entry(mark).or_default().push(at);
            }
        }
        Self { living, ..look }
    }

    fn group(&self, group: i32) -> impl Iterator<Item = &Stat> {
        self.at(self.by_group.get(&group))
    }

    fn marked(&self, mark: &str) -> impl Iterator<Item = &Stat> {
        self.at(self.by_mark.get(mark))
    }

    fn at(&self, places: Option<&Vec<usize>>) -> impl Iterator<Item = &Stat> {
        let places = places.map_or(&[][..], Vec::as_slice).iter();
        places.filter_map(|at| self.living.get(*at))
    }

    /// Those that live; a dead one leads to its children all the same.
    fn descendants(&self, root: i32) -> Vec<&Stat> {
        let mut found = Vec::new();
        let mut parents = vec![root];
        let mut seen = HashSet::from([root]);
        while let Some(parent) = parents.pop() {
            for pid in self.children.get(&parent).into_iter().flatten() {
                if seen.insert(*pid) {
                    parents.push(*pid);
                    found.extend(self.by_pid.get(pid).and_then(|at| self.living.get(*at)));
                }
            }
        }
        found
    }
}

/// Kills what carries one of these marks, until none is left; gives how many there were.
pub(super) fn kill_marked(marks: &HashSet<String>) -> usize {
    let mut killed: Vec<ProcessId> = Vec::new();
    for _ in 0..KILL_ROUNDS {
        let is_meant = |stat: &Stat| {
            stat.is_alive() && marked(stat.pid).is_some_and(|mark| marks.contains(&mark))
        };
        let found: Vec<_> = procfs::all().into_iter().filter(is_meant).collect();
        if found.is_empty() {
            break;
        }
        for stat in &found {
            let _ = kill(Pid::from_raw(stat.pid), Signal::SIGKILL);
        }
        let anew = found.iter().map(Stat::id).filter(|id| !killed.contains(id));
        killed.extend(anew.collect::<Vec<_>>());
        thread::sleep(Duration::from_millis(KILL_PAUSE_MS));
    }
    procfs::wait_gone(&killed);
    killed.len()
}

fn signal_group(group: i32, signal: Signal) {
    // 0 and 1 mean others than a script.
    if group > 1 {
        let _ = killpg(Pid::from_raw(group), signal);
    }
}

/// Reads the mark in a process's environment.
fn marked(pid: i32) -> Option<String> {
    let environment = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
    let prefix = format!("{MARK}=");
    let mut variables = environment.split(|byte| *byte == 0);
    let mark = variables.find_map(|variable| variable.strip_prefix(prefix.as_bytes()))?;
    String::from_utf8(mark.to_vec()).ok()
}

async fn on_another_thread(work: impl FnOnce() + Send + 'static) {
    if let Err(error) = tokio::task::spawn_blocking(work).await {
        tracing::error!(%error, "ending a script's processes failed");
    }
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::process::CommandExt as _,
        process::{Child, Command},
        sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    };

    use super::*;

    static LOOKS: AtomicUsize = AtomicUsize::new(0);
    static ALL_ASK: AtomicBool = AtomicBool::new(false);
    const SCRIPTS: usize = 20;

    /// The first look lasts until all have asked.
    fn list() -> Vec<Stat> {
        LOOKS.fetch_add(1, Ordering::SeqCst);
        while !ALL_ASK.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        procfs::all()
    }

    fn sleeper(number: usize, endings: &Arc<Endings>) -> (Child, Family) {
        let mark = format!("family-test-{}:{number}", std::process::id());
        let mut command = Command::new("sleep");
        command.arg("1000").env(MARK, &mark).process_group(0);
        let child = command.spawn().expect("it starts");
        let group = i32::try_from(child.id()).expect("a pid");
        let (cgroup, endings) = (Arc::default(), Arc::clone(endings));
        (child, Family { group, since_ticks: 0, mark, cgroup, is_in_cgroup: false, endings })
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn scripts_that_are_ended_together_share_their_looks_at_the_host() {
        let endings = Endings::new(list);
        let mut children = Vec::new();
        let mut tasks = Vec::new();
        for number in 0..SCRIPTS {
            let (child, family) = sleeper(number, &endings);
            children.push(child);
            tasks.push(tokio::spawn(async move { family.end(Ending::Kill).await }));
            // The first has its look; the others come while it lasts.
            while LOOKS.load(Ordering::SeqCst) == 0 || endings.asked().waiting.len() < number {
                tokio::task::yield_now().await;
            }
        }
        ALL_ASK.store(true, Ordering::SeqCst);
        for task in tasks {
            task.await.expect("it ends");
        }
        for mut child in children {
            assert!(!child.wait().expect("it is ours").success());
        }
        let looks = LOOKS.load(Ordering::SeqCst);
        assert!(looks < SCRIPTS, "{looks} looks for {SCRIPTS} scripts");
        // Who served them tells the last one before it finds that nobody else asks.
        let is_at_rest = async {
            while endings.asked().is_served {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), is_at_rest).await.expect("it ends");
    }
}
