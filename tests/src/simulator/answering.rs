//! Devices that answer each command with accepted, execution_started, completed, at QoS 2.
//!
//! ```text
//!  PUBLISH ─▶ PUBREC, and the three PUBLISHes ─▶ three times PUBREC, PUBREL, PUBCOMP: answered
//!  PUBREL  ─▶ PUBCOMP
//! ```

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::{Context, Result, bail};
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    AT_ONCE,
    connection::{Connection, command_id, now_text, response},
};
use crate::mqtt::{
    Login,
    codec::{self, Packet, Qos},
};

/// What the devices have done so far.
#[derive(Debug, Default)]
pub struct Counts {
    /// Commands that came, repeated ones included.
    pub commands: AtomicU64,
    /// Commands whose three answers the broker has acknowledged.
    pub answered: AtomicU64,
    /// Connections that ended before the simulator did.
    pub lost: AtomicU64,
    changed: Notify,
}

/// Connected devices; all gone when dropped.
#[derive(Debug)]
pub struct Simulator {
    counts: Arc<Counts>,
    devices: usize,
    _stop: DropGuard,
}

impl Simulator {
    /// Connects a device for each login; returns when all hear their commands.
    pub async fn connect(port: u16, logins: &[Login]) -> Result<Self> {
        let connections: Vec<Connection> = stream::iter(logins)
            .map(|login| Connection::open(port, login))
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        let stop = CancellationToken::new();
        let counts = Arc::new(Counts::default());
        let devices = connections.len();
        for connection in connections {
            let (stop, counts) = (stop.clone(), counts.clone());
            tokio::spawn(async move {
                if let Some(Err(_)) = stop.run_until_cancelled(answer(connection, &counts)).await {
                    counts.lost.fetch_add(1, Relaxed);
                    counts.changed.notify_waiters();
                }
            });
        }
        Ok(Self { counts, devices, _stop: stop.drop_guard() })
    }

    pub fn devices(&self) -> usize {
        self.devices
    }

    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Waits until so many commands in all are answered.
    pub async fn wait_answered(&self, count: u64, deadline: Duration) -> Result<()> {
        let all = async {
            loop {
                let changed = self.counts.changed.notified();
                if self.counts.lost.load(Relaxed) > 0 {
                    bail!(
                        "{} of the devices lost their connection",
                        self.counts.lost.load(Relaxed)
                    );
                }
                if self.counts.answered.load(Relaxed) >= count {
                    return Ok(());
                }
                // A notification between the look and the wait is caught by the next tick.
                let _ = tokio::time::timeout(Duration::from_millis(5), changed).await;
            }
        };
        tokio::time::timeout(deadline, all).await.with_context(|| {
            format!(
                "{} of {count} commands answered after {} s, {} came",
                self.counts.answered.load(Relaxed),
                deadline.as_secs(),
                self.counts.commands.load(Relaxed)
            )
        })?
    }
}

async fn answer(mut connection: Connection, counts: &Counts) -> Result<()> {
    // Packet ids of commands that the broker has not released yet.
    let mut unreleased: Vec<u16> = Vec::new();
    let mut unanswered = 0_u64;
    let mut commands: Vec<String> = Vec::new();
    loop {
        connection
            .receive(|packet, out| {
                match packet {
                    Packet::Publish { payload, qos, id, .. } => {
                        match qos {
                            Qos::AtMostOnce => {}
                            Qos::AtLeastOnce => codec::write_puback(out, id),
                            Qos::ExactlyOnce => codec::write_pubrec(out, id),
                        }
                        if qos == Qos::ExactlyOnce && unreleased.contains(&id) {
                            return Ok(());
                        }
                        if qos == Qos::ExactlyOnce {
                            unreleased.push(id);
                        }
                        let command = command_id(payload).context("a command without an id")?;
                        commands.push(command.to_owned());
                    }
                    Packet::PubRel { id } => {
                        unreleased.retain(|released| *released != id);
                        codec::write_pubcomp(out, id);
                    }
                    Packet::PubRec { id } => codec::write_pubrel(out, id),
                    Packet::PubComp { .. } => {
                        unanswered -= 1;
                        if unanswered.is_multiple_of(3) {
                            counts.answered.fetch_add(1, Relaxed);
                            counts.changed.notify_waiters();
                        }
                    }
                    _ => {}
                }
                Ok(())
            })
            .await?;
        for command in commands.drain(..) {
            counts.commands.fetch_add(1, Relaxed);
            unanswered += 3;
            let at = now_text();
            for (status, more) in
                [("accepted", ""), ("execution_started", ""), ("completed", r#","exit_code":0"#)]
            {
                let payload = response(status, &command, &at, more);
                connection.respond(payload.as_bytes(), Qos::ExactlyOnce);
            }
        }
        connection.flush().await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        mosquitto::{Access, Mosquitto},
        mqtt::Client,
        simulator::strangers,
    };

    #[tokio::test]
    async fn each_device_answers_its_command_in_three_steps() {
        let Some(broker) = Mosquitto::start(Access::Open).await.expect("started") else { return };
        let devices = Simulator::connect(broker.port(), &strangers(50)).await.expect("connected");
        let mut server = Client::connect(broker.port(), &Login::new("server")).await.expect("in");
        let filter = "roboticks/+/devices/+/commands/response";
        assert!(server.subscribe(filter, Qos::ExactlyOnce).await.expect("answered"));
        for index in 0..50 {
            let topic = format!("roboticks/default/devices/sim-{index:05}/commands");
            let command = format!(r#"{{"command_id":"c-{index}"}}"#);
            server.publish(&topic, command.as_bytes(), Qos::ExactlyOnce).await.expect("sent");
        }
        devices.wait_answered(50, Duration::from_mins(1)).await.expect("all answered");
        let mut statuses = std::collections::BTreeMap::<String, Vec<String>>::new();
        for _ in 0..150 {
            let said = server.next().await.expect("a response").json().expect("JSON");
            let text = |key: &str| said[key].as_str().unwrap_or_default().to_owned();
            statuses.entry(text("command_id")).or_default().push(text("status"));
        }
        assert_eq!(statuses.len(), 50);
        assert!(
            statuses.values().all(|said| said == &["accepted", "execution_started", "completed"])
        );
    }
}
