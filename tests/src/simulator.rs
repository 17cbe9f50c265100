//! Thousands of devices in one process, for benchmarks.
//!
//! Each is one MQTT connection and a few hundred bytes: what is measured is
//! the server, on the same two cores. The same devices speak to a bare broker,
//! which is the peer that our figures stand beside.
//!
//! | module | subject |
//! | --- | --- |
//! | [`answering`] | devices that answer each command with accepted, execution_started, completed |
//! | [`load`] | devices that publish as much as they may |
//! | [`connection`] | one lean connection |

pub mod answering;
pub mod connection;
pub mod load;

use anyhow::Result;
use futures_util::{StreamExt, TryStreamExt, stream};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::{api::Api, fleet, mqtt::Login};

/// How many devices connect at once.
pub const AT_ONCE: usize = 64;
/// How many devices enrol at once: all come from one address, as wrong guesses at tokens would.
const ENROL_AT_ONCE: usize = 4;

/// Lets this process, and those that it starts from now on, have as many open files as the system allows.
pub fn raise_open_files() -> Result<u64> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    Ok(most)
}

/// Enrols `count` devices with one token; says how each signs in.
pub async fn enroll(api: &Api, token: &str, count: usize) -> Result<Vec<Login>> {
    stream::iter((0..count).map(device_name))
        .map(|name| async move { fleet::enroll(api, token, &name).await })
        .buffered(ENROL_AT_ONCE)
        .try_collect()
        .await
}

/// How as many devices sign in to a broker that asks nobody who they are.
pub fn strangers(count: usize) -> Vec<Login> {
    (0..count).map(|index| Login::new(&format!("default:{}", device_name(index)))).collect()
}

fn device_name(index: usize) -> String {
    format!("sim-{index:05}")
}
