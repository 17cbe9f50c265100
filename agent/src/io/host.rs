//! What the kernel says of the host: facts that stay, and resources that change.

use std::{collections::BTreeMap, fs, io, path::PathBuf};

use nix::{
    sys::{statvfs::statvfs, utsname::uname},
    unistd::{SysconfVar, sysconf},
};
use serde_json::{Map, Value, json};

/// The kernel's name of this boot.
const BOOT_ID_FILE: &str = "/proc/sys/kernel/random/boot_id";
/// Names another file instead, so that a reboot can be tried without one.
pub const BOOT_ID_VARIABLE: &str = "QUARTERDECK_AGENT_BOOT_ID_FILE";

/// Reads which boot this is.
pub fn boot_id() -> io::Result<String> {
    let path =
        std::env::var_os(BOOT_ID_VARIABLE).map_or_else(|| BOOT_ID_FILE.into(), PathBuf::from);
    let text = fs::read_to_string(&path)?.trim().to_owned();
    if text.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{} is empty", path.display()),
        ));
    }
    Ok(text)
}

fn line_of(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    (!line.is_empty()).then(|| line.chars().take(200).collect())
}

fn os_name() -> Option<String> {
    let text = fs::read_to_string("/etc/os-release").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    Some(line.trim_matches('"').to_owned())
}

/// Reads what does not change while the host runs.
pub fn facts() -> BTreeMap<String, Value> {
    let mut facts = BTreeMap::new();
    let mut add = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            facts.insert(key.to_owned(), value);
        }
    };
    if let Ok(name) = uname() {
        add("kernel", Some(name.release().to_string_lossy().into()));
        add("arch", Some(name.machine().to_string_lossy().into()));
        add("hostname", Some(name.nodename().to_string_lossy().into()));
    }
    add("os", Some(os_name().unwrap_or_else(|| "Linux".to_owned()).into()));
    add("cpus", cpus().map(Value::from));
    add("memory_bytes", memory().map(|memory| memory.total_bytes.into()));
    add(
        "model",
        line_of("/proc/device-tree/model")
            .or_else(|| line_of("/sys/class/dmi/id/product_name"))
            .map(Value::from),
    );
    facts
}

pub fn cpus() -> Option<i64> {
    sysconf(SysconfVar::_NPROCESSORS_ONLN).ok().flatten()
}

/// Ticks of a process's CPU time in a second.
pub fn ticks_per_second() -> u64 {
    sysconf(SysconfVar::CLK_TCK).ok().flatten().map_or(100, |ticks| ticks.max(1) as u64)
}

pub fn page_bytes() -> u64 {
    sysconf(SysconfVar::PAGE_SIZE).ok().flatten().map_or(4096, |bytes| bytes as u64)
}

/// The host's memory.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    pub total_bytes: u64,
    pub available_bytes: u64,
    pub swap_total_bytes: u64,
    pub swap_free_bytes: u64,
}

pub fn memory() -> Option<Memory> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let of = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key))?;
        line.trim_start_matches(':').split_ascii_whitespace().next()?.parse::<u64>().ok()
    };
    Some(Memory {
        total_bytes: of("MemTotal")? * 1024,
        available_bytes: of("MemAvailable")? * 1024,
        swap_total_bytes: of("SwapTotal").unwrap_or(0) * 1024,
        swap_free_bytes: of("SwapFree").unwrap_or(0) * 1024,
    })
}

pub fn load() -> Option<[f64; 3]> {
    let text = fs::read_to_string("/proc/loadavg").ok()?;
    let mut numbers = text.split_ascii_whitespace().map(str::parse);
    Some([numbers.next()?.ok()?, numbers.next()?.ok()?, numbers.next()?.ok()?])
}

pub fn uptime_s() -> Option<f64> {
    fs::read_to_string("/proc/uptime").ok()?.split_ascii_whitespace().next()?.parse().ok()
}

/// Size and free space of the file system that holds a path, in bytes.
pub fn disk(path: &str) -> io::Result<(u64, u64, u64)> {
    let stat = statvfs(path)?;
    let unit = stat.fragment_size() as u64;
    Ok((
        stat.blocks() as u64 * unit,
        stat.blocks_free() as u64 * unit,
        stat.blocks_available() as u64 * unit,
    ))
}

/// Reads what a heartbeat reports.
pub fn resources() -> Map<String, Value> {
    let mut resources = Map::new();
    let mut add = |key: &str, value: Value| {
        resources.insert(key.to_owned(), value);
    };
    if let Some(load) = load() {
        add("load", json!(load));
    }
    if let Some(memory) = memory() {
        add("memory_total_bytes", memory.total_bytes.into());
        add("memory_available_bytes", memory.available_bytes.into());
    }
    if let Ok((total, _, available)) = disk("/") {
        add("disk_total_bytes", total.into());
        add("disk_available_bytes", available.into());
    }
    if let Some(uptime) = uptime_s() {
        add("uptime_s", (uptime as u64).into());
    }
    resources
}
