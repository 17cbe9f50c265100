//! How benchmarks print a figure beside its peer's.
//!
//! ```text
//! fan-out of one command to 10,000 devices
//!   Quarterdeck, all rows durable        21,300 commands/s
//!   Mosquitto, nothing stored             9,700 commands/s
//!   ratio, median of 3                     2.20 ×            wanted ≥ 2.0: held
//! ```
//!
//! A figure that does not hold is said, and changes the exit code only with
//! `--strict`: a busy machine is no reason to fail a build.

use std::{env, fmt, fs, process::ExitCode, time::Duration};

use anyhow::{Context, Result};
use nix::{
    time::{clock_getcpuclockid, clock_gettime},
    unistd::Pid,
};

/// What a benchmark was asked on its command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// A small, quick run: whether it works, not how fast it is.
    pub short: bool,
    /// A figure that does not hold fails the run.
    pub strict: bool,
    /// The one part that is to be measured; all of them without.
    only: Option<&'static str>,
}

impl Options {
    pub fn from_args() -> Self {
        Self::from_args_with(&[])
    }

    /// Of a benchmark of which a part can be measured alone, with `--PART`.
    pub fn from_args_with(parts: &[&'static str]) -> Self {
        let mut options = Self::default();
        for arg in env::args().skip(1) {
            let name = arg.strip_prefix("--");
            let part = parts.iter().find(|part| name == Some(**part));
            match (name, part) {
                (Some("short"), _) => options.short = true,
                (Some("strict"), _) => options.strict = true,
                // Cargo's own.
                (Some("bench"), _) => {}
                (_, Some(part)) if options.only.is_none() => options.only = Some(part),
                _ => {
                    eprintln!("not {arg}: there are --short, --strict, and --PART of {parts:?}");
                    std::process::exit(2);
                }
            }
        }
        options
    }

    /// Whether this part is to be measured.
    pub fn wants(self, part: &str) -> bool {
        self.only.is_none_or(|only| only == part)
    }

    /// The first in a short run, else the second.
    pub fn pick<T>(self, short: T, full: T) -> T {
        if self.short { short } else { full }
    }
}

/// What a figure must be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Wanted {
    AtLeast(f64),
    AtMost(f64),
}

impl Wanted {
    fn is_held_by(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::AtMost(most) => value <= most,
        }
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(least) => write!(f, "≥ {}", number(*least)),
            Self::AtMost(most) => write!(f, "≤ {}", number(*most)),
        }
    }
}

/// Prints one benchmark's figures as they come.
#[derive(Debug)]
pub struct Report {
    options: Options,
    missed: u32,
    begun: Option<Used>,
}

impl Report {
    pub fn new(options: Options, title: &str) -> Self {
        let short = if options.short { "  (short run: figures mean little)" } else { "" };
        println!("{title}{short}");
        Self { options, missed: 0, begun: Used::so_far() }
    }

    /// A figure to look at.
    pub fn line(&self, what: &str, value: f64, unit: &str) {
        println!("  {what:<44}{:>14} {unit}", number(value));
    }

    /// A figure that was promised.
    pub fn promised(&mut self, what: &str, value: f64, unit: &str, wanted: Wanted) {
        let held = wanted.is_held_by(value);
        self.missed += u32::from(!held);
        let verdict = if held { "held" } else { "MISSED" };
        println!("  {what:<44}{:>14} {unit:<16} wanted {wanted}: {verdict}", number(value));
    }

    pub fn finish(self) -> ExitCode {
        if let (Some(begun), Some(now)) = (self.begun, Used::so_far()) {
            let percent = now.taken_since(begun);
            self.line("of the processors, taken by the machine's host", percent, "%");
        }
        if self.missed > 0 && self.options.strict && !self.options.short {
            return ExitCode::FAILURE;
        }
        ExitCode::SUCCESS
    }
}

/// How the processors were used, in ticks: a virtual machine's host may take them away, and then
/// the tail of any latency is the host's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Used {
    busy: u64,
    taken: u64,
}

impl Used {
    /// Since the machine began; `None` where the kernel does not say.
    fn so_far() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/stat").ok()?)
    }

    /// Reads the first line: user, nice, system, idle, iowait, irq, softirq, steal.
    fn parse(stat: &str) -> Option<Self> {
        let numbers = stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace();
        let ticks: Vec<u64> = numbers.map_while(|number| number.parse().ok()).collect();
        let taken = *ticks.get(7)?;
        Some(Self { busy: ticks[..3].iter().chain(&ticks[5..7]).sum(), taken })
    }

    /// In per cent of the time that something wanted to run.
    fn taken_since(self, begun: Self) -> f64 {
        let (busy, taken) =
            (self.busy.saturating_sub(begun.busy), self.taken.saturating_sub(begun.taken));
        taken as f64 * 100.0 / (busy + taken).max(1) as f64
    }
}

/// The middle of some numbers.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => sorted[count / 2],
        count => f64::midpoint(sorted[count / 2 - 1], sorted[count / 2]),
    }
}

/// The smallest of some numbers that `percent` of them do not exceed.
pub fn percentile(values: &[f64], percent: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (percent / 100.0 * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

/// The resident memory of a process, in bytes.
pub fn resident_bytes(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("no VmRSS")?;
    let kilobytes: u64 = line.split_whitespace().nth(1).context("no VmRSS")?.parse()?;
    Ok(kilobytes * 1024)
}

/// The CPU time that a process has used, with that of its threads that have ended.
pub fn cpu_time(pid: u32) -> Result<Duration> {
    let clock = clock_getcpuclockid(Pid::from_raw(pid.try_into()?))?;
    Ok(clock_gettime(clock)?.into())
}

fn number(value: f64) -> String {
    if value.abs() < 100.0 {
        return format!("{value:.2}");
    }
    let digits = format!("{:.0}", value.abs());
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    if value < 0.0 { format!("-{out}") } else { out }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_printed_for_people() {
        for (value, text) in [(2.2, "2.20"), (70_123.4, "70,123"), (1_234_567.0, "1,234,567")] {
            assert_eq!(number(value), text);
        }
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        let hundred: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        for percent in [1.0, 50.0, 99.0, 100.0] {
            assert!((percentile(&hundred, percent) - percent).abs() < f64::EPSILON);
        }
        assert!(Wanted::AtLeast(2.0).is_held_by(2.0) && !Wanted::AtMost(1.0).is_held_by(1.1));
    }

    #[test]
    fn what_the_host_takes_is_of_the_time_that_was_asked_for() {
        let at = |stat| Used::parse(stat).expect("readable");
        let begun = at("cpu  10 0 10 500 7 0 0 5 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n");
        let now = at("cpu  50 0 20 900 9 5 5 25 0 0\n");
        assert!((now.taken_since(begun) - 25.0).abs() < f64::EPSILON);
        assert_eq!(Used::parse("intr 5\n"), None);
    }

    #[test]
    fn a_process_has_memory_and_uses_time() {
        let pid = std::process::id();
        assert!(resident_bytes(pid).expect("read") > 100_000);
        assert!(cpu_time(pid).expect("read") > Duration::ZERO);
    }
}
