//! The standard ssh, scp and rsync through tunnels, to a private sshd.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use anyhow::{Context, Result};
use quarterdeck_protocol::api::{Tunnel, TunnelStatus};
use quarterdeck_tests::{
    Fleet, cli, services,
    sshd::Sshd,
    wait::{Look, wait_for},
};
use tokio::process::Command;

use super::noise;

/// A fleet whose one device is reached by `ssh -F CONFIG pi-1`.
struct Reached {
    fleet: Fleet,
    _device: quarterdeck_tests::agent::Device,
    config: String,
    _sshd: Sshd,
}

impl Reached {
    /// By the block that `quarterdeck ssh-config` prints, as it is.
    async fn start() -> Result<Option<Self>> {
        let Some(sshd) = Sshd::start().await? else { return Ok(None) };
        let fleet = Fleet::start().await?;
        let device = fleet.device("pi-1").await?;
        let printed = cli::succeed(cli::quarterdeck(&fleet, fleet.api(), &["ssh-config"])?).await?;
        let blocks = String::from_utf8(printed.stdout)?;
        let config = sshd.client("pi-1.default.quarterdeck", &blocks)?;
        let config = config.to_str().context("a folder name that is no text")?.to_owned();
        Ok(Some(Self { fleet, _device: device, config, _sshd: sshd }))
    }

    fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = cli::program(&self.fleet, self.fleet.api(), program);
        command.args(args);
        command
    }

    fn ssh(&self, script: &str) -> Command {
        self.command("ssh", &["-F", &self.config, "pi-1", script])
    }

    /// Waits until no tunnel is left: who used one has closed it.
    async fn none_is_left(&self) -> Result<()> {
        wait_for("all tunnels to be closed", || async {
            let all: Vec<Tunnel> = self.fleet.api().list("@/tunnels").await?;
            let open: Vec<_> = all.iter().filter(|tunnel| !tunnel.status.is_over()).collect();
            Ok(if open.is_empty() { Look::Ready(()) } else { Look::not_yet(format!("{open:?}")) })
        })
        .await
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[tokio::test]
async fn ssh_passes_bytes_both_ways_and_the_exit_code_on() -> Result<()> {
    let Some(reached) = Reached::start().await? else { return Ok(()) };
    let sent = noise(3_000_000);
    let copied = cli::feed(reached.ssh("cat; echo done >&2; exit 7"), sent.clone()).await?;
    let stderr = String::from_utf8_lossy(&copied.stderr);
    assert_eq!((copied.status.code(), stderr.trim()), (Some(7), "done"));
    assert!(copied.stdout == sent, "{} of {} bytes", copied.stdout.len(), sent.len());
    reached.none_is_left().await?;
    let all: Vec<Tunnel> = reached.fleet.api().list("@/tunnels").await?;
    let [tunnel] = &all[..] else { anyhow::bail!("one tunnel, not {all:?}") };
    assert_eq!((tunnel.kind.as_str(), tunnel.status), ("ssh", TunnelStatus::Closed));
    assert!(tunnel.bytes_up > 3_000_000 && tunnel.bytes_down > 3_000_000, "{tunnel:?}");
    Ok(())
}

#[tokio::test]
async fn a_host_whose_key_is_another_is_refused() -> Result<()> {
    let Some(reached) = Reached::start().await? else { return Ok(()) };
    let known = Path::new(&reached.config).with_file_name("known_hosts");
    let other = fs::read_to_string(&known)?.replace("pi-1.default", "pi-2.default");
    fs::write(&known, other)?;
    let refused = reached.ssh("echo in").output().await?;
    assert_eq!((refused.status.code(), &refused.stdout[..]), (Some(255), &b""[..]));
    reached.none_is_left().await
}

#[tokio::test]
async fn scp_copies_there_and_back() -> Result<()> {
    let Some(reached) = Reached::start().await? else { return Ok(()) };
    let (here, there, back) =
        (reached.fleet.file("here"), reached.fleet.file("there"), reached.fleet.file("back"));
    let sent = noise(5_000_000);
    fs::write(&here, &sent)?;
    let remote = format!("pi-1:{}", text(&there));
    let scp =
        |from: &str, to: &str| reached.command("scp", &["-q", "-F", &reached.config, from, to]);
    cli::succeed(scp(&text(&here), &remote)).await?;
    assert!(fs::read(&there)? == sent, "what came there differs");
    cli::succeed(scp(&remote, &text(&back))).await?;
    assert!(fs::read(&back)? == sent, "what came back differs");
    reached.none_is_left().await
}

#[tokio::test]
async fn rsync_brings_a_folder_up_to_date() -> Result<()> {
    if services::require("rsync")?.is_none() {
        return Ok(());
    }
    let Some(reached) = Reached::start().await? else { return Ok(()) };
    let (here, there) = (reached.fleet.file("folder"), reached.fleet.file("mirror"));
    fs::create_dir_all(here.join("deep/er"))?;
    for (name, len) in
        [("empty", 0), ("small", 17), ("deep/large", 2_000_000), ("deep/er/x", 70_000)]
    {
        fs::write(here.join(name), noise(len))?;
    }
    let sync = || {
        let shell = format!("ssh -F '{}'", reached.config);
        let (from, to) = (format!("{}/", text(&here)), format!("pi-1:{}/", text(&there)));
        let args = ["-a", "--delete", "--checksum", "-e", &shell, &from, &to];
        cli::succeed(reached.command("rsync", &args))
    };
    sync().await?;
    assert_eq!(files(&there)?, files(&here)?);
    // The second time only what changed goes, in the middle of a file too.
    let mut large = noise(2_000_000);
    large[1_000_000] ^= 1;
    fs::write(here.join("deep/large"), large)?;
    fs::remove_file(here.join("small"))?;
    sync().await?;
    assert_eq!(files(&there)?, files(&here)?);
    reached.none_is_left().await
}

/// What is in a folder: names and contents.
fn files(folder: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(text(path.strip_prefix(folder)?), fs::read(&path)?);
            }
        }
    }
    Ok(found)
}

/// Sends bytes through ssh and back while the server is killed again and again.
async fn goes_on(bytes: usize, kills: u32, limit: Duration) -> Result<()> {
    let Some(mut reached) = Reached::start().await? else { return Ok(()) };
    let sent = noise(bytes);
    let copy = cli::feed_within(limit, reached.ssh("cat"), sent.clone());
    let killing = async {
        for _ in 0..kills {
            tokio::time::sleep(Duration::from_millis(400)).await;
            reached.fleet.restart_server().await?;
        }
        anyhow::Ok(())
    };
    let (copied, ()) = tokio::try_join!(copy, killing)?;
    let stderr = String::from_utf8_lossy(&copied.stderr);
    assert!(copied.status.success(), "{stderr}");
    assert!(copied.stdout == sent, "{} of {} bytes", copied.stdout.len(), sent.len());
    reached.none_is_left().await
}

#[tokio::test]
async fn an_ssh_goes_on_while_the_server_is_killed_and_comes_back() -> Result<()> {
    goes_on(24_000_000, 2, Duration::from_mins(1)).await
}

/// `cargo test -p quarterdeck-tests --test tunnels -- --ignored`
#[tokio::test]
#[ignore = "takes a minute or more"]
async fn two_hundred_megabytes_survive_three_kills_of_the_server() -> Result<()> {
    goes_on(200_000_000, 3, Duration::from_mins(10)).await
}
