//! What the server is told: raw options in, a valid [`Config`] out.
//!
//! An option comes from its flag, else from the environment
//! (`QUARTERDECK_SERVER_…`), else from the TOML file, else it has a default.
//! Each is checked before anything is bound or written; what is wrong is said
//! with where it was given, its value, and what was expected. A value that may
//! hold a password is shown without it.

mod check;
mod file;

use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use self::check::{check, read_limited};
use crate::{mqtt::external::BrokerUrl, mqtt::link::Qos, store::Location, tunnels};

/// The environment's variables begin so.
const ENVIRONMENT: &str = "QUARTERDECK_SERVER_";
/// The admin's password at the first start.
pub const ADMIN_PASSWORD: &str = "QUARTERDECK_ADMIN_PASSWORD";
/// The longest file of configuration, or of certificates, in bytes.
const FILE_MAX_BYTES: u64 = 1024 * 1024;

/// What a server runs with. All of it is valid.
#[derive(Clone)]
pub struct Config {
    pub data_dir: PathBuf,
    pub http: SocketAddr,
    pub broker: Broker,
    pub database: Location,
    /// Where devices connect, when that is not the listener's own address.
    pub mqtt_url: Option<String>,
    /// For the first start; random when absent.
    pub admin_password: Option<String>,
    pub tunnels: tunnels::Settings,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("data_dir", &self.data_dir)
            .field("http", &self.http)
            .field("broker", &self.broker)
            .finish_non_exhaustive()
    }
}

/// Which broker carries MQTT.
#[derive(Debug, Clone)]
pub enum Broker {
    Embedded { listen: SocketAddr },
    External { url: BrokerUrl, ca_pem: Option<Vec<u8>>, qos_max: Qos },
}

/// Says which option is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {value}: {expected}")]
pub struct ConfigError {
    /// `--http`, `QUARTERDECK_SERVER_HTTP`, or `http` with its file and line.
    pub key: String,
    pub value: String,
    pub expected: String,
}

/// The options of the command line, all of them text.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Options {
    /// Folder of the server's state [default: quarterdeck-server in the XDG state folder]
    #[arg(long, value_name = "DIR", global = true)]
    pub data_dir: Option<String>,
    /// Address of the HTTP listener [default: 127.0.0.1:8470]
    #[arg(long, value_name = "ADDR", global = true)]
    pub http: Option<String>,
    /// Address of the embedded broker's listener [default: 127.0.0.1:8471]
    #[arg(long, value_name = "ADDR", global = true)]
    pub mqtt: Option<String>,
    /// Use this broker instead of the embedded one: mqtt(s)://user:pass@host[:port]
    #[arg(long, value_name = "URL", global = true)]
    pub broker: Option<String>,
    /// File with the broker's password
    #[arg(long, value_name = "FILE", global = true)]
    pub broker_password_file: Option<String>,
    /// File with the certificates (PEM) that an mqtts broker is trusted by
    #[arg(long, value_name = "FILE", global = true)]
    pub broker_ca_file: Option<String>,
    /// The highest QoS that the external broker has, 1 or 2 [default: 2]
    #[arg(long, value_name = "QOS", global = true)]
    pub broker_qos: Option<String>,
    /// Use PostgreSQL instead of SQLite: postgres://user:pass@host/database
    #[arg(long, value_name = "URL", global = true)]
    pub database: Option<String>,
    /// File with the database's URL
    #[arg(long, value_name = "FILE", global = true)]
    pub database_url_file: Option<String>,
    /// Where devices connect, when they see another address than the listener's: mqtt(s)://host[:port]
    #[arg(long, value_name = "URL", global = true)]
    pub mqtt_url: Option<String>,
    /// What may be without TLS beyond loopback: http,mqtt, of which mqtt is for --broker too
    #[arg(long, value_name = "LISTENERS", global = true)]
    pub allow_plaintext: Option<String>,
    /// Tunnels that a user may have open [default: 3]
    #[arg(long, value_name = "N", global = true)]
    pub tunnels_per_user: Option<String>,
    /// Tunnels that a device may have open [default: 10]
    #[arg(long, value_name = "N", global = true)]
    pub tunnels_per_device: Option<String>,
    /// How long a device may take to open a tunnel [default: 20]
    #[arg(long, value_name = "SECONDS", global = true)]
    pub tunnel_open_s: Option<String>,
    /// How long a tunnel may be idle [default: 600]
    #[arg(long, value_name = "SECONDS", global = true)]
    pub tunnel_idle_s: Option<String>,
    /// How long a tunnel may be open in all [default: 7200]
    #[arg(long, value_name = "SECONDS", global = true)]
    pub tunnel_max_s: Option<String>,
    /// How long a device may be away before its tunnels end [default: 900]
    #[arg(long, value_name = "SECONDS", global = true)]
    pub tunnel_away_s: Option<String>,
    /// How long the console of an exec, an ssh or a forward may be gone before its tunnel ends [default: 60]
    #[arg(long, value_name = "SECONDS", global = true)]
    pub tunnel_alone_s: Option<String>,
    /// Output of a terminal that is kept when it is not recorded [default: 64]
    #[arg(long, value_name = "MIB", global = true)]
    pub session_log_mb: Option<String>,
    /// The longest recording; over it its tunnel ends [default: 2048]
    #[arg(long, value_name = "MIB", global = true)]
    pub recording_max_mb: Option<String>,
}

