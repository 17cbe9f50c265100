//! What the device's owner has decided: flags, environment and file become one
//! valid [`Config`], or one refusal that names the key, the value and what was
//! expected. Nothing is bound or written before.
//!
//! Flags win over `QUARTERDECK_AGENT_…`, which wins over the file. Every key of
//! the file has such a variable: `exec.reboot` is `QUARTERDECK_AGENT_EXEC_REBOOT`,
//! with a TOML value (`["systemctl", "reboot"]`, `30`, `true`) or a plain text.
//!
//! ```toml
//! server = "https://fleet.example.org"   # needed to enrol; remembered after
//! token_file = "/run/enroll-token"       # or token = "…": needed to enrol only
//! device_id = "pi-1"
//! type = "kiosk"
//! data_dir = "/var/lib/quarterdeck-agent" # default: the XDG state folder
//! workflows = "/etc/quarterdeck/workflows" # operations of your own; default: workflows in data_dir
//! ca_file = "/etc/quarterdeck/ca.pem"     # whom to believe, for https and mqtts
//! bus = "mqtt://127.0.0.1:1883"           # the device's own broker; without it the agent keeps to itself
//! bus_password_file = "/etc/quarterdeck/bus" # or bus_password = "…", for the user in bus
//! bus_root = "te"
//! target = "device/main//"                # whose commands are this agent's
//! offline = false                         # workflows on the bus alone, no server
//! allow_plaintext = false                 # to other hosts than this one
//! heartbeat_s = 30
//!
//! [tags]
//! site = "berlin"
//!
//! [exec]                                  # command lines, never joined or split
//! reboot = ["systemctl", "reboot"]
//! shutdown = ["systemctl", "poweroff"]
//! restart_service = ["systemctl", "restart", "{service}"]
//! restart_app = ["systemctl", "restart", "{app}"]   # no default
//! restart_agent = ["systemctl", "restart", "quarterdeck-agent"] # default: it starts itself anew
//!
//! [files]                                 # where commands may read and write files
//! allow = ["/var/log", "/var/tmp", "/tmp", "/opt", "/srv"]
//!
//! [software]                              # plugin programs by kind of software: list, install, remove
//! apt = ["/etc/quarterdeck/software/apt"]
//!
//! [configs.mosquitto]                     # configuration files by name
//! path = "/etc/mosquitto/mosquitto.conf"
//! apply = ["systemctl", "restart", "mosquitto"]   # run when it has changed; default: nothing
//!
//! [configuration]                         # where what the server holds for this device goes, as JSON
//! path = "/etc/kiosk/settings.json"
//! apply = ["systemctl", "reload", "kiosk"]
//!
//! [logs]                                  # log files by name
//! kiosk = "/var/log/kiosk.log"
//!
//! [health]                                # checks by name: exit status 0 is healthy
//! disk = ["/usr/lib/nagios/plugins/check_disk", "-c", "5%"]
//!
//! [limits]
//! concurrent_commands = 2000              # 1–10000; beyond, they wait for their turn
//! queued_commands = 4000                  # 1–10000; beyond: failed/busy
//! script_memory_mb = 1024                 # of each process of a script; 0: no limit
//! script_grace_s = 5                      # between SIGTERM and SIGKILL, 0–60
//! reboot_ceiling_s = 150                  # how long a reboot may take
//!
//! [[children]]                            # further targets on the bus, 64 at most
//! target = "device/child1//"
//! workflows = "/etc/quarterdeck/child1"   # its operations: a folder that is no other target's
//!
//! [tunnels]                               # terminals and connections, for operators
//! enabled = true
//! max = 10                                # open at once, 1–100
//! shell = "/bin/bash"                     # default: the user's own
//! users = ["kiosk"]                       # that programs may run as, beside the agent's own
//! connect = ["127.0.0.1:*", "[::1]:*"]    # where forwards may lead; *: any
//! listen = ["127.0.0.1:*", "[::1]:*"]     # where the device may listen for them
//! ```

