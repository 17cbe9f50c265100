//! What time does: expiry, time-outs, silence, reboots that do not end, devices that fall silent.
//!
//! Each second, by due time from a partial index, in bounded chunks: what is
//! not due costs nothing, and a million overdue commands hold nobody up.

use std::sync::atomic::Ordering;

use quarterdeck_protocol::{
    api::Severity,
    ids::{DeviceId, ProjectId},
};
use tokio_util::sync::CancellationToken;

use super::{
    After, Engine,
    alerts::{self, Alerts},
    apply::Batch,
    ingest,
};
use crate::{
    clock::ANCHOR_PERIOD_MS,
    domain::command::Event,
    store::{
        StoreError, alerts as stored_alerts, commands::live, devices::live as devices,
        doubt::Looks, idempotency, meta, safety,
    },
};

/// How often is looked, in milliseconds.
const PERIOD_MS: u64 = 1_000;
/// How long it waits for what was said before, in milliseconds.
const SETTLE_MAX_MS: u64 = 10_000;
/// Commands or devices that one transaction sees to.
const CHUNK_MAX: u32 = 500;
/// How often queues and mass alerts are looked at, in milliseconds.
const SLOW_PERIOD_MS: i64 = 10_000;
/// Commands that wait for one device before it is an alert.
const QUEUE_DEPTH_ALERT: i64 = 100;
/// Devices with long queues that are named.
const QUEUES_MAX: u32 = 200;
/// How long lockout rows are kept, in milliseconds: longer than any window.
const SAFETY_KEPT_MS: i64 = 24 * 3600 * 1_000;
/// Where the clock's anchor is kept.
pub(super) const ANCHOR: &str = "clock";

/// Watches the time until it is told to stop.
pub(super) async fn run(engine: Engine, stop: CancellationToken) {
    let mut anchored_ms = i64::MIN;
    let mut slow_ms = i64::MIN;
    let mut doubts = engine.store().doubts();
    let mut looks = Looks::default();
    loop {
        let now_ms = engine.clock().steady();
        if engine.clock().wall_step_ms().is_some()
            || anchored_ms.saturating_add(ANCHOR_PERIOD_MS as i64) <= now_ms
        {
            anchored_ms = now_ms;
            report("the clock's anchor", engine.keep_anchor().await);
        }
        report("what is due", engine.sweep().await);
        if doubts.has_changed().is_ok_and(|has_changed| has_changed) {
            doubts.mark_unchanged();
            tracing::warn!("a commit was not confirmed: what it may have stored is looked for");
            looks.doubt(now_ms);
        }
        if looks.is_due(now_ms) {
            looks.taken(now_ms);
            engine.0.delivery.look_again();
            engine.0.announcer.announce_anything();
        }
        engine.0.delivery.retry_full();
        if slow_ms.saturating_add(SLOW_PERIOD_MS) <= now_ms {
            slow_ms = now_ms;
            report("queues and mass alerts", slow(&engine).await);
        }
        tokio::select! {
            () = stop.cancelled() => break,
            () = engine.clock().sleep_ms(PERIOD_MS) => {}
        }
    }
    report("the clock's anchor", engine.keep_anchor().await);
}

fn report(what: &str, done: Result<(), StoreError>) {
    if let Err(error) = done {
        tracing::error!(%error, what, "the sweep failed; it tries again");
    }
}

impl Engine {
    /// Sees to all that is due now. Called each second by a running engine, and by tests.
    pub async fn sweep(&self) -> Result<(), StoreError> {
        // What was said in time counts, though it is not decided yet.
        if !self.settled(SETTLE_MAX_MS).await {
            tracing::warn!("what devices said waits to be decided; what is due waits for it");
            return Ok(());
        }
        while self.sweep_commands().await? {}
        while self.sweep_devices().await? {}
        Ok(())
    }