/// One option, and where it was given.
#[derive(Debug, Clone)]
struct Given {
    key: String,
    value: String,
}

impl Given {
    fn refuse(&self, expected: impl Into<String>) -> ConfigError {
        ConfigError {
            key: self.key.clone(),
            value: format!("{:?}", without_password(&self.value)),
            expected: expected.into(),
        }
    }

    fn refuse_unseen(&self, expected: impl Into<String>) -> ConfigError {
        ConfigError {
            key: self.key.clone(),
            value: "its value".to_owned(),
            expected: expected.into(),
        }
    }
}

impl Options {
    /// The options by name.
    fn named(self) -> BTreeMap<&'static str, String> {
        let Self {
            data_dir,
            http,
            mqtt,
            broker,
            broker_password_file,
            broker_ca_file,
            broker_qos,
            database,
            database_url_file,
            mqtt_url,
            allow_plaintext,
            tunnels_per_user,
            tunnels_per_device,
            tunnel_open_s,
            tunnel_idle_s,
            tunnel_max_s,
            tunnel_away_s,
            tunnel_alone_s,
            session_log_mb,
            recording_max_mb,
        } = self;
        [
            ("data_dir", data_dir),
            ("http", http),
            ("mqtt", mqtt),
            ("broker", broker),
            ("broker_password_file", broker_password_file),
            ("broker_ca_file", broker_ca_file),
            ("broker_qos", broker_qos),
            ("database", database),
            ("database_url_file", database_url_file),
            ("mqtt_url", mqtt_url),
            ("allow_plaintext", allow_plaintext),
            ("tunnels_per_user", tunnels_per_user),
            ("tunnels_per_device", tunnels_per_device),
            ("tunnel_open_s", tunnel_open_s),
            ("tunnel_idle_s", tunnel_idle_s),
            ("tunnel_max_s", tunnel_max_s),
            ("tunnel_away_s", tunnel_away_s),
            ("tunnel_alone_s", tunnel_alone_s),
            ("session_log_mb", session_log_mb),
            ("recording_max_mb", recording_max_mb),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
    }
}

