//! `quarterdeck forward`: ports of this machine that lead to what a device can
//! reach, and (`-R`) ports of a device that lead to what this machine can reach.
//!
//! ```text
//!  client ─▶ listener here ─▶ one stream ─▶ device ─▶ HOST:PORT         -L
//!  client ─▶ listener there ─▶ one stream ─▶ here ─▶ HOST:PORT          -R
//! ```
//!
//! Each connection is a stream of its own: one that stands still holds up none of
//! the others.

use std::{fmt, io::IsTerminal as _, str::FromStr, sync::Arc, time::Duration};

use clap::Args;
use quarterdeck_protocol::{
    api::TunnelKind,
    tunnel::{close::CloseCode, control::HOST_MAX_BYTES, limits::STREAMS_MAX, stream::Closed},
};
use serde::Serialize;
use tokio::{
    net::{TcpListener, TcpStream},
    signal::unix::{SignalKind, signal},
    sync::Semaphore,
    task::JoinSet,
    time::timeout,
};

use super::{
    context::Context,
    error::CliError,
    output::note,
    session::{self, Failed},
};
use crate::net::tunnel::{Attachment, Ended, Stream, pump};

/// Where listeners are when nobody says.
const LOOPBACK: &str = "127.0.0.1";
/// How long a connection to a target of this machine may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the ends of all tunnels may take.
const FAREWELL: Duration = Duration::from_secs(3);

#[derive(Debug, Clone, Args)]
#[command(after_help = EXAMPLES)]
pub struct ForwardArgs {
    /// The device
    #[arg(value_name = "DEVICE")]
    device: String,
    /// A port of this machine that leads to HOST:PORT as the device sees it: [[BIND:]LOCAL:]HOST:PORT;
    /// without LOCAL, or with 0, any free one
    #[arg(value_name = "[LOCAL:]HOST:PORT")]
    forwards: Vec<Way>,
    /// The same, as ssh spells it
    #[arg(short = 'L', value_name = "[LOCAL:]HOST:PORT")]
    local: Vec<Way>,
    /// A port of the device that leads to HOST:PORT as this machine sees it: [[BIND:]REMOTE:]HOST:PORT
    #[arg(short = 'R', value_name = "[REMOTE:]HOST:PORT")]
    remote: Vec<Way>,
}

const EXAMPLES: &str = "Examples:
  quarterdeck forward pi-1 127.0.0.1:80                 any free port here, which is printed
  quarterdeck forward pi-1 8080:127.0.0.1:80 -L 5432:db.local:5432
  quarterdeck forward pi-1 -R 9000:127.0.0.1:3000       port 9000 of the device leads here

Each forward is a tunnel of its own, of which a user may have only so many. With --output json one
line says when a forward is ready: {\"event\":\"ready\",\"device\":…,\"kind\":\"local\"|\"remote\",\"listen\":…,\"target\":…}.
It runs until ^C, or until its last tunnel is over (exit code 1).";

/// Where a forward listens, and where it leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    bind: String,
    /// 0: any free one.
    port: u16,
    target: Place,
}

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    host: String,
    port: u16,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for Way {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected =
            || "expected [[BIND:]LOCAL:]HOST:PORT, IPv6 addresses in brackets".to_owned();
        let words = words(text).ok_or_else(expected)?;
        let port = |text: &str| text.parse::<u16>().map_err(|_| expected());
        let host = |text: &str| {
            let is_good = !text.is_empty() && text.len() <= HOST_MAX_BYTES;
            if is_good { Ok(text.to_owned()) } else { Err(expected()) }
        };
        let (bind, local, target, target_port) = match &words[..] {
            [target, target_port] => (LOOPBACK, "0", target, target_port),
            [local, target, target_port] => (LOOPBACK, *local, target, target_port),
            [bind, local, target, target_port] => (*bind, *local, target, target_port),
            _ => return Err(expected()),
        };
        let target = Place { host: host(target)?, port: port(target_port)? };
        if target.port == 0 {
            return Err("the port that it leads to cannot be 0".to_owned());
        }
        Ok(Self { bind: host(bind)?, port: port(local)?, target })
    }
}

