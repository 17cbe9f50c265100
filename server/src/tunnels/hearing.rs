//! What comes from the devices and the broker: frames, words of tunnels, who hears.
//!
//! ```text
//!  tunnel/up ───────▶ way ──▶ session's streams      no session ──▶ refused
//!  tunnel/control ──▶ session                         no session ──▶ told how it ended
//!  subscribed, gone, broker up or down ──▶ way, sessions ──▶ told what ended meanwhile
//! ```

use std::sync::{Arc, Weak};

use bytes::Bytes;
use quarterdeck_protocol::{
    ids::{DeviceId, ProjectId, TunnelId},
    topics::{Channel, DeviceTopic},
    tunnel::{
        Tick,
        close::CloseCode,
        control::Control,
        endpoint::{Endpoint, EndpointConfig, Side},
        frame::Frame,
    },
};

use super::{DeviceKey, Shared, Tunnels, session::Asked};
use crate::{
    mqtt::link::{ConnectionId, Frames, Inbound, Message, TunnelsReceiver},
    store::tunnels as stored,
};

/// Tunnels that ended, of which a device that is back is told again at most.
const TOLD_AGAIN_MAX: u32 = 32;

/// Takes what the devices say of tunnels, until the broker is gone or the server stops.
pub(super) async fn hear(tunnels: Tunnels, mut inbound: TunnelsReceiver) {
    let shared = &tunnels.0;
    loop {
        let event = tokio::select! {
            event = inbound.recv() => event,
            () = shared.stopping.cancelled() => None,
        };
        let Some(event) = event else { return };
        match event {
            Inbound::Message(message) => on_message(shared, message).await,
            Inbound::Subscribed { connection, project_id, device_id, channel, kind, .. } => {
                if kind == DeviceTopic::TunnelDown {
                    on_hearing(shared, (project_id, device_id), (channel, connection), true).await;
                }
            }
            Inbound::Disconnected { connection, project_id, device_id, channel, .. } => {
                on_hearing(shared, (project_id, device_id), (channel, connection), false).await;
            }
            Inbound::Connected { .. } | Inbound::Hears(_) => {}
            Inbound::LinkUp => on_broker(shared, true).await,
            Inbound::LinkDown => on_broker(shared, false).await,
        }
    }
}

async fn on_message(shared: &Arc<Shared>, message: Message) {
    let Message { project_id, device_id, kind, payload, ack, .. } = message;
    if kind == DeviceTopic::TunnelUp {
        ack.committed();
        return on_frame(shared, (project_id, device_id), payload);
    }
    let control = match Control::parse(&payload) {
        Ok(control) => control,
        Err(error) => {
            metrics::counter!("quarterdeck_ingest_malformed_total", "topic" => kind.suffix())
                .increment(1);
            tracing::debug!(device = %device_id, %error, "ignored a message on tunnel/control");
            return ack.committed();
        }
    };
    let session = {
        let state = shared.lock();
        let found = state.sessions.get(&control.tunnel_id());
        // A device speaks of its own tunnels alone.
        found.filter(|s| s.about.project == project_id && s.about.device == device_id).cloned()
    };
    if let Some(session) = session {
        if let Err(asked) = session.ask(Asked::Device { control, ack }).await {
            asked.dismiss();
        }
        return;
    }
    if let Control::Opened { tunnel_id, .. } = control {
        let telling = tell_over(Arc::clone(shared), (project_id, device_id), tunnel_id);
        shared.tasks.spawn(telling);
    }
    ack.committed();
}

/// Hands frames over; it does not keep the tunnels alive.
#[derive(Debug)]
pub(super) struct Hearing(pub(super) Weak<Shared>);

impl Frames for Hearing {
    fn on_frame(&self, project: &ProjectId, device: &DeviceId, frame: Bytes) {
        if let Some(shared) = self.0.upgrade() {
            on_frame(&shared, (project.clone(), device.clone()), frame);
        }
    }
}

fn on_frame(shared: &Arc<Shared>, key: DeviceKey, frame: Bytes) {
    let way = shared.lock().ways.get(&key).and_then(Weak::upgrade);
    match way {
        Some(way) => way.on_frame(frame),
        None => refuse(shared, key, frame),
    }
}

