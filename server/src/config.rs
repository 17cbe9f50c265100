//! What the server is told: raw options in, a valid [`Config`] out.
//!
//! An option comes from its flag, else from the environment
//! (`QUARTERDECK_SERVER_…`), else from the TOML file, else it has a default.
//! Each is checked before anything is bound or written; what is wrong is said
//! with where it was given, its value, and what was expected. A value that may
//! hold a password is shown without it.

mod file;

use std::{
    collections::BTreeMap,
    fmt, fs,
    io::{self, Read as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    str::FromStr as _,
};

use etcetera::BaseStrategy as _;
use sqlx::postgres::PgConnectOptions;
use url::Url;

use crate::{
    mqtt::{
        external::{BrokerUrl, trust},
        link::Qos,
    },
    store::Location,
    tunnels,
};

/// The environment's variables begin so.
const ENVIRONMENT: &str = "QUARTERDECK_SERVER_";
/// The admin's password at the first start.
pub const ADMIN_PASSWORD: &str = "QUARTERDECK_ADMIN_PASSWORD";
/// The longest file of configuration or of one secret, in bytes.
const FILE_MAX_BYTES: u64 = 1024 * 1024;
const SECRET_MAX_BYTES: u64 = 64 * 1024;

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
    /// Listeners that may be without TLS on other addresses than loopback: http,mqtt
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

fn check(
    mut given: BTreeMap<&'static str, Given>,
    admin_password: Option<String>,
) -> Result<Config, ConfigError> {
    let mut take = |name: &str| given.remove(name);
    let plaintext =
        take("allow_plaintext").map(|given| plaintext(&given)).transpose()?.unwrap_or_default();
    let http = listener(take("http"), "127.0.0.1:8470", "http", &plaintext)?;
    let (mqtt, external, password, ca, qos) = (
        take("mqtt"),
        take("broker"),
        take("broker_password_file"),
        take("broker_ca_file"),
        take("broker_qos"),
    );
    let broker = if let Some(url) = external {
        if let Some(mqtt) = mqtt {
            return Err(
                mqtt.refuse("expected only without --broker: there is no embedded broker then")
            );
        }
        external_broker(&url, password, ca, qos.as_ref())?
    } else {
        if let Some(alone) = password.or(ca).or(qos) {
            return Err(alone.refuse("expected only with --broker"));
        }
        Broker::Embedded { listen: listener(mqtt, "127.0.0.1:8471", "mqtt", &plaintext)? }
    };
    let mqtt_url = take("mqtt_url").map(|given| advertised(&given)).transpose()?;
    let data_dir = data_dir(take("data_dir"))?;
    let database = database(take("database"), take("database_url_file"), &data_dir)?;
    if let Some(password) = &admin_password {
        crate::auth::password::check_new(password).map_err(|expected| ConfigError {
            key: ADMIN_PASSWORD.to_owned(),
            value: "its value".to_owned(),
            expected,
        })?;
    }
    let tunnels = tunnel_settings(take)?;
    Ok(Config { data_dir, http, broker, database, mqtt_url, admin_password, tunnels })
}

/// Reads what is set of tunnels.
fn tunnel_settings(
    mut take: impl FnMut(&str) -> Option<Given>,
) -> Result<tunnels::Settings, ConfigError> {
    const MIB: u64 = 1024 * 1024;
    const COUNT_MAX: u64 = 1_000;
    const DURATION_MAX_S: u64 = 7 * 24 * 3600;
    const SIZE_MAX_MIB: u64 = 1024 * 1024;
    let mut number = |name: &str, min: u64, max: u64| {
        let Some(given) = take(name) else { return Ok(None) };
        let number = given.value.parse().ok().filter(|number| (min..=max).contains(number));
        number.map(Some).ok_or_else(|| given.refuse(format!("expected {min} to {max}")))
    };
    let mut settings = tunnels::Settings::default();
    if let Some(count) = number("tunnels_per_user", 1, COUNT_MAX)? {
        settings.per_user = count;
    }
    if let Some(count) = number("tunnels_per_device", 1, COUNT_MAX)? {
        settings.per_device = count;
    }
    let life = &mut settings.life;
    for (name, value_ms) in [
        ("tunnel_open_s", &mut life.open_ms),
        ("tunnel_idle_s", &mut life.idle_ms),
        ("tunnel_max_s", &mut life.duration_ms),
        ("tunnel_away_s", &mut life.away_ms),
        ("tunnel_alone_s", &mut life.alone_ms),
    ] {
        if let Some(seconds) = number(name, 1, DURATION_MAX_S)? {
            *value_ms = seconds as i64 * 1_000;
        }
    }
    if let Some(size) = number("session_log_mb", 1, SIZE_MAX_MIB)? {
        settings.log_max_bytes = size * MIB;
    }
    if let Some(size) = number("recording_max_mb", 1, SIZE_MAX_MIB)? {
        settings.recording_max_bytes = size * MIB;
    }
    Ok(settings)
}

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

/// Reads a file; no further than the limit, for a device has no length.
fn read_limited(path: &Path, max_bytes: u64) -> io::Result<String> {
    let mut text = String::new();
    fs::File::open(path)?.take(max_bytes + 1).read_to_string(&mut text)?;
    if text.len() as u64 > max_bytes {
        return Err(io::Error::other(format!("longer than {max_bytes} bytes")));
    }
    Ok(text)
}

fn secret_of(given: &Given) -> Result<String, ConfigError> {
    let text = read_limited(Path::new(&given.value), SECRET_MAX_BYTES)
        .map_err(|e| given.refuse(format!("cannot be read: {e}")))?;
    let secret = text.trim_end_matches(['\n', '\r']).to_owned();
    if secret.is_empty() || secret.contains('\n') {
        return Err(given.refuse("expected a file of one line"));
    }
    Ok(secret)
}

#[derive(Debug, Default)]
struct Plaintext {
    http: bool,
    mqtt: bool,
}

fn plaintext(given: &Given) -> Result<Plaintext, ConfigError> {
    let mut allowed = Plaintext::default();
    for name in given.value.split(',').map(str::trim) {
        match name {
            "http" => allowed.http = true,
            "mqtt" => allowed.mqtt = true,
            _ => return Err(given.refuse("expected http, mqtt, or both with a comma")),
        }
    }
    Ok(allowed)
}

fn listener(
    given: Option<Given>,
    default: &str,
    name: &str,
    plaintext: &Plaintext,
) -> Result<SocketAddr, ConfigError> {
    let Some(given) = given else { return Ok(default.parse().expect("a constant address")) };
    let text = given.value.replacen("localhost:", "127.0.0.1:", 1);
    let address: SocketAddr = text.parse().map_err(|_| {
        given.refuse("expected an address and a port, such as 127.0.0.1:8470 or [::1]:0")
    })?;
    let is_allowed = if name == "http" { plaintext.http } else { plaintext.mqtt };
    if address.ip().to_canonical().is_loopback() || is_allowed {
        return Ok(address);
    }
    Err(given.refuse(format!(
        "expected a loopback address: this listener has no TLS, and anybody on the way could read and \
         change what it carries; --allow-plaintext {name} allows it all the same"
    )))
}

fn external_broker(
    given: &Given,
    password: Option<Given>,
    ca: Option<Given>,
    qos: Option<&Given>,
) -> Result<Broker, ConfigError> {
    let mut url = BrokerUrl::parse(&given.value).map_err(|e| given.refuse(e.to_string()))?;
    if let Some(file) = password {
        let Some((_, password)) = &mut url.credentials else {
            return Err(file.refuse("expected only with a user in --broker: mqtt://user@host"));
        };
        if !password.is_empty() {
            return Err(file.refuse("expected only when --broker has no password"));
        }
        *password = secret_of(&file)?;
    }
    let ca_pem = match ca {
        None if url.tls => {
            return Err(given.refuse(
                "expected --broker-ca-file with it: the certificates that the broker is trusted by",
            ));
        }
        None => None,
        Some(file) => {
            let pem = read_limited(Path::new(&file.value), FILE_MAX_BYTES)
                .map_err(|e| file.refuse(format!("cannot be read: {e}")))?;
            trust(pem.as_bytes()).map_err(|e| file.refuse(e.to_string()))?;
            Some(pem.into_bytes())
        }
    };
    let qos_max = match qos.map(|given| (given, given.value.as_str())) {
        None | Some((_, "2")) => Qos::ExactlyOnce,
        Some((_, "1")) => Qos::AtLeastOnce,
        Some((given, _)) => return Err(given.refuse("expected 1 or 2")),
    };
    Ok(Broker::External { url, ca_pem, qos_max })
}

fn advertised(given: &Given) -> Result<String, ConfigError> {
    let expected = "expected mqtt://host[:port] or mqtts://host[:port], without a user";
    let url = BrokerUrl::parse(&given.value).map_err(|_| given.refuse(expected))?;
    if url.credentials.is_some() {
        return Err(given.refuse(expected));
    }
    Ok(given.value.trim_end_matches('/').to_owned())
}

fn data_dir(given: Option<Given>) -> Result<PathBuf, ConfigError> {
    let Some(given) = given else {
        let strategy = etcetera::choose_base_strategy().ok();
        let state = strategy.and_then(|strategy| strategy.state_dir());
        return state.map(|state| state.join("quarterdeck-server")).ok_or_else(|| ConfigError {
            key: "--data-dir".to_owned(),
            value: "absent".to_owned(),
            expected: "expected a folder: there is no home folder to put one into".to_owned(),
        });
    };
    let path = PathBuf::from(&given.value);
    if given.value.is_empty() || path.is_file() {
        return Err(given.refuse("expected a folder, or the path of a new one"));
    }
    std::path::absolute(&path).map_err(|e| given.refuse(e.to_string()))
}

fn database(
    url: Option<Given>,
    file: Option<Given>,
    data_dir: &Path,
) -> Result<Location, ConfigError> {
    let (given, text) = match (url, file) {
        (None, None) => return Ok(Location::Sqlite(data_dir.join("quarterdeck.db"))),
        (Some(_), Some(file)) => return Err(file.refuse("expected only without --database")),
        (Some(url), None) => (url.clone(), url.value),
        (None, Some(file)) => {
            let text = secret_of(&file)?;
            (file, text)
        }
    };
    let is_postgres =
        Url::parse(&text).is_ok_and(|url| matches!(url.scheme(), "postgres" | "postgresql"));
    if is_postgres && PgConnectOptions::from_str(&text).is_ok() {
        return Ok(Location::Postgres(text));
    }
    Err(given.refuse_unseen("expected postgres://user:password@host[:port]/database; without it SQLite in the data folder is used"))
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
        let url = Some("mqtt://u:p@h");
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