/// Cuts at colons that stand in no brackets.
fn words(text: &str) -> Option<Vec<&str>> {
    let mut words = Vec::new();
    let mut rest = text;
    loop {
        let (word, after) = match rest.strip_prefix('[') {
            Some(inner) => inner.split_once(']')?,
            None => rest.split_at(rest.find(':').unwrap_or(rest.len())),
        };
        words.push(word);
        match after.strip_prefix(':') {
            Some(next) => rest = next,
            None if after.is_empty() => return Some(words),
            None => return None,
        }
    }
}

/// Says that connections are taken now.
#[derive(Debug, Serialize)]
struct Ready<'a> {
    event: &'static str,
    device: &'a str,
    kind: &'static str,
    listen: String,
    target: String,
}

pub async fn run(context: &mut Context, args: ForwardArgs) -> Result<(), CliError> {
    let locals: Vec<_> = args.forwards.into_iter().chain(args.local).collect();
    if locals.is_empty() && args.remote.is_empty() {
        return Err(CliError::Usage("expected [LOCAL:]HOST:PORT, -L or -R".to_owned()));
    }
    let mut attachments = Vec::new();
    let mut serving = JoinSet::new();
    // Ports of this machine first: what is taken there needs no tunnel.
    let mut listeners = Vec::new();
    for way in locals {
        let listener = TcpListener::bind((way.bind.as_str(), way.port)).await.map_err(|e| {
            let place = Place { host: way.bind.clone(), port: way.port };
            CliError::Failed(format!("cannot listen on {place}: {e}"))
        })?;
        listeners.push((way, listener));
    }
    for (way, listener) in listeners {
        let listen = listener.local_addr()?.to_string();
        let attachment = open_local(context, &args.device, &way).await?;
        say_ready(context, &args.device, "local", listen, &way.target)?;
        attachments.push(attachment.clone());
        serving.spawn(accept_here(attachment, listener));
    }
    for way in args.remote {
        let (attachment, port) = open_remote(context, &args.device, &way).await?;
        let listen = Place { host: way.bind.clone(), port }.to_string();
        say_ready(context, &args.device, "remote", listen, &way.target)?;
        attachments.push(attachment.clone());
        serving.spawn(accept_there(attachment, way.target));
    }
    let (mut interrupts, mut terms) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let all_over = async {
        while let Some(ended) = serving.join_next().await {
            if let Ok(ended) = ended {
                note(&format!("quarterdeck: a forward is over: {ended}"));
            }
        }
        CliError::Said
    };
    let why = tokio::select! {
        why = all_over => why,
        _ = interrupts.recv() => CliError::Interrupted,
        _ = terms.recv() => CliError::Exit(128 + 15),
    };
    attachments.iter().for_each(Attachment::close);
    let ends = async {
        for attachment in &attachments {
            attachment.ended().await;
        }
    };
    let _ = timeout(FAREWELL, ends).await;
    Err(why)
}

fn say_ready(
    context: &mut Context,
    device: &str,
    kind: &'static str,
    listen: String,
    target: &Place,
) -> Result<(), CliError> {
    let target = target.to_string();
    let line = if context.printer.is_json() {
        let ready = Ready { event: "ready", device, kind, listen, target };
        serde_json::to_string(&ready).expect("plain data")
    } else if kind == "local" {
        format!("{listen} leads to {target} of {device}")
    } else {
        format!("{listen} of {device} leads to {target} here")
    };
    context.printer.text(&line)
}

async fn open_local(context: &Context, device: &str, way: &Way) -> Result<Attachment, CliError> {
    let mut request = session::request(device, TunnelKind::PortForward)?;
    (request.host, request.port) = (Some(way.target.host.clone()), Some(way.target.port));
    let (_, attachment) = session::open(context, &request, None).await?;
    Ok(attachment)
}

async fn open_remote(
    context: &Context,
    device: &str,
    way: &Way,
) -> Result<(Attachment, u16), CliError> {
    let mut request = session::request(device, TunnelKind::PortForward)?;
    (request.host, request.port) = (Some(way.bind.clone()), Some(way.port));
    request.reverse = true;
    let (created, attachment) = session::open(context, &request, None).await?;
    let port = listen_port(context, created.tunnel.id, &attachment).await?;
    Ok((attachment, port))
}

/// Waits until the device says where it listens.
async fn listen_port(
    context: &Context,
    id: quarterdeck_protocol::ids::TunnelId,
    attachment: &Attachment,
) -> Result<u16, CliError> {
    loop {
        let tunnel = context.project().tunnel(id).await?;
        if let Some(port) = tunnel.listen_port {
            return Ok(port);
        }
        tokio::select! {
            ended = attachment.ended() => return Err(Failed::from(ended).into()),
            () = tokio::time::sleep(LISTEN_LOOK) => {}
        }
    }
}

