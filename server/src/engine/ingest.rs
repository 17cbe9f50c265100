//! The one way in for all that devices say.
//!
//! ```text
//!  Inbound ─▶ reader ─▶ intake::keep ─ commit ─▶ acknowledged
//!                            │
//!                            ▼
//!                         backlog ─▶ intake::decide (decide, devices) ─ commit ─▶ announced
//! ```
//!
//! A batch is whatever has gathered: one message when it is quiet, a thousand
//! when it is busy. Acknowledged is what is durable; after a failure the broker
//! ends the connection and the device says it all again.

pub(crate) mod message;

mod backlog;
mod decide;
mod devices;
mod intake;
mod reader;
mod record;

use std::{collections::BTreeSet, sync::atomic::Ordering};

use futures_util::{
    FutureExt, StreamExt,
    future::{BoxFuture, OptionFuture},
    stream::FuturesOrdered,
};
use quarterdeck_protocol::{
    ids::{DeviceId, ProjectId},
    live::Listing,
};
use tokio_util::sync::CancellationToken;

use self::{
    backlog::Backlog,
    intake::Decided,
    message::{Failed, Health, Said, Status},
    reader::Reader,
};
use super::{After, Engine};
use crate::{
    clock::Now,
    domain::presence,
    mqtt::link::InboundReceiver,
    store::{StoreError, devices as stored_devices},
};

/// Events of one batch at most.
const BATCH_MAX_EVENTS: usize = 1_024;
/// Batches on their way to the disk: one is written while the next one is read and waits.
const BATCHES_MAX: usize = 2;

/// A device, by project and id.
pub(super) type DeviceKey = (ProjectId, DeviceId);

/// Something that a device said or did, read.
#[derive(Debug, Clone)]
pub(super) struct Heard {
    pub(super) device: DeviceKey,
    pub(super) what: What,
    /// When it was heard.
    pub(super) now: Now,
}

impl Heard {
    /// Whether the link says it, not the device.
    fn is_of_the_link(&self) -> bool {
        matches!(self.what, What::Connected | What::Gone)
    }
}

#[derive(Debug, Clone)]
pub(super) enum What {
    Response(Said),
    Connected,
    Gone,
    /// Said just now, not kept by a broker from before.
    Status {
        status: Status,
        is_fresh: bool,
    },
    Health(Health),
    ServiceFailed(Failed),
}

/// How long after a failure presence is started anew again, in milliseconds.
const DEAF_RETRY_MS: u64 = 1_000;

/// Takes in what devices say until it is told to stop, or the broker is gone.
pub(super) async fn run(engine: Engine, mut inbound: InboundReceiver, stop: CancellationToken) {
    let Some(mut last_seq) = intake::recover(&engine, &stop).await else { return };
    // Over an external broker it does not yet, as the first event will say.
    listens(&engine, true, &stop).await;
    let mut reader = Reader::default();
    let mut events = Vec::with_capacity(BATCH_MAX_EVENTS);
    let mut backlog = Backlog::default();
    // In this order, always: kept, then decided.
    let mut keeping = FuturesOrdered::new();
    let mut deciding: Option<BoxFuture<'static, Decided>> = None;
    let mut is_open = true;
    loop {
        let waits_ms = match &deciding {
            None => backlog.wait_ms(engine.clock().steady()),
            Some(_) => None,
        };
        let has_room = keeping.len() < BATCHES_MAX && !backlog.is_full();
        tokio::select! {
            biased;
            Some(kept) = keeping.next(), if !keeping.is_empty() => {
                if let Some(row) = kept {
                    backlog.push(row);
                }
            }
            Some(decided) = OptionFuture::from(deciding.as_mut()), if deciding.is_some() => {
                deciding = None;
                let now_ms = engine.clock().steady();
                if decided.is_done {
                    engine.0.progress.decided(decided.rows as u64);
                    backlog.decided(decided.rows, decided.took_ms, now_ms);
                    if !is_open || engine.0.progress.is_awaited() {
                        backlog.hurry();
                    }
                } else if is_open {
                    backlog.failed(now_ms);
                } else {
                    // It is durable: the next start sees to it.
                    break;
                }
            }
            () = engine.0.progress.hurried(), if !backlog.is_empty() => backlog.hurry(),
            () = rest(&engine, waits_ms), if waits_ms.is_some() => {
                metrics::gauge!("quarterdeck_ingest_backlog_words").set(backlog.words() as f64);
                deciding = Some(intake::decide(engine.clone(), backlog.slice()).boxed());
            }
            count = inbound.recv_many(&mut events, BATCH_MAX_EVENTS), if is_open && has_room => {
                if count == 0 {
                    is_open = false;
                    backlog.hurry();
                    continue;
                }
                metrics::histogram!("quarterdeck_ingest_batch_events").record(count as f64);
                let read = reader.read(&engine, events.drain(..));
                if let Some(hears) = read.hears {
                    listens(&engine, hears, &stop).await;
                }
                last_seq += 1;
                keeping.push_back(intake::keep(engine.clone(), last_seq, read));
            }
            () = stop.cancelled(), if is_open => {
                // What is in the channel already was not acknowledged: the devices say it again.
                is_open = false;
                backlog.hurry();
            }
            else => break,
        }
    }
}

async fn rest(engine: &Engine, wait_ms: Option<u64>) {
    match wait_ms {
        None | Some(0) => {}
        Some(wait_ms) => engine.clock().sleep_ms(wait_ms).await,
    }
}

/// The server hears from now on, or cannot any more: either way, what is known of presence is from before.
async fn listens(engine: &Engine, hears: bool, stop: &CancellationToken) {
    // Nobody is told silent of while nobody can be heard.
    engine.0.hears.store(false, Ordering::Release);
    while let Err(error) = deaf(engine).await {
        // Else all would be silent for as long as the store was away.
        tracing::error!(%error, "the devices' presence could not be started anew; trying again");
        tokio::select! {
            () = engine.clock().sleep_ms(DEAF_RETRY_MS) => {}
            () = stop.cancelled() => return,
        }
    }
    engine.0.hears.store(hears, Ordering::Release);
}

/// Takes nobody for heard any more, and lets everybody's silence begin anew: the server cannot hear, or could not.
pub(super) async fn deaf(engine: &Engine) -> Result<(), StoreError> {
    let now = engine.clock().now();
    let stale_due = now.steady_ms + presence::SILENCE_MAX_MS;
    let unheard = engine
        .0
        .store
        .write(move |tx| {
            Box::pin(async move { stored_devices::live::deaf(tx, stale_due, now.wall).await })
        })
        .await??;
    let mut after = After::default();
    let mut projects = BTreeSet::new();
    for (project, device) in unheard {
        let Ok(project) = ProjectId::new(&project) else { continue };
        after.changed(&project, Listing::Devices, device);
        projects.insert(project);
    }
    for project in projects {
        after.changed(&project, Listing::Overview, "overview");
    }
    engine.after_commit(after);
    Ok(())
}

pub(super) use self::{decide::ceilings, devices::fall_silent, intake::Progress};