    /// Answers whether there may be more.
    async fn sweep_commands(&self) -> Result<bool, StoreError> {
        let now_ms = self.clock().steady();
        // Looked at by a reader first: most seconds have nothing to write.
        if live::due(&mut self.0.store.read().await?, now_ms, 1).await?.is_empty() {
            return Ok(false);
        }
        let engine = self.clone();
        let (after, is_full) = self
            .0
            .store
            .write(move |tx| {
                Box::pin(async move {
                    let now = engine.clock().now();
                    let mut after = After::default();
                    let rows = live::due(tx, now.steady_ms, CHUNK_MAX).await?;
                    let is_full = rows.len() >= CHUNK_MAX as usize;
                    let ceilings = ingest::ceilings(tx, &rows).await?;
                    let mut batch = Batch::default();
                    batch
                        .add(rows, |project| ceilings.get(project).copied().unwrap_or_default())?;
                    for id in batch.ids() {
                        if batch.apply(&id, Event::Due, None, now, "", &mut after).is_err() {
                            batch.look_later(&id);
                        }
                    }
                    batch.write(&engine, tx, now, &mut after).await?;
                    Ok::<_, StoreError>((after, is_full))
                })
            })
            .await??;
        self.after_commit(after);
        Ok(is_full)
    }

    async fn sweep_devices(&self) -> Result<bool, StoreError> {
        if !self.0.hears.load(Ordering::Acquire) {
            return Ok(false);
        }
        let now_ms = self.clock().steady();
        if devices::due(&mut self.0.store.read().await?, now_ms, 1).await?.is_empty() {
            return Ok(false);
        }
        let engine = self.clone();
        let (after, is_full) = self
            .0
            .store
            .write(move |tx| {
                Box::pin(async move {
                    let now = engine.clock().now();
                    let mut after = After::default();
                    let rows = devices::due(tx, now.steady_ms, CHUNK_MAX).await?;
                    let is_full = rows.len() >= CHUNK_MAX as usize;
                    ingest::fall_silent(&engine, tx, rows, now, &mut after).await?;
                    Ok::<_, StoreError>((after, is_full))
                })
            })
            .await??;
        self.after_commit(after);
        Ok(is_full)
    }

    /// Keeps what a restarted server continues the steady clock from.
    pub async fn keep_anchor(&self) -> Result<(), StoreError> {
        let anchor = self.clock().anchor();
        self.0
            .store
            .write(move |tx| {
                Box::pin(async move {
                    let text = serde_json::to_string(&anchor)
                        .map_err(|error| StoreError::Corrupt { what: error.to_string() })?;
                    meta::put(tx, ANCHOR, &text).await
                })
            })
            .await?
    }
}

/// What need not be looked at each second.
async fn slow(engine: &Engine) -> Result<(), StoreError> {
    let queues =
        live::queue_depths(&mut engine.0.store.read().await?, QUEUE_DEPTH_ALERT, QUEUES_MAX)
            .await?;
    let worker = engine.clone();
    let after = engine
        .0
        .store
        .write(move |tx| {
            Box::pin(async move {
                let now = worker.clock().now();
                let mut after = After::default();
                let mut raised = Alerts::default();
                let open = stored_alerts::open_of_kinds(tx, &["queue_depth"]).await?;
                for (project, _, device) in &open {
                    let still =
                        queues.iter().any(|(p, d, _)| p == project && Some(d) == device.as_ref());
                    if !still && let Some(key) = key(project, device.as_deref().unwrap_or_default())
                    {
                        raised.resolve(&key, "queue_depth");
                    }
                }
                for (project, device, depth) in &queues {
                    let is_open =
                        open.iter().any(|(p, _, d)| p == project && d.as_ref() == Some(device));
                    if !is_open && let Some(key) = key(project, device) {
                        let cause = format!("{depth} commands wait for {device}");
                        raised.raise(&key, "queue_depth", Severity::Warning, cause, None);
                    }
                }
                raised.write(&worker, tx, now, &mut after).await?;
                alerts::sweep_mass(tx, now, &mut after).await?;
                alerts::sweep_lockouts(tx, now, &mut after).await?;
                safety::sweep(tx, now.steady_ms - SAFETY_KEPT_MS).await?;
                idempotency::sweep(tx, now.wall).await?;
                Ok::<After, StoreError>(after)
            })
        })
        .await??;
    engine.after_commit(after);
    Ok(())
}

fn key(project: &str, device: &str) -> Option<ingest::DeviceKey> {
    Some((ProjectId::new(project).ok()?, DeviceId::new(device).ok()?))
}
