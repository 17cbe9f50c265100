//! The doors to the outside: nothing here decides, it only does.
//!
//! | module | door to |
//! | --- | --- |
//! | [`mqtt`], [`tunnel_link`] | the broker: commands, and tunnels |
//! | [`http`], [`transfer`], [`tls`] | the server's HTTP interface |
//! | [`process`], [`supervisor`], [`as_user`], [`output`], [`signals`] | programs |
//! | [`pty`] | a terminal that a program runs on |
//! | [`cgroup`], [`procfs`], [`host`] | the kernel's view of processes and the host |
//! | [`files`] | files that commands may touch |
//! | [`durable`] | small files of the agent's own |
//! | [`workflow_folder`] | workflows that the device's owner wrote |

pub mod as_user;
pub mod cgroup;
pub mod durable;
pub mod files;
pub mod host;
pub mod http;
pub mod live;
pub mod mqtt;
pub mod output;
pub mod pipe;
pub mod process;
pub mod procfs;
pub mod pty;
pub mod signals;
pub mod supervisor;
pub mod tls;
pub mod transfer;
pub mod tunnel_link;
pub mod workflow_folder;
