//! The bus inside the agent, for when no broker is named: the agent's own code
//! asks the runner directly ([`crate::runner::requests`]), and nobody else takes
//! part. So what is published is known at once, and nothing ever comes.

use super::{BusEvent, Events, Link, Memory};

/// A connection that is up for ever.
pub fn connect() -> Events {
    let (link, memory, deaf_to) = (Link::Local, Memory::Unknown, Vec::new());
    Events::Local(Some(BusEvent::Up { link, memory, deaf_to }))
}
