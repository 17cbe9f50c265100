//! The whole product, from outside: real server, real agents, real console,
//! real processes; each test has its own.
//!
//! One program, since linking dozens costs more than running them. A test that
//! needs what is not installed says `skipped: NAME needs …`.

mod broker;
mod broker_agents;
mod cancelling;
mod cli;
mod clocks;
mod commands;
mod crashes;
mod database;
mod demo;
mod disk_full;
mod enrolment;
mod http_edge;
mod live_feed;
mod mqtt_edge;
mod network;
mod offline;
mod programs;
mod reboots;
mod roles;
mod scripts;
mod terminal;
mod transfers;
mod untrusted;
mod workflows;
