//! Devices that publish as much as they may: distinct pieces of a command's output, at QoS 1.
//!
//! Saturating, each keeps a window of unacknowledged messages. Paced, each
//! sends by the clock, and the time that a message took counts from when it
//! was due, so that a stall is not hidden by what was not sent during it.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::{
    sync::Barrier,
    task::JoinSet,
    time::{sleep_until, timeout},
};

use super::{
    AT_ONCE,
    connection::{Connection, command_id, now_text, response},
};
use crate::{
    clock,
    mqtt::{
        Login,
        codec::{self, Packet, Qos},
    },
};

/// How many bytes of output each message carries.
pub const CHUNK_BYTES: usize = 16;

/// How much the devices publish.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// So many messages of each device are unacknowledged at any time.
    Saturate { window: usize },
    /// All devices together.
    PerSecond(f64),
}

/// What became of a load.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Messages that were acknowledged.
    pub acknowledged: u64,
    /// From the first message to the last acknowledgement.
    pub elapsed: Duration,
    /// How long each took, in microseconds, in order; only of a paced load.
    pub latencies_us: Vec<u32>,
    /// Acknowledged messages of each device.
    pub by_device: Vec<(String, u64)>,
}

impl Outcome {
    pub fn per_second(&self) -> f64 {
        self.acknowledged as f64 / self.elapsed.as_secs_f64()
    }

    /// The latency that so many percent of the messages keep under.
    pub fn percentile(&self, percent: f64) -> Duration {
        let at = (self.latencies_us.len() as f64 * percent / 100.0) as usize;
        let at = at.min(self.latencies_us.len().saturating_sub(1));
        Duration::from_micros(self.latencies_us.get(at).copied().unwrap_or_default().into())
    }
}

/// Devices that are connected and have a command running each.
#[derive(Debug)]
pub struct Loaders {
    devices: Vec<Loader>,
}

#[derive(Debug)]
struct Loader {
    connection: Connection,
    command: String,
    sent: u64,
}

impl Loaders {
    pub async fn connect(port: u16, logins: &[Login]) -> Result<Self> {
        let devices = stream::iter(logins)
            .map(|login| async move {
                let connection = Connection::open(port, login).await?;
                anyhow::Ok(Loader { connection, command: clock::new_uuid().to_string(), sent: 0 })
            })
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        Ok(Self { devices })
    }

    /// Has each device wait for a command and say that it runs.
    pub async fn start_commands(&mut self) -> Result<()> {
        let starts = self.devices.iter_mut().map(Loader::start_command);
        stream::iter(starts).buffer_unordered(AT_ONCE).try_collect::<Vec<_>>().await?;
        Ok(())
    }

    /// Publishes for so long, then waits for what is unacknowledged.
    pub async fn run(&mut self, pace: Pace, duration: Duration) -> Result<Outcome> {
        let count = self.devices.len();
        let barrier = Arc::new(Barrier::new(count));
        let mut tasks = JoinSet::new();
        for (index, mut device) in self.devices.drain(..).enumerate() {
            let barrier = barrier.clone();
            tasks.spawn(async move {
                barrier.wait().await;
                let done = match pace {
                    Pace::Saturate { window } => device.saturate(window, duration).await,
                    Pace::PerSecond(rate) => {
                        let interval = Duration::from_secs_f64(count as f64 / rate);
                        let offset = interval.mul_f64(index as f64 / count as f64);
                        device.paced(offset, interval, duration).await
                    }
                };
                done.map(|done| (device, done))
            });
        }
        let begun = clock::now();
        let mut outcome = Outcome::default();
        while let Some(done) = tasks.join_next().await {
            let (device, (acknowledged, latencies)) = done.context("a device panicked")??;
            outcome.acknowledged += acknowledged;
            outcome.latencies_us.extend(latencies);
            outcome.by_device.push((device.command.clone(), device.sent));
            self.devices.push(device);
        }
        outcome.elapsed = begun.elapsed();
        outcome.latencies_us.sort_unstable();
        Ok(outcome)
    }
}

