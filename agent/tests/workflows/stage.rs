//! Where a case is played: on the pure engine, or on the built agent.

use std::time::Duration;

/// The topics' root.
pub(crate) const ROOT: &str = "te";
/// The device whose commands are played.
pub(crate) const TARGET: &str = "device/main//";

/// A message as the bus saw it; an empty payload clears.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub topic: String,
    pub payload: String,
}

/// A bus and an agent on it.
pub(crate) trait Stage {
    fn start(&mut self);
    /// Ends the agent as a crash would: only what was saved stays.
    fn kill(&mut self);
    /// Ends the agent in order.
    fn stop(&mut self);
    /// Publishes as somebody else than the agent would.
    fn publish(&mut self, topic: &str, payload: &str);
    /// Lets things happen until something holds or the time is over.
    fn until(&mut self, holds: &dyn Fn(&[Seen]) -> bool, timeout: Duration) -> bool;
    /// All that was said on the bus so far.
    fn seen(&self) -> Vec<Seen>;
    /// Since the stage was set up.
    fn elapsed(&self) -> Duration;
}
