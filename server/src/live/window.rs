//! One window: which rows it shows, and how they differ from what was sent.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    hash::{BuildHasher as _, RandomState},
    time::Duration,
};

use quarterdeck_protocol::{
    api::Role,
    ids::{CommandId, DeviceId, ProjectId},
    limits::LIVE_WINDOW_MAX_ROWS,
    live::{CHANGES_MIN_INTERVAL_MS, Listing, Range, Row, ServerMessage},
    time::Timestamp,
};
use tokio::time::Instant;

use crate::{
    engine::Change,
    http::{App, audit as audit_route, extract::Caller, operations},
    store::{
        Tx, alerts, audit, commands, device_events, devices, enrollment_tokens,
        listed::{Listed, shown},
        members, projects,
        query::{InvalidQuery, ListError, WindowRow, to_raw},
        recordings, tunnels, users,
    },
};

/// A window is read again after so many times as long as reading it took: at most a fifth of a reader's time.
const REST_FACTOR: u32 = 4;
/// A window is read again after so long even when nobody announced a change, in milliseconds.
const RESYNC_MS: u64 = 30_000;
/// Operations are read again at most this often: devices change all the time, what they announce seldom.
const OPERATIONS_INTERVAL_MS: u64 = 2_000;
/// An overview is: its numbers are of the last 15 minutes, and age by themselves.
const RESYNC_OVERVIEW_MS: u64 = 5_000;

/// Who watches.
#[derive(Debug, Clone)]
pub(super) struct Watcher {
    pub(super) project: ProjectId,
    pub(super) caller: Caller,
    pub(super) role: Role,
}

/// One window of one connection.
#[derive(Debug)]
pub(super) struct Window {
    pub(super) id: u32,
    listing: Listing,
    filter: BTreeMap<String, String>,
    sort: Option<String>,
    range: Range,
    /// What the console has; nothing before the first snapshot.
    sent: Option<Sent>,
    /// Of commands that are shown: their devices, whose status stands beside them.
    devices: HashSet<DeviceId>,
    is_dirty: bool,
    /// Not read again before.
    rests_until: Instant,
    read_at: Instant,
}

#[derive(Debug)]
struct Sent {
    total: u64,
    /// Keys in order, each with its row's hash: the rows themselves need not be kept.
    rows: Vec<(String, u64)>,
}

/// Why a window cannot be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unwatchable {
    pub(super) code: &'static str,
    pub(super) detail: String,
}

impl Window {
    /// Makes a window, if its listing is one that the watcher may see.
    pub(super) fn new(
        watcher: &Watcher,
        id: u32,
        listing: Listing,
        filter: BTreeMap<String, String>,
        sort: Option<String>,
        range: Range,
    ) -> Result<Self, Unwatchable> {
        let forbidden =
            |needs: &str| Unwatchable { code: "forbidden", detail: format!("this needs {needs}") };
        match listing {
            Listing::Users if !watcher.caller.is_server_admin() => {
                return Err(forbidden("a server admin"));
            }
            Listing::EnrollmentTokens if watcher.role < Role::Admin => {
                return Err(forbidden("the role admin"));
            }
            _ => {}
        }
        check(range)?;
        let now = Instant::now();
        Ok(Self {
            id,
            listing,
            filter,
            sort,
            range,
            sent: None,
            devices: HashSet::new(),
            is_dirty: true,
            rests_until: now,
            read_at: now,
        })
    }

    /// Moves the window: a snapshot comes next.
    pub(super) fn shift(&mut self, range: Range) -> Result<(), Unwatchable> {
        check(range)?;
        self.range = range;
        self.sent = None;
        self.is_dirty = true;
        self.rests_until = Instant::now();
        Ok(())
    }

    /// Takes note of a change that may concern this window.
    pub(super) fn hear(&mut self, change: &Change, project: &ProjectId) {
        self.is_dirty |= self.is_concerned(change, project);
    }

    pub(super) fn mark_dirty(&mut self) {
        self.is_dirty = true;
    }