/// Puts flags, environment and file together, and checks all of it.
pub fn load(
    flags: Options,
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Config, ConfigError> {
    let environment: BTreeMap<String, String> = environment.into_iter().collect();
    let file = file
        .map(Path::to_path_buf)
        .or_else(|| environment.get(&format!("{ENVIRONMENT}CONFIG")).map(PathBuf::from));
    let mut given: BTreeMap<&'static str, Given> = BTreeMap::new();
    if let Some(file) = &file {
        for file::Entry { name, value, line } in read_file(file)? {
            let key = format!("{}, line {line}, {name}", file.display());
            given.insert(name, Given { key, value });
        }
    }
    let mut known = vec![format!("{ENVIRONMENT}CONFIG")];
    for name in NAMES {
        let key = format!("{ENVIRONMENT}{}", name.to_uppercase());
        if let Some(value) = environment.get(&key) {
            given.insert(name, Given { key: key.clone(), value: value.clone() });
        }
        known.push(key);
    }
    // An orchestrator may set some of its own that begin the same way, so these only get a word.
    for key in environment.keys().filter(|key| key.starts_with(ENVIRONMENT) && !known.contains(key))
    {
        tracing::warn!(key, "no such option; the variable is ignored");
    }
    for (name, value) in flags.named() {
        given.insert(name, Given { key: format!("--{}", name.replace('_', "-")), value });
    }
    check(given, environment.get(ADMIN_PASSWORD).cloned())
}

const NAMES: [&str; 20] = [
    "data_dir",
    "http",
    "mqtt",
    "broker",
    "broker_password_file",
    "broker_ca_file",
    "broker_qos",
    "database",
    "database_url_file",
    "mqtt_url",
    "allow_plaintext",
    "tunnels_per_user",
    "tunnels_per_device",
    "tunnel_open_s",
    "tunnel_idle_s",
    "tunnel_max_s",
    "tunnel_away_s",
    "tunnel_alone_s",
    "session_log_mb",
    "recording_max_mb",
];

fn read_file(path: &Path) -> Result<Vec<file::Entry>, ConfigError> {
    let refuse = |expected: String| ConfigError {
        key: "--config".to_owned(),
        value: format!("{:?}", path.display().to_string()),
        expected,
    };
    let text =
        read_limited(path, FILE_MAX_BYTES).map_err(|e| refuse(format!("cannot be read: {e}")))?;
    file::parse(&text).map_err(refuse)
}

/// Checks what a file alone says; files that it names are not read.
pub(crate) fn check_file(text: &str) -> Result<Config, String> {
    let named = ["broker_password_file", "broker_ca_file", "database_url_file"];
    let entries = file::parse(text)?.into_iter().filter(|entry| !named.contains(&entry.name));
    let given =
        entries.map(|entry| (entry.name, Given { key: entry.name.to_owned(), value: entry.value }));
    check(given.collect(), None).map_err(|error| error.to_string())
}

/// Shows a URL without the password that it may hold, whole or broken.
fn without_password(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let Some((user, host)) = rest.rsplit_once('@') else { return text.to_owned() };
    let user = user.split(':').next().unwrap_or_default();
    format!("{scheme}://{user}:…@{host}")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn load_with(
        flags: Options,
        environment: &[(&str, &str)],
        file: Option<&str>,
    ) -> Result<Config, ConfigError> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("server.toml");
        if let Some(text) = file {
            fs::write(&path, text).expect("written");
        }
        let environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        load(flags, file.map(|_| path.as_path()), environment)
    }

    fn http(value: &str) -> Options {
        Options { http: Some(value.to_owned()), ..Options::default() }
    }

    #[test]
    fn a_flag_beats_the_environment_which_beats_the_file() {
        let environment = [("QUARTERDECK_SERVER_HTTP", "127.0.0.1:2")];
        let file = Some("http = '127.0.0.1:3'\nmqtt = '127.0.0.1:4'");
        let config = load_with(http("127.0.0.1:1"), &environment, file).expect("valid");
        assert_eq!(config.http.port(), 1);
        let config = load_with(Options::default(), &environment, file).expect("valid");
        assert_eq!(config.http.port(), 2);
        assert!(matches!(config.broker, Broker::Embedded { listen } if listen.port() == 4));
        let config = load_with(Options::default(), &[], file).expect("valid");
        assert_eq!(config.http.port(), 3);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place_its_value_and_what_was_expected() {
        let error = load_with(http("nowhere"), &[], None).expect_err("no address");
        assert_eq!((error.key.as_str(), error.value.as_str()), ("--http", "\"nowhere\""));
        assert!(error.expected.contains("127.0.0.1:8470"));

        let error = load_with(Options::default(), &[("QUARTERDECK_SERVER_MQTT", "x")], None)
            .expect_err("no address");
        assert_eq!(error.key, "QUARTERDECK_SERVER_MQTT");

        let error = load_with(Options::default(), &[], Some("htp = 'x'")).expect_err("no such key");
        assert!(error.expected.contains("line 1, \"htp\""), "{error}");

        let error = load_with(Options::default(), &[], Some("\nhttp = 7")).expect_err("no address");
        assert!(error.key.ends_with("server.toml, line 2, http"), "{error}");

        let error =
            load_with(Options::default(), &[("QUARTERDECK_ADMIN_PASSWORD", "hunter2")], None)
                .expect_err("short");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }

    #[test]
    fn a_listener_for_others_needs_plaintext_to_be_asked_for_by_name() {
        for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:80"] {
            let error = load_with(http(address), &[], None).expect_err(address);
            assert!(error.expected.contains("--allow-plaintext http"), "{error}");
            let allowed = Options { allow_plaintext: Some("http".into()), ..http(address) };
            assert!(load_with(allowed, &[], None).is_ok());
            let other = Options { allow_plaintext: Some("mqtt".into()), ..http(address) };
            assert!(load_with(other, &[], None).is_err());
        }
        for address in ["127.0.0.1:0", "127.8.8.8:0", "[::1]:0", "localhost:0"] {
            assert!(load_with(http(address), &[], None).is_ok(), "{address}");
        }
    }

    #[test]
    fn a_broker_on_another_host_has_tls_unless_plaintext_is_asked_for_by_name() {
        let broker = |url: &str, allow: Option<&str>| {
            let options = Options {
                broker: Some(url.into()),
                allow_plaintext: allow.map(str::to_owned),
                ..Options::default()
            };
            load_with(options, &[], None)
        };
        for url in ["mqtt://10.0.0.9", "mqtt://broker.example.com:1884", "mqtt://[2001:db8::1]"] {
            let error = broker(url, None).expect_err(url);
            assert!(error.expected.contains("--allow-plaintext mqtt"), "{error}");
            assert!(broker(url, Some("http")).is_err());
            assert!(broker(url, Some("mqtt")).is_ok());
        }
        for url in ["mqtt://127.0.0.1", "mqtt://localhost:1884", "mqtt://[::1]"] {
            assert!(broker(url, None).is_ok(), "{url}");
        }
    }

    #[test]
    fn a_database_is_named_with_its_host() {
        let database = |url: &str| {
            let options = Options { database: Some(url.into()), ..Options::default() };
            load_with(options, &[], None).map(|config| config.database)
        };
        for url in
            ["postgres://", "postgres://h", "postgres:///db", "postgres://h/", "mysql://h/db"]
        {
            assert_eq!(database(url).expect_err(url).key, "--database");
        }
        for url in
            ["postgres://u:p@h:5432/db", "postgresql://h/db", "postgres:///db?host=/run/postgresql"]
        {
            assert!(database(url).is_ok(), "{url}");
        }
    }

    #[test]
    fn the_brokers_qos_is_1_or_2_and_of_an_external_one() {
        let qos = |broker: Option<&str>, qos: &str| {
            let options = Options {
                broker: broker.map(str::to_owned),
                broker_qos: Some(qos.into()),
                ..Options::default()
            };
            load_with(options, &[], None).map(|config| match config.broker {
                Broker::External { qos_max, .. } => Some(qos_max),
                Broker::Embedded { .. } => None,
            })
        };
        let url = Some("mqtt://u:p@127.0.0.1");
        assert_eq!(qos(url, "1"), Ok(Some(Qos::AtLeastOnce)));
        assert_eq!(qos(url, "2"), Ok(Some(Qos::ExactlyOnce)));
        assert_eq!(qos(url, "0").expect_err("none").key, "--broker-qos");
        assert!(qos(None, "1").expect_err("embedded").to_string().contains("--broker"));
    }

    #[test]
    fn no_error_shows_a_password() {
        let broker = |url: &str| Options { broker: Some(url.into()), ..Options::default() };
        for url in [
            "http://user:s3cret@host",
            "mqtt://user:s3cret@",
            "mqtts://u:s3cret@host",
            "mqtt://u:s3c@s3cret@host/x",
        ] {
            let error = load_with(broker(url), &[], None).expect_err(url);
            assert!(!error.to_string().contains("s3cret"), "{error}");
        }
        let database = |url: &str| Options { database: Some(url.into()), ..Options::default() };
        for url in ["mysql://user:s3cret@host", "s3cret"] {
            let error = load_with(database(url), &[], None).expect_err(url);
            assert!(!error.to_string().contains("s3cret"), "{error}");
        }
    }
}
