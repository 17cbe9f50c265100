//! One connection, from its first byte to its last: one task.
//!
//! ```text
//!   accepted --CONNECT--> sign-in --CONNACK--> serving --------> ended --> last will, Disconnected
//!       |                    |                  |   ^
//!       +--- too late, too many, refused        +---+  a turn: acknowledgements whose commits are
//!                   v                                  there, messages that wait, one write, one read
//!                closed
//! ```

use std::{
    future::poll_fn,
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::io::{AsyncRead, AsyncWrite};
use tracing::{debug, info};

use super::{
    core::{Core, Welcome, excerpt},
    delivery::{Deliveries, Taken},
    door::Place,
    gate::{Ack, Gate},
    line::Line,
    patience::Patience,
    registry::Connection,
    wire::{
        Answer, Broken, Hello, Incoming, LastWill, Outgoing, Parting, Said, Wire, refusal_of_level,
    },
};
use crate::mqtt::{
    limits::{
        DEVICE_INFLIGHT_MAX_MESSAGES, FILTERS_MAX, PARTING_TIMEOUT_MS, SEND_TIMEOUT_MS,
        SIGN_IN_TIMEOUT_MS,
    },
    link::{Ended, Qos},
};

const SEND_TIMEOUT: Duration = Duration::from_millis(SEND_TIMEOUT_MS);
const PARTING_TIMEOUT: Duration = Duration::from_millis(PARTING_TIMEOUT_MS);
const SIGN_IN_TIMEOUT: Duration = Duration::from_millis(SIGN_IN_TIMEOUT_MS);

/// Serves a connection until it ends.
pub(super) async fn serve<Io: AsyncRead + AsyncWrite + Unpin>(
    core: Arc<Core>,
    io: Io,
    peer: SocketAddr,
    place: Place,
) {
    let mut line = Line::new(io);
    // Boxed: what only the sign-in needs is not to stay for as long as the connection.
    let Some(signed_in) = Box::pin(sign_in(&core, &mut line, peer, place)).await else { return };
    let SignedIn { wire, welcome, manner } = signed_in;
    let connection = welcome.connection;
    let mut serving = Serving {
        core: &core,
        connection: &connection,
        line,
        wire,
        deliveries: Deliveries::new(manner.receive_max.min(DEVICE_INFLIGHT_MAX_MESSAGES)),
        gate: Gate::default(),
        is_held_back: false,
        patience: Patience::new(manner.keep_alive),
    };
    let end = serving.run().await;
    let is_amid_qos_2 = serving.deliveries.is_amid_qos_2();
    serving.part(end).await;
    // A session that was to end with the connection does so, MQTT 5 section 3.14.2.2.2.
    let kept_s = end.kept_s.filter(|_| manner.kept_s > 0).unwrap_or(manner.kept_s);
    let kept = Duration::from_secs(if is_amid_qos_2 { 0 } else { kept_s });
    finish(&core, connection, manner.last_will.filter(|_| end.with_last_will), end.ended, kept)
        .await;
}

// ---------------------------------------------------------------- signing in

struct SignedIn {
    wire: Wire,
    welcome: Welcome,
    manner: Manner,
}

/// What a device asked for when it signed in.
struct Manner {
    keep_alive: Option<Duration>,
    kept_s: u64,
    receive_max: u16,
    last_will: Option<Box<LastWill>>,
}

async fn sign_in<Io: AsyncRead + AsyncWrite + Unpin>(
    core: &Core,
    line: &mut Line<Io>,
    peer: SocketAddr,
    place: Place,
) -> Option<SignedIn> {
    let greeted = tokio::select! {
        greeted = tokio::time::timeout(SIGN_IN_TIMEOUT, greet(line)) => greeted.ok(),
        () = place.turned_away() => None,
    };
    let Some(greeted) = greeted else {
        debug!(%peer, "closed: it did not sign in, in time or before too many others came");
        return None;
    };
    let (mut wire, hello) = greeted?;
    // From here on it is a sign-in, and counted among those.
    drop(place);
    let welcome = match core.sign_in(&hello, peer).await {
        Ok(welcome) => welcome,
        Err(refusal) => {
            wire.answer(refusal, &mut line.outbox);
            // Who does not read its refusal does not get it.
            let _ = tokio::time::timeout(SEND_TIMEOUT, line.flush()).await;
            return None;
        }
    };
    core.connected(&welcome.connection).await;
    let kept_s = hello.is_kept_shorter.then_some(hello.kept_s);
    let answer = Answer::Welcome { session_present: welcome.session_present, kept_s };
    wire.answer(answer, &mut line.outbox);
    let manner = Manner {
        // One and a half times, MQTT 3.1.1 section 3.1.2.10.
        keep_alive: (hello.keep_alive_s > 0)
            .then(|| Duration::from_millis(u64::from(hello.keep_alive_s) * 1_500)),
        kept_s: hello.kept_s,
        receive_max: hello.receive_max,
        last_will: hello.last_will.map(Box::new),
    };
    Some(SignedIn { wire, welcome, manner })
}

/// Waits for CONNECT; `None` when something else comes, or nothing more.
async fn greet<Io: AsyncRead + AsyncWrite + Unpin>(line: &mut Line<Io>) -> Option<(Wire, Hello)> {
    let mut wire = None;
    loop {
        if wire.is_none() {
            let Ok(detected) = Wire::detect(&mut line.inbox) else {
                line.outbox.extend_from_slice(refusal_of_level(&line.inbox)?);
                // Within the time that a sign-in may take.
                let _ = line.flush().await;
                return None;
            };
            wire = detected;
        }
        if let Some(known) = &mut wire
            && let Some(hello) = known.hello(&mut line.inbox).ok()?
        {
            return Some((wire?, hello));
        }
        if line.read().await.ok()? == 0 {
            return None;
        }
    }
}

// ---------------------------------------------------------------- serving

/// How a connection ends.
#[derive(Debug, Clone, Copy)]
struct End {
    ended: Ended,
    /// What the device is told.
    parting: Option<Parting>,
    with_last_will: bool,
    /// How long the device now wants its session kept.
    kept_s: Option<u64>,
}

impl End {
    const fn new(ended: Ended, parting: Option<Parting>) -> Self {
        Self { ended, parting, with_last_will: true, kept_s: None }
    }

    const LOST: Self = Self::new(Ended::Lost, None);

    fn asked(why: Ended, core: &Core) -> Self {
        Self::new(
            why,
            Some(match why {
                Ended::TakenOver => Parting::TakenOver,
                _ if core.is_closing() => Parting::Stopping,
                _ => Parting::NotAuthorized,
            }),
        )
    }
}

struct Serving<'a, Io> {
    core: &'a Core,
    connection: &'a Arc<Connection>,
    line: Line<Io>,
    wire: Wire,
    deliveries: Deliveries,
    gate: Gate,
    /// Packets were read that could not be taken yet.
    is_held_back: bool,
    patience: Patience,
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Serving<'_, Io> {
    async fn run(&mut self) -> End {
        loop {
            if let Err(end) = self.take_packets().await {
                return end;
            }
            if let Err(end) = poll_fn(|context| self.poll_turn(context)).await {
                return end;
            }
        }
    }

    /// Does what is to be done without new packets; ready when there are some, or at the end.
    fn poll_turn(&mut self, context: &mut Context<'_>) -> Poll<Result<(), End>> {
        let closing = self.connection.mailbox.poll_closing(context);
        while let Poll::Ready(ack) = self.gate.poll(context) {
            let Ok(ack) = ack else {
                info!(device = %self.connection.grant.device_id, "publish refused: could not be made durable");
                let end = End::new(Ended::ByServer, Some(Parting::NotCommitted));
                return Poll::Ready(Err(end));
            };
            self.put(match ack {
                Ack::Acked(packet_id) => Outgoing::Ack(packet_id),
                Ack::Received(packet_id) => Outgoing::Received(packet_id),
            });
        }
        // What is durable is acknowledged all the same.
        if let Poll::Ready(why) = closing {
            return Poll::Ready(Err(End::asked(why, self.core)));
        }
        if let Err(end) = self.write(context) {
            return Poll::Ready(Err(end));
        }
        if !self.gate.is_full() && self.line.has_room() {
            if self.is_held_back {
                return Poll::Ready(Ok(()));
            }
            match self.line.poll_read(context) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Err(End::LOST)),
                Poll::Ready(Ok(_)) => {
                    self.patience.heard();
                    return Poll::Ready(Ok(()));
                }
                Poll::Pending => {}
            }
        } else {
            // Who is not listened to is not silent.
            self.patience.heard();
        }
        self.patience
            .poll(context)
            .map(|ended| Err(End::new(ended, (ended == Ended::Silent).then_some(Parting::Silent))))
    }

    /// Writes what there is, and the messages that wait, as far as the device takes them.
    fn write(&mut self, context: &mut Context<'_>) -> Result<(), End> {
        loop {
            while self.line.has_room()
                && let Some(letter) = self.connection.mailbox.take(self.deliveries.has_room())
            {
                let topic = self.connection.grant.topic(letter.kind);
                let packet_id = self.deliveries.send(letter.qos);
                let (payload, qos) = (letter.payload, letter.qos);
                self.put(Outgoing::Message { topic, payload, qos, packet_id });
            }
            let was_full = !self.line.has_room();
            let before_bytes = self.line.outbox.len();
            match self.line.poll_flush(context) {
                Poll::Ready(Err(_)) => return Err(End::LOST),
                Poll::Pending => {
                    // A slow device is not a stalled one.
                    if self.line.outbox.len() < before_bytes {
                        self.patience.wrote();
                    }
                    self.patience.writes();
                    return Ok(());
                }
                Poll::Ready(Ok(())) => {
                    self.patience.wrote();
                    if !was_full {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Takes the packets that are all there, as far as there is room for what follows from them.
    async fn take_packets(&mut self) -> Result<(), End> {
        loop {
            self.is_held_back = self.gate.is_full() || !self.line.has_room();
            if self.is_held_back || self.connection.mailbox.is_closing() {
                return Ok(());
            }
            match self.wire.next(&mut self.line.inbox) {
                Ok(Some(packet)) => self.take_packet(packet).await?,
                Ok(None) => return Ok(()),
                Err(broken) => return Err(self.broken(&broken)),
            }
        }
    }

    async fn take_packet(&mut self, packet: Incoming) -> Result<(), End> {
        match packet {
            Incoming::Said(said) => return self.take_message(said).await,
            Incoming::Acked(packet_id) => self.deliveries.acked(packet_id),
            Incoming::Received(packet_id, took_it) => {
                if self.deliveries.received(packet_id, took_it) {
                    self.put(Outgoing::Release(packet_id));
                }
            }
            Incoming::Release(packet_id) => {
                let was_known = self.deliveries.release(packet_id);
                self.put(Outgoing::Complete(packet_id, was_known));
            }
            Incoming::Complete(packet_id) => self.deliveries.complete(packet_id),
            Incoming::Subscribe(_, ref filters) if filters.len() > FILTERS_MAX => {
                return Err(self.broken(&Broken::OutOfPlace));
            }
            Incoming::Unsubscribe(_, ref filters) if filters.len() > FILTERS_MAX => {
                return Err(self.broken(&Broken::OutOfPlace));
            }
            Incoming::Subscribe(packet_id, filters) => {
                let mut begun = Vec::new();
                let granted = filters.iter().map(|(filter, qos)| {
                    let Some(kind) = self.connection.grant.may_subscribe(filter) else {
                        info!(device = %self.connection.grant.device_id, filter = excerpt(filter), "subscription refused");
                        return None;
                    };
                    self.connection.heard.set(kind, Some(*qos));
                    if !begun.contains(&kind) {
                        begun.push(kind);
                    }
                    Some(*qos)
                });
                let granted = granted.collect();
                // Before what the engine says next.
                self.put(Outgoing::Subscribed(packet_id, granted));
                for kind in begun {
                    self.core.subscribed(self.connection, kind).await;
                }
            }
            Incoming::Unsubscribe(packet_id, filters) => {
                let existed = filters.iter().map(|filter| {
                    let kind = self.connection.grant.may_subscribe(filter);
                    kind.is_some_and(|kind| self.connection.heard.set(kind, None))
                });
                let existed = existed.collect();
                self.put(Outgoing::Unsubscribed(packet_id, existed));
            }
            Incoming::Ping => self.put(Outgoing::Pong),
            Incoming::Goodbye { with_last_will, kept_s } => {
                return Err(End { ended: Ended::ByDevice, parting: None, with_last_will, kept_s });
            }
        }
        Ok(())
    }

    async fn take_message(&mut self, said: Said) -> Result<(), End> {
        let Said { topic, payload, retained, qos, packet_id } = said;
        if let (Qos::ExactlyOnce, Some(packet_id)) = (qos, packet_id) {
            match self.deliveries.take(packet_id) {
                Taken::New => {}
                Taken::Again => {
                    self.gate.hold(Ack::Received(packet_id), None);
                    return Ok(());
                }
                Taken::TooMany => return Err(self.broken(&Broken::TooMany)),
            }
        }
        match self.core.take(self.connection, &topic, payload, retained, qos).await {
            Ok(commit) => {
                match (qos, packet_id) {
                    (Qos::AtLeastOnce, Some(id)) => self.gate.hold(Ack::Acked(id), commit),
                    (Qos::ExactlyOnce, Some(id)) => self.gate.hold(Ack::Received(id), commit),
                    _ => {}
                }
                Ok(())
            }
            Err(reason) => {
                info!(device = %self.connection.grant.device_id, topic = excerpt(&topic), %reason, "publish refused");
                Err(End::new(Ended::ByServer, Some(reason.parting())))
            }
        }
    }

    fn broken(&self, broken: &Broken) -> End {
        info!(device = %self.connection.grant.device_id, %broken, "connection ended");
        End::new(Ended::Lost, Some(broken.parting()))
    }

    fn put(&mut self, packet: Outgoing) {
        self.wire.put(packet, &mut self.line.outbox);
    }

    /// Says why the connection ends, if the device takes it at once, and closes it.
    async fn part(mut self, end: End) {
        if let Some(parting) = end.parting {
            self.put(Outgoing::Goodbye(parting));
            let _ = tokio::time::timeout(PARTING_TIMEOUT, self.line.flush()).await;
        }
    }
}

// ---------------------------------------------------------------- the end

async fn finish(
    core: &Arc<Core>,
    connection: Arc<Connection>,
    last_will: Option<Box<LastWill>>,
    ended: Ended,
    kept: Duration,
) {
    // What is posted from now on would be lost.
    connection.mailbox.close(ended);
    // A delay ends with the session at the latest, MQTT 5 section 3.1.3.2.2.
    let late = last_will.map(|will| (Duration::from_secs(will.delay_s).min(kept), will));
    let late = match late {
        Some((delay, will)) if delay.is_zero() => {
            core.take_last_will(&connection, &will).await;
            None
        }
        late => late,
    };
    core.ended(&connection, ended, kept, late).await;
    connection.mailbox.shut();
}

#[cfg(test)]
mod tests {
    use quarterdeck_protocol::topics::{self, DeviceTopic};
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream},
        time::Instant,
    };

    use super::*;
    use crate::mqtt::{
        embedded::{door::Door, mailbox::Letter},
        link::{self, Authenticator, Denied, DeviceIdentity, InboundReceiver},
    };

    struct Everybody;

    #[async_trait::async_trait]
    impl Authenticator for Everybody {
        async fn authenticate(
            &self,
            user: &str,
            _: &[u8],
            _: &str,
        ) -> Result<DeviceIdentity, Denied> {
            let (project_id, device_id) =
                topics::parse_username(user).ok_or(Denied::BadCredentials)?;
            Ok(DeviceIdentity { project_id, device_id })
        }
    }

    fn string(text: &str) -> Vec<u8> {
        [&(text.len() as u16).to_be_bytes(), text.as_bytes()].concat()
    }

    fn packet(kind: u8, body: &[&[u8]]) -> Vec<u8> {
        let body = body.concat();
        assert!(body.len() < 128, "a length of one byte");
        [&[kind, body.len() as u8], &*body].concat()
    }

    /// A device without a keep-alive that hears `tunnel/down`, over a pipe that holds so many bytes.
    async fn device(pipe_bytes: usize) -> (DuplexStream, Arc<Core>, InboundReceiver) {
        let (sender, inbound) = link::inbound();
        let core = Arc::new(Core::new(Arc::new(Everybody), sender));
        let (mut device, ours) = tokio::io::duplex(pipe_bytes);
        let peer = "127.0.0.1:1".parse().expect("an address");
        tokio::spawn(serve(core.clone(), ours, peer, Door::new(1).enter()));
        let hello: [&[u8]; 5] =
            [&string("MQTT"), &[4, 0xC2, 0, 0], &string("p:d"), &string("p/d"), &string("s")];
        device.write_all(&packet(0x10, &hello)).await.expect("open");
        let filter = string("roboticks/p/devices/d/tunnel/down");
        device.write_all(&packet(0x82, &[&[0, 1], &filter, &[0]])).await.expect("open");
        // CONNACK and SUBACK.
        device.read_exact(&mut [0; 4 + 5]).await.expect("open");
        (device, core, inbound)
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_device_is_not_a_stalled_one() {
        const READ_BYTES: usize = 1_024;
        let (mut device, core, mut inbound) = device(READ_BYTES).await;
        let connection = core.registry.all().pop().expect("connected");
        let payload = vec![0; 64 * READ_BYTES].into();
        let letter =
            Letter { kind: DeviceTopic::TunnelDown, payload, qos: Qos::AtMostOnce, sender: 0 };
        connection.mailbox.post(letter).expect("room");
        let begun = Instant::now();
        for _ in 0..32 {
            tokio::time::sleep(SEND_TIMEOUT / 4).await;
            device.read_exact(&mut [0; READ_BYTES]).await.expect("still open");
        }
        assert!(begun.elapsed() > 4 * SEND_TIMEOUT);
        // Now it takes nothing more.
        let stopped = Instant::now();
        loop {
            if let Some(link::Inbound::Disconnected { ended, .. }) = inbound.recv().await {
                assert_eq!(ended, Ended::Lost);
                break;
            }
        }
        assert!(stopped.elapsed() <= SEND_TIMEOUT + Duration::from_secs(1));
    }
}