    fn is_concerned(&self, change: &Change, project: &ProjectId) -> bool {
        // These two belong to the server as a whole.
        if matches!(self.listing, Listing::Users | Listing::Projects) {
            return change.listing == self.listing;
        }
        if change.project != *project {
            return false;
        }
        match self.listing {
            Listing::Overview => {
                matches!(
                    change.listing,
                    Listing::Devices
                        | Listing::Commands
                        | Listing::Alerts
                        | Listing::Overview
                        | Listing::Tunnels
                )
            }
            // What they announce may have changed.
            Listing::Operations => matches!(change.listing, Listing::Devices | Listing::Operations),
            Listing::Commands if change.listing == Listing::Devices => {
                DeviceId::new(&change.key).is_ok_and(|device| self.devices.contains(&device))
            }
            // The timeline of a device has its commands too.
            Listing::Timeline if change.listing == Listing::Commands => {
                self.filter.contains_key("device")
            }
            listing if listing != change.listing => false,
            Listing::Timeline | Listing::Output => {
                change.key.is_empty()
                    || ["command", "device"]
                        .iter()
                        .any(|name| self.filter.get(*name) == Some(&change.key))
            }
            Listing::Devices | Listing::Commands => {
                self.filter.get("id").is_none_or(|id| id.is_empty() || *id == change.key)
            }
            _ => true,
        }
    }

    /// When this window is to be read next, if ever.
    pub(super) fn due_at(&self) -> Instant {
        if self.is_dirty {
            return self.rests_until;
        }
        let resync_ms =
            if self.listing == Listing::Overview { RESYNC_OVERVIEW_MS } else { RESYNC_MS };
        self.read_at + Duration::from_millis(resync_ms)
    }

    /// Reads the rows; answers what to send, if anything changed.
    pub(super) async fn refresh(
        &mut self,
        app: &App,
        watcher: &Watcher,
        hasher: &RandomState,
    ) -> Result<Option<ServerMessage>, ListError> {
        let started = Instant::now();
        // Before the rows are read: what changes meanwhile makes it dirty again.
        self.is_dirty = false;
        let read = self.read(app, watcher).await;
        let took = started.elapsed();
        self.read_at = Instant::now();
        let interval = Duration::from_millis(match self.listing {
            Listing::Overview => super::OVERVIEW_MAX_AGE_MS as u64,
            Listing::Operations => OPERATIONS_INTERVAL_MS,
            _ => CHANGES_MIN_INTERVAL_MS,
        });
        self.rests_until = self.read_at + interval.max(took * REST_FACTOR);
        let (rows, total) = read?;
        Ok(self.differ(rows, total, app.clock.wall(), hasher))
    }

    fn differ(
        &mut self,
        rows: Vec<WindowRow>,
        total: u64,
        at: Timestamp,
        hasher: &RandomState,
    ) -> Option<ServerMessage> {
        let id = self.id;
        let now_sent: Vec<(String, u64)> =
            rows.iter().map(|(key, data)| (key.clone(), hasher.hash_one(data.get()))).collect();
        let to_row = |(key, data)| Row { key, data };
        let Some(before) = self.sent.replace(Sent { total, rows: now_sent }) else {
            let items = rows.into_iter().map(to_row).collect();
            return Some(ServerMessage::Snapshot {
                id,
                offset: self.range.offset,
                total,
                items,
                at,
            });
        };
        let now = self.sent.as_ref()?;
        let has_order_changed = before.rows.len() != now.rows.len()
            || before.rows.iter().zip(&now.rows).any(|(before, now)| before.0 != now.0);
        let known: HashMap<&str, u64> =
            before.rows.iter().map(|(key, hash)| (key.as_str(), *hash)).collect();
        let items: Vec<Row> = rows
            .into_iter()
            .zip(&now.rows)
            .filter(|(_, (key, hash))| known.get(key.as_str()) != Some(hash))
            .map(|(row, _)| to_row(row))
            .collect();
        if items.is_empty() && !has_order_changed && before.total == total {
            return None;
        }
        let order =
            has_order_changed.then(|| now.rows.iter().map(|(key, _)| key.clone()).collect());
        Some(ServerMessage::Changes { id, total, items, order, at })
    }

