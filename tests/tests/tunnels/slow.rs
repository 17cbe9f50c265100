//! Lines of one byte a second: nothing to speak of gets through, and no connection ends.
//!
//! ```text
//!  quarterdeck exec ─┐
//!  terminal ─────────┴─ console's line ─▶ server ─ broker's line ─▶ broker ─ device's line ─▶ agent
//! ```

use anyhow::{Context as _, Result};
use quarterdeck_tests::{
    Fleet,
    api::Api,
    cli,
    mosquitto::{Access, Mosquitto},
    proxy::{Fault, Proxy},
    server::ServerOptions,
    tunnel::Console,
    wait::{Look, in_time, wait_for},
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{
    faults::{ECHO, reroute},
    noise, terminal,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    Console,
    Broker,
    Device,
}

/// So many bytes go through while the line is slow: as many seconds.
const TRICKLE_BYTES: u64 = 12;

/// Lets a line have one byte a second until some have come through.
async fn trickle(proxy: &Proxy) -> Result<()> {
    let passed = || proxy.bytes_to_server() + proxy.bytes_to_client();
    proxy.set(Fault::Throttle { bytes_per_s: 1 });
    let before = passed();
    wait_for("some bytes", || async {
        let came = passed() - before;
        Ok(if came >= TRICKLE_BYTES { Look::Ready(()) } else { Look::not_yet(came) })
    })
    .await?;
    proxy.set(Fault::None);
    Ok(())
}

async fn one_byte_a_second(line: Line) -> Result<()> {
    let Some(mosquitto) = Mosquitto::start(Access::Open).await? else { return Ok(()) };
    let to_broker = Proxy::to(mosquitto.port()).await?;
    let broker = format!("mqtt://127.0.0.1:{}", to_broker.port());
    let env = vec![("QUARTERDECK_SERVER_BROKER".to_owned(), broker)];
    let fleet = Fleet::start_with(ServerOptions { env, ..ServerOptions::default() }).await?;
    let mut device = fleet.device("pi-1").await?;
    let to_device = Proxy::to(mosquitto.port()).await?;
    reroute(&fleet, &mut device, to_broker.port(), to_device.port()).await?;
    let to_server = Proxy::to(fleet.http_port()?).await?;
    let base = format!("http://127.0.0.1:{}", to_server.port());
    let api = Api::new(&base)?.with_token(fleet.api().token());
    let slow = match line {
        Line::Console => &to_server,
        Line::Broker => &to_broker,
        Line::Device => &to_device,
    };

    let (_, console) = Console::create(&api, &terminal(ECHO)).await?;
    console.shows("ready").await?;
    let mut program = cli::quarterdeck(&fleet, &api, &["exec", "pi-1", "--", "cat"])?
        .stdin(std::process::Stdio::piped())
        .spawn()?;
    let mut stdin = program.stdin.take().context("no stdin")?;
    let mut stdout = program.stdout.take().context("no stdout")?;
    let sent = noise(600_000);
    let (first, second) = sent.split_at(sent.len() / 2);
    // Half goes through as ever; the other is on its way when the line gets slow.
    console.write(first.to_vec()).await?;
    console.shows_bytes(first.len() + "ready".len()).await?;
    stdin.write_all(first).await?;
    let mut came = vec![0; first.len()];
    in_time("the first half", stdout.read_exact(&mut came)).await??;
    let talk = async {
        console.write(second.to_vec()).await?;
        console.shows_bytes(sent.len() + "ready".len()).await?;
        stdin.write_all(second).await?;
        drop(stdin);
        in_time("the second half", stdout.read_to_end(&mut came)).await??;
        anyhow::Ok(())
    };
    tokio::try_join!(trickle(slow), talk)?;
    assert!(console.output()["ready".len()..] == sent, "what the terminal gave back differs");
    assert!(came == sent, "what the program gave back differs: {} bytes", came.len());
    let ended = in_time("its end", program.wait()).await??;
    assert_eq!(ended.code(), Some(0));
    Ok(())
}

#[tokio::test]
async fn a_console_at_one_byte_a_second_loses_none() -> Result<()> {
    one_byte_a_second(Line::Console).await
}

#[tokio::test]
async fn a_server_at_one_byte_a_second_from_its_broker_loses_none() -> Result<()> {
    one_byte_a_second(Line::Broker).await
}

#[tokio::test]
async fn a_device_at_one_byte_a_second_loses_none() -> Result<()> {
    one_byte_a_second(Line::Device).await
}
