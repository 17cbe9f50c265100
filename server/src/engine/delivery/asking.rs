//! Asks devices how the commands ended that they have accepted.
//!
//! The embedded broker acknowledges a device's word after the commit, so none
//! is lost. An external one acknowledges it at once, and forgets it when it
//! crashes: the device believes that it has told, the server waits until
//! `timed_out`. So when the way to the broker stands again, and whenever a
//! device comes back to it, what the device has not ended is sent once more,
//! marked as `known`. The device says again what it said last, from its journal;
//! one that does not know the command any more runs nothing.

use quarterdeck_protocol::{
    ids::{DeviceId, ProjectId},
    time::Timestamp,
    topics::DeviceTopic,
};

use super::{Delivery, wire};
use crate::{
    engine::{Engine, ingest::DeviceKey},
    mqtt::link::{PublishError, PublishRequest, Qos, SERVER},
    store::{
        StoreError,
        commands::{accepted, live::Outgoing},
    },
};

/// Devices that are asked at once: what each has accepted may be some megabytes.
const DEVICES_MAX: usize = 16;

/// Whom to ask.
#[derive(Debug, Default)]
pub(super) struct Asking {
    now: Vec<DeviceKey>,
    /// They took no more for the moment.
    later: Vec<DeviceKey>,
}

impl Asking {
    pub(super) fn add(&mut self, device: DeviceKey) {
        self.now.push(device);
    }

    /// Tries again those that took no more.
    pub(super) fn retry(&mut self) {
        self.now.append(&mut self.later);
    }

    pub(super) fn take(&mut self) -> Vec<DeviceKey> {
        let count = self.now.len().min(DEVICES_MAX);
        self.now.drain(..count).collect()
    }
}

impl Delivery {
    /// A device is back at a broker that may have lost what it said last.
    pub(in crate::engine) fn ask(&self, project: &ProjectId, device: &DeviceId) {
        self.state().asking.add((project.clone(), device.clone()));
        self.wake.notify_one();
    }

    pub(super) fn ask_again(&self, devices: Vec<DeviceKey>) {
        self.state().asking.now.extend(devices);
    }
}

/// Sends devices what they have accepted and not ended.
pub(super) async fn ask(engine: &Engine, devices: &[DeviceKey]) -> Result<(), StoreError> {
    let mut tx = engine.0.store.read().await?;
    let mut open = Vec::with_capacity(devices.len());
    for device in devices {
        open.push((device, accepted::of_device(&mut tx, &device.0, &device.1).await?));
    }
    drop(tx);
    let sent_at = engine.clock().wall();
    for (device, commands) in open {
        engine.0.delivery.ask_for(device, &commands, sent_at);
    }
    Ok(())
}

impl Delivery {
    fn ask_for(&self, device: &DeviceKey, commands: &[Outgoing], sent_at: Timestamp) {
        let Some(link) = self.link.get() else { return };
        for command in commands {
            let Some(payload) = wire::message(command, sent_at) else { continue };
            let kind = DeviceTopic::Commands;
            let request = PublishRequest {
                project_id: device.0.clone(),
                device_id: device.1.clone(),
                kind,
                payload,
                qos: Qos::of(kind),
                sender: SERVER,
            };
            let Err(error) = link.publish(request) else {
                tracing::debug!(device = %device.1, command = command.id, "asked how it ended");
                continue;
            };
            tracing::debug!(device = %device.1, command = command.id, %error, "not asked how it ended");
            if error == PublishError::QueueFull {
                self.state().asking.later.push(device.clone());
            }
            // Else the device's return, or the broker's, is the next occasion.
            return;
        }
    }
}