    async fn read(
        &mut self,
        app: &App,
        watcher: &Watcher,
    ) -> Result<(Vec<WindowRow>, u64), ListError> {
        let Self { filter, range: Range { offset, limit }, .. } = &*self;
        let (offset, limit, sort) = (*offset, *limit, self.sort.as_deref());
        let project = &watcher.project;
        if self.listing == Listing::Overview {
            only_filters(filter, &[])?;
            let overview = app.live.overview(&app.store, &app.clock, project).await?;
            return Ok((vec![("overview".to_owned(), to_raw(overview.as_ref())?)], 1));
        }
        let _place = app.live.may_read().await;
        let tx = &mut app.store.read().await?;
        match self.listing {
            Listing::Devices => {
                window::<devices::Filter>(tx, project, filter, sort, offset, limit).await
            }
            Listing::Commands => {
                let filter = commands::listing::Filter::parse(filter)?;
                let (rows, total) = filter.window(tx, project, sort, offset, limit).await?;
                self.devices = rows.iter().map(|command| command.device_id.clone()).collect();
                Ok((shown::<commands::listing::Filter>(&rows)?, total))
            }
            Listing::Alerts => {
                window::<alerts::Filter>(tx, project, filter, sort, offset, limit).await
            }
            Listing::Timeline => {
                only_filters(filter, &["command", "device"])?;
                let rows = match (filter.get("command"), filter.get("device")) {
                    (Some(command), None) => {
                        commands::timeline_window(tx, project, command_id(command)?, offset, limit)
                            .await?
                    }
                    (None, Some(device)) => {
                        let device = DeviceId::new(device)
                            .map_err(|e| InvalidQuery::new("device", e.to_string()))?;
                        Some(device_events::window(tx, project, &device, offset, limit).await?)
                    }
                    _ => {
                        return Err(
                            InvalidQuery::new("filter", "expected one of command, device").into()
                        );
                    }
                };
                Ok(rows.unwrap_or_default())
            }
            Listing::Output => {
                only_filters(filter, &["command"])?;
                let command = filter
                    .get("command")
                    .ok_or_else(|| InvalidQuery::new("command", "expected a command's id"))?;
                let rows =
                    commands::output::window(tx, project, command_id(command)?, offset, limit)
                        .await?;
                Ok(rows.unwrap_or_default())
            }
            Listing::Audit => {
                let filter = audit::Filter::parse(filter)?;
                let descending = audit_route::is_descending(sort)?;
                let rows = audit::window(tx, project, &filter, descending, offset, limit).await?;
                Ok((
                    keyed(&rows, |row| row.seq.to_string())?,
                    audit::count(tx, project, &filter).await?,
                ))
            }
            Listing::Operations => {
                only_filters(filter, &[])?;
                let all = operations::all(tx, project).await?;
                let start = usize::try_from(offset).unwrap_or(usize::MAX).min(all.len());
                let end = start.saturating_add(limit as usize).min(all.len());
                Ok((keyed(&all[start..end], |row| row.name.clone())?, all.len() as u64))
            }
            Listing::Users => {
                only_filters(filter, &[])?;
                let rows = users::window(tx, offset, limit).await?;
                Ok((keyed(&rows, |row| row.username.clone())?, users::count(tx).await?))
            }
            Listing::Projects => {
                only_filters(filter, &[])?;
                let reader = watcher.caller.reader();
                let rows = projects::window(tx, &reader, offset, limit).await?;
                Ok((keyed(&rows, |row| row.id.to_string())?, projects::count(tx, &reader).await?))
            }
            Listing::Members => {
                only_filters(filter, &[])?;
                let rows = members::window(tx, project, offset, limit).await?;
                Ok((keyed(&rows, |row| row.username.clone())?, members::count(tx, project).await?))
            }
            Listing::EnrollmentTokens => {
                only_filters(filter, &[])?;
                let rows = enrollment_tokens::window(tx, project, offset, limit).await?;
                Ok((
                    keyed(&rows, |row| row.id.clone())?,
                    enrollment_tokens::count(tx, project).await?,
                ))
            }
            Listing::Tunnels => {
                window::<tunnels::Filter>(tx, project, filter, sort, offset, limit).await
            }
            Listing::Recordings => {
                window::<recordings::Filter>(tx, project, filter, sort, offset, limit).await
            }
            Listing::Overview => unreachable!("answered above"),
        }
    }
}

