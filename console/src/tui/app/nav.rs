//! Where one is, and how one came there.

use quarterdeck_protocol::ids::{CommandId, DeviceId};

/// Places remembered on each side of the history.
const HISTORY_MAX: usize = 64;

/// A screen with its subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    Overview,
    Devices,
    Device(DeviceId),
    Commands,
    Command(CommandId),
    /// The wizard; its state is [`Wizard`](super::wizard::Wizard).
    NewCommand,
    Alerts,
    Audit,
    Users,
    Tunnels,
    /// Terminals on devices; they live on while other screens are shown.
    Panes,
    Recordings,
    /// A recording, by its id; its state is [`Player`](super::player::Player).
    Player(String),
    /// What who goes off shift hands over.
    Handover,
}

/// The screens that can be named: by number, in the palette and in the header.
pub const SCREENS: [(Place, &str); 9] = [
    (Place::Overview, "overview"),
    (Place::Devices, "devices"),
    (Place::Commands, "commands"),
    (Place::Alerts, "alerts"),
    (Place::Audit, "audit"),
    (Place::Users, "users"),
    (Place::Tunnels, "tunnels"),
    (Place::Panes, "panes"),
    (Place::Recordings, "recordings"),
];

impl Place {
    /// What the header calls it, from the widest to the narrowest.
    pub fn crumbs(&self) -> Vec<String> {
        let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        match self {
            Self::Overview => own(&["Overview"]),
            Self::Devices => own(&["Devices"]),
            Self::Device(id) => vec!["Devices".to_owned(), id.to_string()],
            Self::Commands => own(&["Commands"]),
            Self::Command(id) => vec!["Commands".to_owned(), short_id(&id.to_string())],
            Self::NewCommand => own(&["Commands", "New command"]),
            Self::Alerts => own(&["Alerts"]),
            Self::Audit => own(&["Audit"]),
            Self::Users => own(&["Users"]),
            Self::Tunnels => own(&["Tunnels"]),
            Self::Panes => own(&["Panes"]),
            Self::Recordings => own(&["Recordings"]),
            Self::Player(id) => vec!["Recordings".to_owned(), short_id(id)],
            Self::Handover => own(&["Shift handover"]),
        }
    }
}

/// The part of a UUIDv7 that people can tell apart: its random end.
pub fn short_id(id: &str) -> String {
    let end = id.len().saturating_sub(8);
    if id.is_char_boundary(end) { id[end..].to_owned() } else { id.to_owned() }
}

/// The history: back, here, forward.
#[derive(Debug, Clone)]
pub struct Nav {
    back: Vec<Place>,
    pub here: Place,
    forward: Vec<Place>,
}

impl Nav {
    pub const fn new(here: Place) -> Self {
        Self { back: Vec::new(), here, forward: Vec::new() }
    }

    pub fn go(&mut self, to: Place) {
        if self.here == to {
            return;
        }
        let from = std::mem::replace(&mut self.here, to);
        // A wizard that was left is not a place to come back to.
        if from != Place::NewCommand {
            self.back.push(from);
            if self.back.len() > HISTORY_MAX {
                self.back.remove(0);
            }
        }
        self.forward.clear();
    }

    /// Goes back in the history; `false` when there is nothing.
    pub fn back(&mut self) -> bool {
        let Some(to) = self.back.pop() else { return false };
        let from = std::mem::replace(&mut self.here, to);
        if from != Place::NewCommand {
            self.forward.push(from);
        }
        true
    }

    pub fn forward(&mut self) -> bool {
        let Some(to) = self.forward.pop() else { return false };
        self.back.push(std::mem::replace(&mut self.here, to));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn back_and_forward_retrace_the_way_without_the_wizard() {
        let mut nav = Nav::new(Place::Overview);
        nav.go(Place::Devices);
        nav.go(Place::NewCommand);
        nav.go(Place::Commands);
        assert!(nav.back());
        assert_eq!(nav.here, Place::Devices);
        assert!(nav.forward());
        assert_eq!(nav.here, Place::Commands);
        assert!(nav.back() && nav.back());
        assert_eq!(nav.here, Place::Overview);
        assert!(!nav.back());
    }
}
