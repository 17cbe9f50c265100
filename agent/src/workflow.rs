//! Operations are workflows: states in a TOML file, each handled by a script, a
//! background script, an action of the agent, a sub-operation, or left to
//! another participant on the device's bus (source 003).
//!
//! | module | subject |
//! | --- | --- |
//! | [`definition`] | what a workflow file says, checked and typed |
//! | [`catalogue`] | which operations a device has: the agent's own, and a folder's files |
//! | [`engine`] | the machine of one command |
//! | [`command`] | the command that the machine moves, as it is saved |
//! | [`outcome`] | where the end of a script leads |
//! | [`excerpt`] | the block of a script's output that counts |
//! | [`substitution`] | `${.payload.x}` in command lines, inputs and outputs |
//! | [`mapping`] | `input` and `output` tables |
//! | [`topic`], [`message`] | the bus: its topics and what stands on them |
//! | [`graph`] | a workflow as text for people |
//! | [`card`] | what the console is told of an operation: `OPERATION.json` |
//! | [`announce`] | what of all that a status can carry |
//!
//! Nothing here does anything: no tokio, no clock, no process, no file.

pub mod announce;
pub mod card;
pub mod catalogue;
pub mod command;
pub mod definition;
pub mod engine;
pub mod excerpt;
pub mod graph;
pub mod mapping;
pub mod message;
pub mod outcome;
pub mod substitution;
pub mod topic;
