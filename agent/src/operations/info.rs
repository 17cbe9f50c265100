//! Operations that only look: `ping`, `system_info`, `list_processes`, `disk_usage`.

use std::{
    collections::{HashMap, HashSet},
    fs, thread,
    time::Duration,
};

use nix::unistd::{Uid, User};
use quarterdeck_protocol::{
    command::error_code,
    payload::{DiskUsage, ListProcesses, ProcessOrder},
    text,
};
use serde_json::{Value, json};

use super::{Context, fail, result};
use crate::{
    domain::command::Outcome,
    io::{host, procfs},
    work::WorkEnd,
};

/// Over how long the use of CPU is measured, in milliseconds.
const CPU_SAMPLE_MS: u64 = 300;
/// The longest command line that is shown, in bytes: 200 of them fit a result.
const COMMAND_MAX_BYTES: usize = 96;
const FILE_SYSTEMS_MAX: usize = 100;

/// The server measures the round trip; the device adds its own times.
pub(super) fn ping(context: &Context) -> Outcome {
    Outcome::result(json!({
        "at": context.clock.wall(),
        "agent_version": env!("CARGO_PKG_VERSION"),
        "uptime_s": host::uptime_s(),
    }))
}

pub(super) fn system_info() -> WorkEnd {
    let mut info: serde_json::Map<String, Value> = host::facts().into_iter().collect();
    info.insert("agent_version".to_owned(), env!("CARGO_PKG_VERSION").into());
    info.insert("uptime_s".to_owned(), json!(host::uptime_s()));
    info.insert("load".to_owned(), json!(host::load()));
    if let Ok(boot_id) = host::boot_id() {
        info.insert("boot_id".to_owned(), boot_id.into());
    }
    if let Some(memory) = host::memory() {
        info.insert("memory_available_bytes".to_owned(), memory.available_bytes.into());
        info.insert("swap_total_bytes".to_owned(), memory.swap_total_bytes.into());
        info.insert("swap_free_bytes".to_owned(), memory.swap_free_bytes.into());
    }
    if let Some(model) = cpu_model() {
        info.insert("cpu_model".to_owned(), model.into());
    }
    result(Value::Object(info))
}

