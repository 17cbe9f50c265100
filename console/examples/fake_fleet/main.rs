//! The console on a fleet that exists only in memory: to look at screens, and to measure.
//!
//! ```text
//! cargo run -p quarterdeck-console --example fake_fleet -- [--ascii] [--no-color] [--low-bandwidth]
//!     [--read-only] [--wall] [--theme NAME] [--devices N] [--rows N] [--still] [--lose SECONDS]
//! ```

mod fleet;

use std::time::Duration;

use quarterdeck_console::tui::{NetPeer, TuiOptions, Wall, effects::NetEvent, net_channel, run};
use quarterdeck_protocol::{api::Role, time::Timestamp};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let flag = |name: &str| arguments.iter().any(|argument| argument == name);
    let value = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1).cloned()
    };
    let number = |name: &str| value(name).and_then(|text| text.parse::<u64>().ok());
    let options = TuiOptions {
        server: "fleet.example".to_owned(),
        project: "prod".to_owned(),
        read_only: flag("--read-only"),
        wall: flag("--wall").then(|| Wall { rotate: Duration::from_secs(15) }),
        low_bandwidth: flag("--low-bandwidth"),
        ascii: flag("--ascii").then_some(true),
        no_color: flag("--no-color").then_some(true),
        theme: value("--theme"),
        mouse: flag("--mouse"),
        export_dir: Some(std::env::temp_dir()),
        ..TuiOptions::default()
    };
    let (handle, peer) = net_channel();
    let devices = number("--devices").unwrap_or(240) as usize;
    let mut fleet = fleet::Fleet::new(now(), devices, 1_204);
    fleet.rows = number("--rows");
    if flag("--admin") {
        fleet.role = Role::Admin;
    }
    tokio::spawn(serve(fleet, peer, flag("--still"), number("--lose")));
    let exit = run(options, handle).await?;
    println!("{exit:?}");
    Ok(())
}

async fn serve(mut fleet: fleet::Fleet, mut peer: NetPeer, still: bool, lose: Option<u64>) {
    tokio::time::sleep(Duration::from_millis(60)).await;
    peer.mailbox.put(fleet.hello());
    let mut tick = tokio::time::interval(Duration::from_millis(250));
    let lost = lose.unwrap_or(u64::MAX / 2_000);
    let lost = tokio::time::sleep(Duration::from_secs(lost));
    tokio::pin!(lost);
    let mut n = 0_u64;
    let mut is_lost = false;
    loop {
        tokio::select! {
            request = peer.requests.recv() => {
                let Some(request) = request else { return };
                if !is_lost {
                    for event in fleet.request(request) {
                        peer.mailbox.put(event);
                    }
                }
            }
            _ = tick.tick(), if !is_lost => {
                n += 1;
                if !still {
                    fleet.live(now());
                    if n.is_multiple_of(23) {
                        fleet.new_command();
                    }
                    for event in fleet.changes() {
                        peer.mailbox.put(event);
                    }
                }
                if n.is_multiple_of(4) {
                    fleet.now = now();
                    peer.mailbox.put(fleet.heartbeat());
                }
            }
            () = &mut lost, if !is_lost => {
                is_lost = true;
                peer.mailbox.put(NetEvent::Lost { why: "connection refused; trying again in 4 s".to_owned() });
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the example has a clock of its own")]
fn now() -> Timestamp {
    jiff::Timestamp::now().into()
}
