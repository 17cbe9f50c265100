//! Quarterdeck from outside: its real programs, and what can happen to them.
//!
//! Nothing here knows the inside of server, agent or console: a test starts
//! their binaries, speaks HTTP, MQTT or keys to them, and looks at what comes
//! back. Only `protocol`'s types are shared, so that a test says `Command` and
//! not a path into JSON.
//!
//! | module | subject |
//! | --- | --- |
//! | [`fleet`] | a server and its devices: where most tests begin |
//! | [`server`], [`agent`] | one real process of each, and how to kill it |
//! | [`api`] | a typed HTTP client, and one that says anything |
//! | [`live`] | the WebSocket that a console watches |
//! | [`pty`] | a program on a real terminal, driven by keys |
//! | [`cli`] | `quarterdeck` as a script runs it |
//! | [`mqtt`] | a minimal MQTT client that can also misbehave |
//! | [`simulator`] | thousands of devices in one process |
//! | [`proxy`] | a TCP proxy that cuts, delays and drops |
//! | [`disk`] | a folder on a file system that can be full |
//! | [`faketime`] | a wall clock that steps |
//! | [`postgres`], [`mosquitto`], [`sshd`] | private servers, started from what is installed |
//! | [`services`] | what is installed, and how a test is skipped |
//! | [`binaries`], [`process`] | finding and running programs |
//! | [`wait`], [`clock`] | waiting for conditions |
//! | [`fake`] | a fleet in memory, for what needs a console and no server |
//! | [`stub`] | an HTTP and WebSocket server that says what a test tells it to |
//! | [`tunnel`] | a console at the stream of a tunnel |
//! | [`syncer`] | what the disk itself takes to be sure of a block |
//! | [`report`] | how benchmarks print a figure beside its peer's |
//! | [`demo`] | the demo fleet |

pub mod agent;
pub mod api;
pub mod binaries;
pub mod cli;
pub mod clock;
pub mod demo;
pub mod disk;
pub mod fake;
pub mod faketime;
pub mod fleet;
pub mod live;
pub mod mangler;
pub mod mosquitto;
pub mod mqtt;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod pty;
pub mod report;
pub mod server;
pub mod services;
pub mod simulator;
pub mod sshd;
pub mod stub;
pub mod syncer;
pub mod tunnel;
pub mod wait;

pub use fleet::Fleet;