/// Tells a device that has a tunnel which is not served how that ended.
async fn tell_over(shared: Arc<Shared>, (project, device): DeviceKey, id: TunnelId) {
    let ended = async {
        let mut tx = shared.store.read().await?;
        stored::how_it_ended(&mut tx, &project, &device, id).await
    };
    let (reason, message) = match ended.await {
        Ok(Some(ended)) => (ended.reason, ended.message),
        Ok(None) => (CloseCode::Unknown, "the server does not know this tunnel".to_owned()),
        Err(error) => {
            return tracing::warn!(%device, %error, "a device could not be told that its tunnel is over");
        }
    };
    let is_served = shared.lock().sessions.contains_key(&id);
    if !is_served {
        shared.tell(&shared.way(&project, &device), Control::close(id, reason, &message));
    }
}

/// Answers a frame of a device that has no session here: its tunnel is over.
fn refuse(shared: &Arc<Shared>, (project, device): DeviceKey, payload: Bytes) {
    let Ok(frame) = Frame::decode(payload) else { return };
    let mut end = Endpoint::new(Side::Near, EndpointConfig::default());
    end.on_link_up(Tick::default());
    end.on_frame(frame, Tick::default());
    if let Some(answer) = end.poll_transmit(Tick::default()) {
        let way = shared.way(&project, &device);
        // It asks again if this is lost.
        let _ = way.pass_on(answer.key.tunnel, answer.to_bytes());
    }
}

async fn on_hearing(
    shared: &Arc<Shared>,
    key: DeviceKey,
    (channel, connection): (Channel, ConnectionId),
    hears: bool,
) {
    let (way, sessions, is_up) = {
        let mut state = shared.lock();
        let channels = state.hearing.entry(key.clone()).or_default();
        let heard = !channels.is_empty();
        if hears {
            channels.insert(channel, connection);
        } else if channels.get(&channel) == Some(&connection) {
            // The end of one that was taken over says nothing of the one that took over.
            channels.remove(&channel);
        }
        let has = !channels.is_empty();
        if !has {
            state.hearing.remove(&key);
        }
        // Each new connection begins anew; an old one matters when it was the last.
        let is_news = hears || (heard && !has);
        if !is_news {
            return;
        }
        (state.ways.get(&key).and_then(Weak::upgrade), state.sessions_of(&key), has)
    };
    if let Some(way) = way {
        way.on_link(is_up);
    }
    for session in sessions {
        // One that is over has no need of it.
        let _ = session.ask(Asked::Link { is_up }).await;
    }
    if is_up {
        shared.tasks.spawn(tell_ended(Arc::clone(shared), key));
    }
}

/// Tells a device that is back which tunnels ended while it was away; one that it
/// does not have, or was told of, means nothing to it.
async fn tell_ended(shared: Arc<Shared>, (project, device): DeviceKey) {
    let since = shared.clock.wall().plus_millis(-shared.settings.life.duration_ms);
    let ended = async {
        let mut tx = shared.store.read().await?;
        stored::lately_ended(&mut tx, &project, &device, since, TOLD_AGAIN_MAX).await
    };
    match ended.await {
        Ok(ended) => {
            let way = shared.way(&project, &device);
            for stored::ToldEnd { id, reason, message } in ended {
                shared.tell(&way, Control::close(id, reason, &message));
            }
        }
        Err(error) => {
            tracing::warn!(%device, %error, "a device could not be told which tunnels ended");
        }
    }
}

async fn on_broker(shared: &Arc<Shared>, is_up: bool) {
    let (ways, sessions) = {
        let mut state = shared.lock();
        state.is_broker_up = Some(is_up);
        let ways: Vec<_> = state.ways.values().filter_map(Weak::upgrade).collect();
        (ways, state.sessions.values().cloned().collect::<Vec<_>>())
    };
    for way in ways {
        way.on_link(is_up);
    }
    for session in sessions {
        let _ = session.ask(Asked::Link { is_up }).await;
    }
    if is_up {
        shared.tell_again();
    }
}