/// How often the server is asked where a device listens.
const LISTEN_LOOK: Duration = Duration::from_millis(200);

/// Takes connections here; each becomes a stream.
async fn accept_here(attachment: Attachment, listener: TcpListener) -> Ended {
    let places = Arc::new(Semaphore::new(STREAMS_MAX));
    let mut connections = JoinSet::new();
    let accepting = async {
        loop {
            // As many as may be are open: the next waits in the kernel's queue.
            let place = Arc::clone(&places).acquire_owned().await.expect("it is never closed");
            while connections.try_join_next().is_some() {}
            let socket = match listener.accept().await {
                Ok((socket, _)) => socket,
                // Of one connection, or for want of file descriptors: others may come.
                Err(error) => {
                    tracing::warn!(%error, "a connection cannot be taken");
                    tokio::time::sleep(LISTEN_LOOK).await;
                    continue;
                }
            };
            // One that is turned away is broken off: an end would look like the target's.
            pump::break_off_if_dropped(&socket, true);
            match attachment.open() {
                Ok(stream) => {
                    connections.spawn(async move {
                        say_stopped(pump::join(socket, &stream).await);
                        drop(place);
                    });
                }
                Err(refused) => tracing::warn!(%refused, "a connection was turned away"),
            }
        }
    };
    tokio::select! {
        ended = session::watch(&attachment, std::io::stderr().is_terminal()) => ended,
        () = accepting => unreachable!("it never ends"),
    }
}

/// Takes connections of the device; each leads to `target` here.
async fn accept_there(attachment: Attachment, target: Place) -> Ended {
    let mut connections = JoinSet::new();
    let accepting = async {
        loop {
            let stream = match attachment.accept().await {
                Ok(stream) => stream,
                Err(ended) => return ended,
            };
            while connections.try_join_next().is_some() {}
            let target = target.clone();
            connections.spawn(async move { connect(&target, stream).await });
        }
    };
    tokio::select! {
        ended = session::watch(&attachment, std::io::stderr().is_terminal()) => ended,
        ended = accepting => ended,
    }
}

async fn connect(target: &Place, stream: Stream) {
    let connecting = TcpStream::connect((target.host.as_str(), target.port));
    let why = match timeout(CONNECT_TIMEOUT, connecting).await {
        Ok(Ok(socket)) => return say_stopped(pump::join(socket, &stream).await),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "no answer".to_owned(),
    };
    note(&format!("quarterdeck: cannot connect to {target}: {why}"));
    stream.reset(Closed::new(CloseCode::ConnectFailed, why));
}

/// Says why a connection broke, unless one of its own ends did that.
fn say_stopped(result: Result<(), pump::Stopped>) {
    if let Err(pump::Stopped::Stream(closed)) = result
        && closed.code != CloseCode::ConnectionLost
    {
        note(&format!(
            "quarterdeck: a connection is over: {}",
            crate::net::tunnel::closed_text(&closed)
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_are_read_as_ssh_reads_them() {
        let way = |bind: &str, port, host: &str, target_port| Way {
            bind: bind.to_owned(),
            port,
            target: Place { host: host.to_owned(), port: target_port },
        };
        for (text, expected) in [
            ("db:5432", way(LOOPBACK, 0, "db", 5432)),
            ("8080:db:5432", way(LOOPBACK, 8080, "db", 5432)),
            ("0:db:5432", way(LOOPBACK, 0, "db", 5432)),
            ("0.0.0.0:8080:db:5432", way("0.0.0.0", 8080, "db", 5432)),
            ("[::1]:8080:[fe80::1]:80", way("::1", 8080, "fe80::1", 80)),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_way_is_refused() {
        for text in [
            "",
            "80",
            "db:",
            ":80",
            "db:0",
            "a:db:80",
            "1:2:3:4:5",
            "[::1:80",
            "[::1]x:80",
            "db:99999",
        ] {
            assert!(text.parse::<Way>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_ipv6_address_is_shown_in_brackets() {
        let place = Place { host: "::1".to_owned(), port: 80 };
        assert_eq!(place.to_string(), "[::1]:80");
    }
}
