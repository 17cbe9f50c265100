//! What of a submission a safety rule refuses: counted before, stored as refused, told.

use std::collections::BTreeMap;

use quarterdeck_protocol::{
    api::Severity,
    command::{CommandStatus, error_code},
    ids::{DeviceId, ProjectId},
    time::Timestamp,
};
use serde_json::json;

use super::Checked;
use crate::{
    clock::Now,
    domain::safety::{self, Counter, Verdict},
    engine::{After, Engine, Refused, alerts::Alerts},
    store::{
        Tx,
        commands::{append_event, write},
        safety as counted,
    },
};

/// Of each device that must wait: until when, by the wall clock.
pub(super) async fn blocked_until(
    tx: &mut Tx,
    project: &ProjectId,
    checked: &Checked,
    now: Now,
) -> Result<BTreeMap<String, Timestamp>, Refused> {
    let names: Vec<String> = checked.devices.iter().map(ToString::to_string).collect();
    let mut blocked = BTreeMap::new();
    for (counter, names) in by_counter(names, |device| checked.counter(device)) {
        let rule = counter.rule(&checked.settings);
        let before =
            counted::counted(tx, project, &names, counter, now.steady_ms - rule.window_ms).await?;
        for device in names {
            let times = before.get(&device).map_or(&[][..], Vec::as_slice);
            if let Verdict::BlockedUntil(until_ms) = safety::judge(rule, times, now.steady_ms) {
                blocked.insert(device, now.wall.plus_millis(until_ms - now.steady_ms));
            }
        }
    }
    Ok(blocked)
}

/// Sorts what counts by what it counts as; one operation may count on some devices and not on others.
pub(super) fn by_counter<T>(
    items: Vec<T>,
    counter: impl Fn(&T) -> Option<Counter>,
) -> BTreeMap<Counter, Vec<T>> {
    let mut sorted: BTreeMap<Counter, Vec<T>> = BTreeMap::new();
    for item in items {
        if let Some(counter) = counter(&item) {
            sorted.entry(counter).or_default().push(item);
        }
    }
    sorted
}

/// Stores what a safety rule refuses, and raises its alerts.
#[expect(clippy::too_many_arguments, reason = "the submission, and what of it is refused")]
pub(super) async fn block(
    engine: &Engine,
    tx: &mut Tx,
    project: &ProjectId,
    common: &write::NewCommands<'_>,
    refused: &[(String, String)],
    blocked: &BTreeMap<String, Timestamp>,
    now: Now,
    after: &mut After,
) -> Result<(), Refused> {
    let mut alerts = Alerts::default();
    for row in refused {
        let Some(until) = blocked.get(&row.1) else { continue };
        let message = blocked_message(common.kind, *until);
        let mut timeline = common.timeline.to_owned();
        let detail = json!({ "blocked_until": until }).to_string();
        append_event(
            &mut timeline,
            now.wall,
            CommandStatus::BlockedSafety.as_str(),
            "server",
            &detail,
        );
        let new = write::NewCommands {
            timeline: &timeline,
            events: 2,
            blocked: Some(write::Blocked {
                until: until.as_millis(),
                code: error_code::SAFETY_LOCKOUT,
                message: &message,
            }),
            ..common.clone()
        };
        write::insert(tx, &new, std::slice::from_ref(row)).await?;
        if let Ok(device) = DeviceId::new(&row.1) {
            let cause = format!("{} on {} was refused: {message}", common.kind, row.1);
            let key = (project.clone(), device);
            alerts.raise(&key, "safety_lockout", Severity::Warning, cause, Some(row.0.clone()));
        }
    }
    alerts.write(engine, tx, now, after).await?;
    Ok(())
}

pub(super) fn blocked_message(kind: &str, until: Timestamp) -> String {
    let what = if Counter::of(kind, false) == Some(Counter::AppRestart) {
        "app restarts"
    } else {
        "reboots"
    };
    format!("too many {what} of this device in a short time; a new one may go at {until}")
}
