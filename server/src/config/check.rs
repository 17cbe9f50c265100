//! What each option may be, and what they may be together.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    str::FromStr as _,
};

use etcetera::BaseStrategy as _;
use sqlx::postgres::PgConnectOptions;
use url::Url;

use super::{ADMIN_PASSWORD, Broker, Config, ConfigError, FILE_MAX_BYTES, Given};
use crate::{
    mqtt::{
        external::{BrokerUrl, trust},
        link::Qos,
    },
    store::Location,
    tunnels,
};

/// The longest file of one secret, in bytes.
const SECRET_MAX_BYTES: u64 = 64 * 1024;

/// Checks all options that were given, and makes a configuration of them.
pub(super) fn check(
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
        external_broker(&url, password, ca, qos.as_ref(), &plaintext)?
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

/// Reads a file; no further than the limit, for a device has no length.
pub(super) fn read_limited(path: &Path, max_bytes: u64) -> io::Result<String> {
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

/// Whether a host is this machine: what goes there is on no wire.
fn is_here(host: &str) -> bool {
    let address = host.parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.to_canonical().is_loopback())
}

fn external_broker(
    given: &Given,
    password: Option<Given>,
    ca: Option<Given>,
    qos: Option<&Given>,
    plaintext: &Plaintext,
) -> Result<Broker, ConfigError> {
    let mut url = BrokerUrl::parse(&given.value).map_err(|e| given.refuse(e.to_string()))?;
    if !url.tls && !plaintext.mqtt && !is_here(&url.host) {
        return Err(given.refuse(
            "expected mqtts://, since it is another host, and anybody on the way could read and change \
             what goes there; --allow-plaintext mqtt allows it all the same",
        ));
    }
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
    let is_postgres = Url::parse(&text).is_ok_and(|url| {
        matches!(url.scheme(), "postgres" | "postgresql") && names_a_database(&url)
    });
    if is_postgres && PgConnectOptions::from_str(&text).is_ok() {
        return Ok(Location::Postgres(text));
    }
    Err(given.refuse_unseen("expected postgres://user:password@host[:port]/database; without it SQLite in the data folder is used"))
}

/// Whether a URL says where its database is: what is missing would be taken from this machine's defaults.
fn names_a_database(url: &Url) -> bool {
    let has =
        |wanted: &str| url.query_pairs().any(|(name, value)| name == wanted && !value.is_empty());
    let has_name = url.path().len() > 1 || has("dbname");
    // The folder of a socket, as `?host=/run/postgresql`, is a host too.
    has_name && (has("host") || url.host_str().is_some_and(|host| !host.is_empty()))
}