mod bus;
mod children;
pub(crate) mod layers;
mod owned;
mod tunnels;

use std::{
    collections::BTreeMap,
    fmt,
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    time::Duration,
};

use etcetera::BaseStrategy as _;
use quarterdeck_protocol::{
    ids::DeviceId,
    limits::{TAG_KEY_MAX_BYTES, TAG_VALUE_MAX_BYTES, TAGS_MAX},
};
use serde::Deserialize;
use url::Url;

use crate::{
    io::tls,
    runner::bus::{Scope, mqtt::Broker},
    tunnel::policy::Policy,
};
pub use layers::{KEYS, Layers};
pub use owned::{Applied, Owned};

/// The longest configuration file, and the longest file of certificates, in bytes.
pub const FILE_MAX_BYTES: u64 = 1024 * 1024;
/// The longest file that holds a token or a password, in bytes.
pub const SECRET_FILE_MAX_BYTES: u64 = 64 * 1024;

/// What the agent runs by.
#[derive(Debug, Clone)]
pub struct Config {
    /// Needed to enrol, remembered after that.
    pub server: Option<Url>,
    pub token: Option<Secret>,
    pub device_id: Option<DeviceId>,
    pub kind: Option<String>,
    pub tags: BTreeMap<String, String>,
    pub data_dir: PathBuf,
    /// The folder of the owner's own operations; the default one need not be there.
    pub workflows: PathBuf,
    /// The device's own broker.
    pub bus: Option<Broker>,
    pub scope: Scope,
    /// What is wrong with children that are left out of it.
    pub refused_children: Vec<String>,
    /// Workflows on the bus alone: no server.
    pub offline: bool,
    pub ca_pem: Option<String>,
    pub allow_plaintext: bool,
    pub heartbeat: Duration,
    pub exec: Exec,
    /// Absolute paths; whatever lies under one of them may be read and written by commands.
    pub allowed_paths: Vec<PathBuf>,
    /// What the owner has named for operations.
    pub owned: Owned,
    pub limits: Limits,
    pub tunnels: Policy,
}

/// A text that must not be shown.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// The device owner's command lines: program and arguments, never joined.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Exec {
    pub reboot: Vec<String>,
    pub shutdown: Vec<String>,
    /// `{service}`, as a whole argument, is the service.
    pub restart_service: Vec<String>,
    /// `{app}`, as a whole argument, is the app. Absent: the operation is refused.
    pub restart_app: Option<Vec<String>>,
    /// Absent: the agent starts itself anew.
    pub restart_agent: Option<Vec<String>>,
}

impl Default for Exec {
    fn default() -> Self {
        let words = |line: &[&str]| line.iter().copied().map(str::to_owned).collect();
        Self {
            reboot: words(&["systemctl", "reboot"]),
            shutdown: words(&["systemctl", "poweroff"]),
            restart_service: words(&["systemctl", "restart", "{service}"]),
            restart_app: None,
            restart_agent: None,
        }
    }
}

/// Bounds of what commands may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    pub concurrent_commands: usize,
    pub queued_commands: usize,
    pub script_memory_bytes: Option<u64>,
    pub script_grace_ms: u64,
    pub reboot_ceiling_ms: i64,
}