impl Loader {
    async fn start_command(&mut self) -> Result<()> {
        let mut command = None;
        let mut released = false;
        while command.is_none() || !released {
            self.connection
                .receive(|packet, out| {
                    match packet {
                        Packet::Publish { payload, id, qos, .. } => {
                            command = command_id(payload).map(str::to_owned);
                            if qos == Qos::ExactlyOnce {
                                codec::write_pubrec(out, id);
                            } else {
                                codec::write_puback(out, id);
                                released = true;
                            }
                        }
                        Packet::PubRel { id } => {
                            codec::write_pubcomp(out, id);
                            released = true;
                        }
                        _ => {}
                    }
                    Ok(())
                })
                .await?;
            self.connection.flush().await?;
        }
        self.command = command.context("no command")?;
        for status in ["accepted", "execution_started"] {
            let payload = response(status, &self.command, &now_text(), "");
            self.connection.respond(payload.as_bytes(), Qos::AtLeastOnce);
        }
        self.connection.flush().await?;
        let mut acknowledged = 0;
        while acknowledged < 2 {
            acknowledged += self.acknowledgements().await?;
        }
        Ok(())
    }

    async fn saturate(&mut self, window: usize, duration: Duration) -> Result<(u64, Vec<u32>)> {
        let at = now_text();
        let until = clock::now() + duration;
        let (mut open, mut acknowledged) = (0, 0_u64);
        while clock::now() < until || open > 0 {
            if clock::now() < until {
                while open < window {
                    self.append(&at);
                    open += 1;
                }
                self.connection.flush().await?;
            }
            let done = self.acknowledgements().await?;
            open -= done;
            acknowledged += done as u64;
        }
        Ok((acknowledged, Vec::new()))
    }

    async fn paced(
        &mut self,
        offset: Duration,
        interval: Duration,
        duration: Duration,
    ) -> Result<(u64, Vec<u32>)> {
        let at = now_text();
        let begun = clock::now();
        let until = begun + duration;
        let mut due = begun + offset;
        // A broker acknowledges what one connection says in order.
        let mut open: VecDeque<Instant> = VecDeque::new();
        let mut latencies =
            Vec::with_capacity((duration.as_secs_f64() / interval.as_secs_f64()) as usize + 1);
        while due < until || !open.is_empty() {
            while due < until && due <= clock::now() {
                self.append(&at);
                open.push_back(due);
                due += interval;
            }
            self.connection.flush().await?;
            if open.is_empty() {
                sleep_until(due.into()).await;
                continue;
            }
            let wait = if due < until {
                due.saturating_duration_since(clock::now())
            } else {
                crate::wait::DEADLINE
            };
            if let Ok(done) = timeout(wait, self.acknowledgements()).await {
                let now = clock::now();
                for sent in open.drain(..done?) {
                    latencies.push((now - sent).as_micros().try_into().unwrap_or(u32::MAX));
                }
            }
        }
        Ok((latencies.len() as u64, latencies))
    }

    fn append(&mut self, at: &str) {
        let offset = self.sent * CHUNK_BYTES as u64;
        let more = format!(
            r#","progress":{},"stdout":"{:015}\n","stdout_offset":{offset}"#,
            self.sent % 100,
            self.sent
        );
        let payload = response("progress", &self.command, at, &more);
        self.connection.respond(payload.as_bytes(), Qos::AtLeastOnce);
        self.sent += 1;
    }

    async fn acknowledgements(&mut self) -> Result<usize> {
        let mut count = 0;
        self.connection
            .receive(|packet, _| {
                count += usize::from(matches!(packet, Packet::PubAck { .. }));
                Ok(())
            })
            .await?;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        mosquitto::{Access, Mosquitto},
        simulator::strangers,
    };

    #[tokio::test]
    async fn a_paced_load_sends_what_it_should_and_times_each_message() {
        let Some(broker) = Mosquitto::start(Access::Open).await.expect("started") else { return };
        let mut loaders = Loaders::connect(broker.port(), &strangers(20)).await.expect("connected");
        let second = Duration::from_secs(1);
        let outcome = loaders.run(Pace::PerSecond(500.0), second).await.expect("ran");
        assert!((480..=520).contains(&outcome.acknowledged), "{}", outcome.acknowledged);
        assert_eq!(outcome.latencies_us.len() as u64, outcome.acknowledged);
        let all = loaders.run(Pace::Saturate { window: 4 }, second / 4).await.expect("ran");
        assert!(all.acknowledged > 500, "{}", all.acknowledged);
    }
}