fn cpu_model() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line =
        text.lines().find(|line| line.starts_with("model name") || line.starts_with("Model"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

pub(super) fn list_processes(payload: &ListProcesses) -> WorkEnd {
    let before: HashMap<_, _> = procfs::all()
        .into_iter()
        .map(|stat| ((stat.pid, stat.start_ticks), stat.cpu_ticks))
        .collect();
    thread::sleep(Duration::from_millis(CPU_SAMPLE_MS));
    let (tick_rate, page_bytes) = (host::ticks_per_second() as f64, host::page_bytes());
    let sample_s = CPU_SAMPLE_MS as f64 / 1000.0;
    let mut rows: Vec<_> = procfs::all()
        .into_iter()
        .map(|stat| {
            let earlier = before.get(&(stat.pid, stat.start_ticks)).copied().unwrap_or(0);
            let used_s = stat.cpu_ticks.saturating_sub(earlier) as f64 / tick_rate;
            let cpu_percent = (used_s / sample_s * 1000.0).round() / 10.0;
            (stat, cpu_percent)
        })
        .collect();
    let total = rows.len();
    match payload.sort {
        ProcessOrder::Cpu => rows.sort_by(|(a, a_cpu), (b, b_cpu)| {
            b_cpu.total_cmp(a_cpu).then(b.cpu_ticks.cmp(&a.cpu_ticks))
        }),
        ProcessOrder::Memory => {
            rows.sort_by_key(|(stat, _)| std::cmp::Reverse(stat.resident_pages));
        }
        ProcessOrder::Pid => rows.sort_by_key(|(stat, _)| stat.pid),
    }
    rows.truncate(payload.limit as usize);
    let mut users = HashMap::new();
    let processes: Vec<Value> = rows
        .into_iter()
        .map(|(stat, cpu_percent)| {
            json!({
                "pid": stat.pid,
                "user": user_of(stat.pid, &mut users),
                "state": stat.state.to_string(),
                "cpu_percent": cpu_percent,
                "memory_bytes": stat.resident_pages * page_bytes,
                "command": command_of(stat.pid).unwrap_or_else(|| format!("[{}]", stat.name)),
            })
        })
        .collect();
    result(json!({ "processes": processes, "total": total }))
}

fn user_of(pid: i32, known: &mut HashMap<u32, String>) -> Option<String> {
    use std::os::unix::fs::MetadataExt as _;
    let uid = fs::metadata(format!("/proc/{pid}")).ok()?.uid();
    let name = known.entry(uid).or_insert_with(|| {
        let user = User::from_uid(Uid::from_raw(uid)).ok().flatten();
        user.map_or_else(|| uid.to_string(), |user| user.name)
    });
    Some(name.clone())
}

fn command_of(pid: i32) -> Option<String> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let words = String::from_utf8_lossy(&bytes).trim_end_matches('\0').replace('\0', " ");
    (!words.is_empty()).then(|| text::truncate_bytes(&words, COMMAND_MAX_BYTES).to_owned())
}

pub(super) fn disk_usage(payload: &DiskUsage) -> WorkEnd {
    let Ok(mounts) = fs::read_to_string("/proc/self/mounts") else {
        return fail(error_code::INTERNAL, "cannot read the list of file systems");
    };
    let mounts: Vec<_> = mounts.lines().filter_map(Mount::parse).collect();
    let wanted: Vec<&Mount> = if let Some(path) = &payload.path {
        let real = match fs::canonicalize(path) {
            Ok(real) => real,
            Err(error) => {
                return fail(error_code::REJECTED, format!("payload.path: {path}: {error}"));
            }
        };
        // Later lines are mounted over earlier ones.
        mounts
            .iter()
            .rev()
            .filter(|mount| real.starts_with(&mount.folder))
            .max_by_key(|mount| mount.folder.len())
            .into_iter()
            .collect()
    } else {
        let mut devices = HashSet::new();
        mounts.iter().filter(|mount| mount.is_storage() && devices.insert(&mount.device)).collect()
    };
    let file_systems: Vec<Value> = wanted
        .into_iter()
        .take(FILE_SYSTEMS_MAX)
        .filter_map(|mount| {
            let (total, free, available) = host::disk(&mount.folder).ok()?;
            Some(json!({
                "mount": mount.folder, "device": mount.device, "type": mount.kind,
                "total_bytes": total, "used_bytes": total.saturating_sub(free), "available_bytes": available,
            }))
        })
        .collect();
    result(json!({ "file_systems": file_systems }))
}

struct Mount {
    device: String,
    folder: String,
    kind: String,
}

impl Mount {
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split(' ').map(unescape);
        Some(Self { device: fields.next()?, folder: fields.next()?, kind: fields.next()? })
    }

    /// Whether it stores anything: not one of the kernel's own views.
    fn is_storage(&self) -> bool {
        self.device.starts_with('/')
            || matches!(
                self.kind.as_str(),
                "nfs" | "nfs4" | "cifs" | "zfs" | "overlay" | "9p" | "virtiofs"
            )
    }
}

/// Spaces and the like stand as `\040` in the list of mounts.
fn unescape(field: &str) -> String {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = (*first == b'\\')
            .then(|| after.get(..3))
            .flatten()
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        if let Some(byte) = code {
            out.push(byte);
            rest = &after[3..];
        } else {
            out.push(*first);
            rest = after;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_point_with_a_space_is_read() {
        let mount = Mount::parse("/dev/sda1 /media/my\\040disk ext4 rw 0 0").expect("valid");
        assert_eq!((mount.folder.as_str(), mount.is_storage()), ("/media/my disk", true));
        assert_eq!(unescape("a\\04"), "a\\04");
    }

    #[test]
    fn the_busiest_processes_are_listed_up_to_the_limit() {
        let payload = ListProcesses { sort: ProcessOrder::Memory, limit: 2 };
        let outcome = list_processes(&payload).expect("works").result.expect("a result");
        let sizes: Vec<u64> = outcome["processes"]
            .as_array()
            .expect("a list")
            .iter()
            .filter_map(|p| p["memory_bytes"].as_u64())
            .collect();
        assert_eq!(sizes.len(), 2);
        assert!(sizes[0] >= sizes[1]);
    }

    #[test]
    fn two_hundred_processes_fit_a_result() {
        let row = json!({"pid": 1_234_567, "user": "x".repeat(32), "state": "S", "cpu_percent": 100.1, "memory_bytes": 99_999_999_999_u64, "command": "x".repeat(COMMAND_MAX_BYTES)});
        let all = json!({ "processes": vec![row; 200], "total": 100_000 });
        assert!(result(all).is_ok());
    }

    #[test]
    fn the_file_system_of_a_path_is_found() {
        let outcome = disk_usage(&DiskUsage { path: Some("/tmp".to_owned()) }).expect("works");
        let list = outcome.result.expect("a result")["file_systems"].clone();
        assert_eq!(list.as_array().map(Vec::len), Some(1), "{list}");
    }
}
