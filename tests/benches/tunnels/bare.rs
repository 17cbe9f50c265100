//! The ways of a key with nothing done at them: what this machine takes for them at least.
//!
//! ```text
//!  client ──▶ "server" ──▶ "agent" ──▶ terminal with `cat`
//!         ◀──          ◀──         ◀──
//! ```
//!
//! Each is a process of its own that reads what comes and writes it, without a
//! protocol, encryption, a log or another user. ssh has one process less between.

use std::{
    env,
    fs::File,
    io::{self, BufRead as _, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    os::fd::AsFd as _,
    process::{Child, Command, ExitCode, Stdio},
    thread,
};

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::keys::ECHO;

/// Says which of the two a process is: `agent`, or the port that the server is to connect to.
const ROLE: &str = "QUARTERDECK_BARE_HOP";

/// Both processes, and a connection to the first.
pub(crate) struct Bare {
    pub(crate) stream: tokio::net::TcpStream,
    _hops: [Hop; 2],
}

/// Ends with it.
struct Hop {
    child: Child,
    port: u16,
}

impl Drop for Hop {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Bare {
    pub(crate) async fn start() -> Result<Self> {
        let agent = Hop::start("agent")?;
        let server = Hop::start(&agent.port.to_string())?;
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", server.port)).await?;
        stream.set_nodelay(true)?;
        let mut ready = [0; 5];
        stream.read_exact(&mut ready).await?;
        Ok(Self { stream, _hops: [server, agent] })
    }

    /// Types a key and waits for its echo.
    pub(crate) async fn key(&mut self) -> Result<()> {
        self.stream.write_all(b"x").await?;
        self.stream.read_exact(&mut [0]).await?;
        Ok(())
    }
}

impl Hop {
    fn start(role: &str) -> Result<Self> {
        let mut command = Command::new(env::current_exe()?);
        let mut child = command.env(ROLE, role).stdout(Stdio::piped()).spawn()?;
        let mut port = String::new();
        BufReader::new(child.stdout.take().context("no stdout")?).read_line(&mut port)?;
        Ok(Self { child, port: port.trim().parse().context("no port")? })
    }
}

/// What this process is when it was started as one of the two.
pub(crate) fn as_hop() -> Option<Result<ExitCode>> {
    let role = env::var(ROLE).ok()?;
    Some(hop(&role).map(|()| ExitCode::SUCCESS))
}

fn hop(role: &str) -> Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    println!("{}", listener.local_addr()?.port());
    let (near, _) = listener.accept()?;
    near.set_nodelay(true)?;
    if role == "agent" {
        let (terminal, end) = pty_process::blocking::open()?;
        let mut cat = pty_process::blocking::Command::new("sh").args(["-c", ECHO]).spawn(end)?;
        let far = || terminal.as_fd().try_clone_to_owned().map(File::from);
        join(near.try_clone()?, near, far()?, far()?);
        cat.wait()?;
    } else {
        let far = TcpStream::connect(("127.0.0.1", role.parse()?))?;
        far.set_nodelay(true)?;
        join(near.try_clone()?, near, far.try_clone()?, far);
    }
    Ok(())
}

/// Passes on what comes, both ways, until one end is gone.
fn join(
    mut near_in: impl Read + Send + 'static,
    mut near_out: impl Write,
    mut far_in: impl Read,
    mut far_out: impl Write + Send + 'static,
) {
    thread::spawn(move || pass(&mut near_in, &mut far_out));
    // Whoever started this ends it too.
    let _ = pass(&mut far_in, &mut near_out);
}

fn pass(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(()),
            length => to.write_all(&buffer[..length])?,
        }
    }
}
