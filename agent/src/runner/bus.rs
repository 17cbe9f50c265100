//! The device's bus, as the runner sees it: retained messages, at least once.
//!
//! | bus | is |
//! | --- | --- |
//! | [`mqtt`] | a broker on the device, where other participants take part |
//! | [`local`] | inside the agent, when no broker is named |
//!
//! Both tell the same events. A connection begins with [`BusEvent::Begun`]; then come the
//! retained messages of the targets' commands, and when all have come, [`BusEvent::Up`]: so
//! nothing is said on a topic before it is known what stands there.

pub mod local;
pub mod mqtt;

use std::path::PathBuf;

use bytes::Bytes;
use tokio::sync::mpsc;

/// Which topics the runner speaks on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// E.g. `te`.
    pub root: String,
    /// Of the device that the agent runs on, e.g. `device/main//`.
    pub target: String,
    pub children: Vec<Child>,
}

/// Something that the agent carries out operations for, beside its own device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Child {
    /// E.g. `device/child1//`.
    pub target: String,
    /// The folder of its operations; it need not be there yet.
    pub workflows: PathBuf,
}

impl Scope {
    /// All targets, the agent's own first.
    pub fn targets(&self) -> impl Iterator<Item = &str> {
        let children = self.children.iter().map(|child| child.target.as_str());
        std::iter::once(self.target.as_str()).chain(children)
    }
}

/// What comes from a bus.
#[derive(Debug)]
pub enum BusEvent {
    /// A connection has begun: what stands on the topics comes next.
    Begun,
    /// All that stood there has come; now the bus takes messages.
    Up {
        link: Link,
        memory: Memory,
        /// Children whose commands the bus does not let us hear.
        deaf_to: Vec<String>,
    },
    Down {
        reason: String,
    },
    Message {
        topic: String,
        payload: Bytes,
        /// It stood there before the subscription.
        is_retained: bool,
    },
    /// The bus has what was published under this token.
    Acked {
        token: u64,
    },
}

/// What a bus remembers us by, as is known once all that stands there has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Memory {
    /// This word of ours stands there.
    Stands(Bytes),
    /// None does: it was started anew, and has forgotten all.
    Nothing,
    /// That is not known, so what is missing means nothing.
    Unknown,
}

/// Where the events of a bus come from.
#[derive(Debug)]
pub enum Events {
    Mqtt(mpsc::Receiver<BusEvent>),
    /// The one that there is, until it is taken.
    Local(Option<BusEvent>),
}

impl Events {
    /// Waits for the next one; `None` when there will be none.
    pub async fn recv(&mut self) -> Option<BusEvent> {
        match self {
            Self::Mqtt(events) => events.recv().await,
            Self::Local(event) => event.take(),
        }
    }

    /// Takes the next one if it is there already.
    pub fn try_recv(&mut self) -> Option<BusEvent> {
        match self {
            Self::Mqtt(events) => events.try_recv().ok(),
            Self::Local(event) => event.take(),
        }
    }
}

/// One connection that is up; the way to publish. Publishing never waits.
#[derive(Debug, Clone)]
pub enum Link {
    Mqtt(mqtt::MqttLink),
    Local,
}

/// What becomes of a message that was handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handed {
    /// [`BusEvent::Acked`] follows when the bus has it.
    UnderWay,
    /// The bus has it.
    Done,
}

/// Says that the connection takes nothing more; it will end, or go on by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the bus takes nothing at the moment")]
pub struct Congested;

impl Link {
    /// Hands a retained message over.
    pub fn publish(&self, token: u64, topic: &str, payload: Bytes) -> Result<Handed, Congested> {
        match self {
            Self::Mqtt(link) => link.publish(token, topic, payload).map(|()| Handed::UnderWay),
            Self::Local => Ok(Handed::Done),
        }
    }

    pub fn disconnect(&self) {
        match self {
            Self::Mqtt(link) => link.disconnect(),
            Self::Local => {}
        }
    }
}