/// Says which setting is wrong, and what was expected.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{origin}: {key} = {value}: expected {expected}")]
    Wrong { origin: String, key: String, value: String, expected: String },
    #[error("cannot read the file {} that {key} names", path.display())]
    File { key: &'static str, path: PathBuf, source: io::Error },
    #[error("{origin}: {key}: there is no such key; expected {expected}")]
    Unknown { origin: String, key: String, expected: String },
    #[error("{}, line {line}: {message}", path.display())]
    Toml { path: PathBuf, line: usize, message: String },
    #[error("no home folder is known: give --data-dir")]
    NoHome,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    server: Option<String>,
    token: Option<Secret>,
    token_file: Option<PathBuf>,
    device_id: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    tags: BTreeMap<String, String>,
    data_dir: Option<PathBuf>,
    workflows: Option<PathBuf>,
    bus: Option<String>,
    bus_password: Option<Secret>,
    bus_password_file: Option<PathBuf>,
    bus_root: Option<String>,
    target: Option<String>,
    #[serde(default)]
    children: Vec<children::RawChild>,
    #[serde(default)]
    offline: bool,
    ca_file: Option<PathBuf>,
    #[serde(default)]
    allow_plaintext: bool,
    heartbeat_s: Option<u64>,
    #[serde(default)]
    exec: Exec,
    #[serde(default)]
    files: RawFiles,
    #[serde(default)]
    software: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    configs: BTreeMap<String, Applied>,
    configuration: Option<Applied>,
    #[serde(default)]
    logs: BTreeMap<String, PathBuf>,
    #[serde(default)]
    health: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    limits: RawLimits,
    #[serde(default)]
    tunnels: tunnels::RawTunnels,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawFiles {
    allow: Vec<PathBuf>,
}

impl Default for RawFiles {
    fn default() -> Self {
        let paths = ["/var/log", "/var/tmp", "/tmp", "/opt", "/srv"];
        Self { allow: paths.into_iter().map(PathBuf::from).collect() }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawLimits {
    concurrent_commands: u64,
    queued_commands: u64,
    script_memory_mb: u64,
    script_grace_s: u64,
    reboot_ceiling_s: u64,
}

impl Default for RawLimits {
    fn default() -> Self {
        Self {
            concurrent_commands: 2_000,
            queued_commands: 4_000,
            script_memory_mb: 1_024,
            script_grace_s: 5,
            reboot_ceiling_s: 150,
        }
    }
}

impl Config {
    /// Makes a valid configuration of all layers, or says what is wrong.
    pub fn load(layers: &Layers) -> Result<Self, ConfigError> {
        let raw: Raw = layers.deserialize()?;
        let wrong = |key: &str, expected: &str| layers.wrong(key, expected);
        let server = raw.server.as_deref().map(|text| parse_server(text, &wrong)).transpose()?;
        let device_id = match &raw.device_id {
            Some(text) => Some(DeviceId::new(text).map_err(|_| {
                wrong(
                    "device_id",
                    "a letter or digit, then up to 63 of letters, digits, '.', '_', '-'",
                )
            })?),
            None => None,
        };
        check_tags(&raw.tags, &wrong)?;
        let token = secret("token", "token_file", raw.token, raw.token_file, &wrong)?;
        let bus_password = secret(
            "bus_password",
            "bus_password_file",
            raw.bus_password,
            raw.bus_password_file,
            &wrong,
        )?;
        let ca_pem = raw.ca_file.as_deref();
        let ca_pem = ca_pem.map(|path| read_file("ca_file", path, FILE_MAX_BYTES)).transpose()?;
        if ca_pem.is_some() && tls::client_config(ca_pem.as_deref()).is_err() {
            return Err(wrong("ca_file", "a file of PEM certificates"));
        }
        if let Some(server) = &server {
            let is_safe = server.scheme() == "https" || tls::is_loopback(server);
            if !is_safe && !raw.allow_plaintext {
                return Err(wrong(
                    "server",
                    "https, since it is another host; or ask for allow_plaintext",
                ));
            }
            if server.scheme() == "https" && ca_pem.is_none() {
                return Err(wrong("server", "a ca_file beside it, to know an https server by"));
            }
        }
        let bus = match raw.bus.as_deref() {
            Some(text) => {
                let url = bus::parse_url(text, raw.allow_plaintext, ca_pem.is_some(), &wrong)?;
                Some(bus::broker(url, bus_password, ca_pem.clone()))
            }
            None if raw.offline => {
                return Err(wrong(
                    "bus",
                    "a broker's URL beside offline: there is no other way in",
                ));
            }
            None => None,
        };
        let mut scope = bus::scope(raw.bus_root, raw.target, &wrong)?;
        check_exec(&raw.exec, &wrong)?;
        let allowed_paths = raw.files.allow;
        if allowed_paths.iter().any(|path| !is_plain_absolute(path)) {
            return Err(wrong("files.allow", "absolute paths without '..'"));
        }
        let owned = Owned {
            software: raw.software,
            configs: raw.configs,
            configuration: raw.configuration,
            logs: raw.logs,
            health: raw.health,
        };
        owned.check(&wrong)?;
        let heartbeat_s = raw.heartbeat_s.unwrap_or(30);
        if !(1..=3600).contains(&heartbeat_s) {
            return Err(wrong("heartbeat_s", "1 to 3600"));
        }
        let data_dir = match raw.data_dir {
            Some(path) => absolute("data_dir", path, &wrong)?,
            None => default_data_dir()?,
        };
        let workflows = match raw.workflows {
            Some(path) if !path.is_dir() => return Err(wrong("workflows", "a folder")),
            Some(path) => absolute("workflows", path, &wrong)?,
            None => data_dir.join("workflows"),
        };
        let (children, refused) =
            children::children(raw.children, &scope, &workflows, bus.is_some(), &wrong)?;
        scope.children = children;
        Ok(Self {
            server,
            token,
            device_id,
            kind: raw.kind,
            tags: raw.tags,
            data_dir,
            workflows,
            bus,
            scope,
            refused_children: refused.iter().map(ToString::to_string).collect(),
            offline: raw.offline,
            ca_pem,
            allow_plaintext: raw.allow_plaintext,
            heartbeat: Duration::from_secs(heartbeat_s),
            exec: raw.exec,
            allowed_paths,
            owned,
            limits: check_limits(&raw.limits, &wrong)?,
            tunnels: tunnels::policy(raw.tunnels, &wrong)?,
        })
    }
}

fn default_data_dir() -> Result<PathBuf, ConfigError> {
    let base = etcetera::choose_base_strategy().map_err(|_| ConfigError::NoHome)?;
    let state = base.state_dir().unwrap_or_else(|| base.data_dir());
    Ok(state.join("quarterdeck-agent"))
}

fn absolute(
    key: &str,
    path: PathBuf,
    wrong: &impl Fn(&str, &str) -> ConfigError,
) -> Result<PathBuf, ConfigError> {
    if path.as_os_str().is_empty() || path.is_file() {
        return Err(wrong(key, "a folder, or the path of a new one"));
    }
    std::path::absolute(path).map_err(|_| wrong(key, "a path that this process can resolve"))
}

/// Takes a secret as such or from a file; only one of the two.
fn secret(
    key: &str,
    file_key: &'static str,
    given: Option<Secret>,
    file: Option<PathBuf>,
    wrong: &impl Fn(&str, &str) -> ConfigError,
) -> Result<Option<Secret>, ConfigError> {
    let secret = match (given, file) {
        (Some(_), Some(_)) => {
            return Err(wrong(file_key, &format!("only one of {key} and {file_key}")));
        }
        (Some(secret), None) => Some(secret),
        (None, Some(path)) => {
            let text = read_file(file_key, &path, SECRET_FILE_MAX_BYTES)?;
            Some(Secret(text.trim().to_owned()))
        }
        (None, None) => None,
    };
    if secret.as_ref().is_some_and(|secret| secret.0.is_empty()) {
        return Err(wrong(key, &format!("a {}, not an empty text", key.replace('_', " "))));
    }
    Ok(secret)
}

/// Reads a file that a key names; no further than its bound, for a device has no end.
fn read_file(key: &'static str, path: &Path, max_bytes: u64) -> Result<String, ConfigError> {
    let refused = |source| ConfigError::File { key, path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(refused)?;
    file.take(max_bytes + 1).read_to_end(&mut bytes).map_err(refused)?;
    if bytes.len() as u64 > max_bytes {
        let why = format!("it is longer than {max_bytes} bytes");
        return Err(refused(io::Error::new(io::ErrorKind::FileTooLarge, why)));
    }
    String::from_utf8(bytes)
        .map_err(|_| refused(io::Error::new(io::ErrorKind::InvalidData, "it is no UTF-8")))
}

fn parse_server(
    text: &str,
    wrong: &impl Fn(&str, &str) -> ConfigError,
) -> Result<Url, ConfigError> {
    let expected = "a URL such as https://fleet.example.org or http://127.0.0.1:8470";
    let url: Url = text.parse().map_err(|_| wrong("server", expected))?;
    let is_good = matches!(url.scheme(), "http" | "https")
        && url.host().is_some()
        && url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none();
    if is_good { Ok(url) } else { Err(wrong("server", expected)) }
}

fn check_tags(
    tags: &BTreeMap<String, String>,
    wrong: &impl Fn(&str, &str) -> ConfigError,
) -> Result<(), ConfigError> {
    if tags.len() > TAGS_MAX {
        return Err(wrong("tags", "at most 64 tags"));
    }
    for (key, value) in tags {
        if key.is_empty() || key.len() > TAG_KEY_MAX_BYTES {
            return Err(wrong("tags", "keys of 1 to 63 bytes"));
        }
        if value.len() > TAG_VALUE_MAX_BYTES {
            return Err(wrong(&format!("tags.{key}"), "at most 255 bytes"));
        }
    }
    Ok(())
}

fn check_exec(exec: &Exec, wrong: &impl Fn(&str, &str) -> ConfigError) -> Result<(), ConfigError> {
    let lines = [
        ("exec.reboot", Some(&exec.reboot)),
        ("exec.shutdown", Some(&exec.shutdown)),
        ("exec.restart_service", Some(&exec.restart_service)),
        ("exec.restart_app", exec.restart_app.as_ref()),
        ("exec.restart_agent", exec.restart_agent.as_ref()),
    ];
    for (key, line) in lines {
        let Some(line) = line else { continue };
        check_line(key, line, wrong)?;
    }
    if !exec.restart_service.iter().any(|word| word == "{service}") {
        return Err(wrong("exec.restart_service", "{service} as one of its arguments"));
    }
    Ok(())
}

fn check_line(
    key: &str,
    line: &[String],
    wrong: &impl Fn(&str, &str) -> ConfigError,
) -> Result<(), ConfigError> {
    let has_program = line.first().is_some_and(|program| !program.is_empty());
    if !has_program || line.iter().any(|word| word.contains('\0')) {
        return Err(wrong(key, "a program and its arguments, as a list of texts"));
    }
    Ok(())
}

fn is_plain_absolute(path: &Path) -> bool {
    path.is_absolute() && !path.components().any(|part| part == std::path::Component::ParentDir)
}

fn check_limits(
    raw: &RawLimits,
    wrong: &impl Fn(&str, &str) -> ConfigError,
) -> Result<Limits, ConfigError> {
    let in_range = |key: &str, value: u64, least: u64, most: u64| {
        if (least..=most).contains(&value) {
            Ok(value)
        } else {
            Err(wrong(&format!("limits.{key}"), &format!("{least} to {most}")))
        }
    };
    let memory_mb = in_range("script_memory_mb", raw.script_memory_mb, 0, 1 << 24)?;
    Ok(Limits {
        concurrent_commands: in_range("concurrent_commands", raw.concurrent_commands, 1, 10_000)?
            as usize,
        queued_commands: in_range("queued_commands", raw.queued_commands, 1, 10_000)? as usize,
        script_memory_bytes: (memory_mb > 0).then_some(memory_mb * 1024 * 1024),
        script_grace_ms: in_range("script_grace_s", raw.script_grace_s, 0, 60)? * 1000,
        reboot_ceiling_ms: in_range("reboot_ceiling_s", raw.reboot_ceiling_s, 1, 3_600)? as i64
            * 1000,
    })
}

#[cfg(test)]
#[path = "config/config_tests.rs"]
mod tests;