/// Reads a window of what a filter lets through.
async fn window<F: Listed>(
    tx: &mut Tx,
    project: &ProjectId,
    filter: &BTreeMap<String, String>,
    sort: Option<&str>,
    offset: u64,
    limit: u32,
) -> Result<(Vec<WindowRow>, u64), ListError> {
    let filter = F::parse(filter)?;
    let (rows, total) = filter.window(tx, project, sort, offset, limit).await?;
    Ok((shown::<F>(&rows)?, total))
}

fn check(range: Range) -> Result<(), Unwatchable> {
    if (1..=LIVE_WINDOW_MAX_ROWS).contains(&range.limit) {
        return Ok(());
    }
    Err(Unwatchable {
        code: "invalid",
        detail: format!("limit: expected 1 to {LIVE_WINDOW_MAX_ROWS}"),
    })
}

fn keyed<T: serde::Serialize>(
    rows: &[T],
    key: impl Fn(&T) -> String,
) -> Result<Vec<WindowRow>, ListError> {
    rows.iter().map(|row| Ok((key(row), to_raw(row)?))).collect()
}

fn only_filters(given: &BTreeMap<String, String>, known: &[&str]) -> Result<(), InvalidQuery> {
    match given.keys().find(|name| !known.contains(&name.as_str())) {
        None => Ok(()),
        Some(name) => Err(InvalidQuery::unknown_filter(name, known)),
    }
}

fn command_id(text: &str) -> Result<CommandId, InvalidQuery> {
    text.parse().map_err(|_| InvalidQuery::new("command", "expected a UUID"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::value::RawValue;

    fn row(key: &str, data: &str) -> WindowRow {
        (key.to_owned(), RawValue::from_string(format!("\"{data}\"")).expect("JSON"))
    }

    fn window() -> Window {
        let now = Instant::now();
        Window {
            id: 1,
            listing: Listing::Devices,
            filter: BTreeMap::new(),
            sort: None,
            range: Range { offset: 0, limit: 10 },
            sent: None,
            devices: HashSet::new(),
            is_dirty: true,
            rests_until: now,
            read_at: now,
        }
    }

    fn next(
        window: &mut Window,
        rows: &[(&str, &str)],
        total: u64,
        hasher: &RandomState,
    ) -> Option<ServerMessage> {
        let rows = rows.iter().map(|(key, data)| row(key, data)).collect();
        window.differ(rows, total, Timestamp::from_millis(0), hasher)
    }

    #[tokio::test]
    async fn only_what_differs_is_sent_and_the_order_only_when_it_changed() {
        let (mut window, hasher) = (window(), RandomState::new());
        let first = next(&mut window, &[("a", "1"), ("b", "1")], 2, &hasher);
        assert!(
            matches!(first, Some(ServerMessage::Snapshot { total: 2, ref items, .. }) if items.len() == 2)
        );
        assert_eq!(next(&mut window, &[("a", "1"), ("b", "1")], 2, &hasher), None);

        let Some(ServerMessage::Changes { items, order, .. }) =
            next(&mut window, &[("a", "1"), ("b", "2")], 2, &hasher)
        else {
            panic!("b differs");
        };
        assert_eq!((items.len(), items[0].key.as_str(), order), (1, "b", None));

        let Some(ServerMessage::Changes { items, order, total, .. }) =
            next(&mut window, &[("c", "1"), ("a", "1")], 3, &hasher)
        else {
            panic!("c is new");
        };
        assert_eq!((items.len(), items[0].key.as_str(), total), (1, "c", 3));
        assert_eq!(order, Some(vec!["c".to_owned(), "a".to_owned()]));

        let Some(ServerMessage::Changes { items, order, .. }) =
            next(&mut window, &[("c", "1"), ("a", "1")], 4, &hasher)
        else {
            panic!("the total differs");
        };
        assert!(items.is_empty() && order.is_none());
    }
}
