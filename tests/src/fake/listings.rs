//! What the fleet's listings hold: filtered, sorted, a page of it.

use std::collections::BTreeMap;

use quarterdeck_protocol::{
    api::{
        Alert, AlertCounts, Command, Device, DeviceCounts, Member, OutputChunk, Overview,
        RebootBudget, Recording, Severity, SiteCount, TimelineEntry, Tunnel,
    },
    device::DeviceStatus,
    live::{Listing, Range, Row},
    operations, search,
    time::Timestamp,
};
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    FakeFleet,
    windows::{Watch, raw_row},
};

/// Items of a page.
const PAGE_ITEMS: u32 = 200;

impl FakeFleet {
    /// A page of a listing: its rows, the cursor of the next one, and how many match.
    pub fn page(
        &self,
        listing: Listing,
        filter: BTreeMap<String, String>,
        sort: Option<String>,
        cursor: Option<&str>,
    ) -> (Vec<Row>, Option<String>, u64) {
        let offset = cursor.and_then(|at| at.parse().ok()).unwrap_or(0);
        let range = Range { offset, limit: PAGE_ITEMS };
        let watch = Watch { listing, filter, sort, range, sent: Vec::new(), total: 0 };
        let (rows, total) = self.rows_of(&watch);
        let next = offset + rows.len() as u64;
        (rows.iter().map(raw_row).collect(), (next < total).then(|| next.to_string()), total)
    }

    /// The rows of a window as they are now, and how many match in all.
    pub(super) fn rows_of(&self, watch: &Watch) -> (Vec<(String, String)>, u64) {
        let filter = |name: &str| watch.filter.get(name).map(String::as_str);
        let range = watch.range;
        match watch.listing {
            Listing::Commands if self.rows.is_some() && watch.filter.is_empty() => {
                let total = self.rows.unwrap_or(0);
                let end = (range.offset + u64::from(range.limit)).min(total);
                let rows = (range.offset..end)
                    .map(|n| {
                        let command = self.a_command(n);
                        (command.id.to_string(), self.command_json(&command))
                    })
                    .collect();
                (rows, total)
            }
            Listing::Commands => {
                let mut found: Vec<&Command> = self
                    .commands
                    .iter()
                    .filter(|c| {
                        filter("id").is_none_or(|id| c.id.to_string() == id)
                            && filter("device").is_none_or(|id| c.device_id.as_str() == id)
                            && filter("batch_id").is_none_or(|id| c.batch_id.to_string() == id)
                            && filter("user").is_none_or(|by| c.created_by == by)
                            && filter("status")
                                .is_none_or(|s| s.split(',').any(|s| s == c.status.as_str()))
                            && allows(filter("type"), &c.kind)
                            && finds(filter("q"), &[&c.kind, c.device_id.as_str(), &c.created_by])
                    })
                    .collect();
                let by = watch.sort.as_deref().unwrap_or("-created_at");
                found.sort_by_key(|c| match by.trim_start_matches('-') {
                    "type" => c.kind.clone(),
                    "device_id" => c.device_id.to_string(),
                    "status" => c.status.as_str().to_owned(),
                    "created_by" => c.created_by.clone(),
                    _ => c.created_at.to_string(),
                });
                if by.starts_with('-') {
                    found.reverse();
                }
                page(range, &found, |c| (c.id.to_string(), self.command_json(c)))
            }
            Listing::Devices if self.rows.is_some() && watch.filter.is_empty() => {
                let total = self.rows.unwrap_or(0);
                let end = (range.offset + u64::from(range.limit)).min(total);
                let rows = (range.offset..end)
                    .map(|n| {
                        let device = self.a_listed_device(n);
                        (device.id.to_string(), text(&device))
                    })
                    .collect();
                (rows, total)
            }
            Listing::Devices => {
                let mut found: Vec<&Device> = self
                    .devices
                    .iter()
                    .filter(|d| {
                        filter("id").is_none_or(|id| d.id.as_str() == id)
                            && filter("type").is_none_or(|kind| d.kind == kind)
                            && filter("tag").is_none_or(|tags| has_tags(d, tags))
                            && filter("status")
                                .is_none_or(|s| s.split(',').any(|s| s == d.status.as_str()))
                            && finds(filter("q"), &[d.id.as_str(), &d.kind])
                    })
                    .collect();
                let by = watch.sort.as_deref().unwrap_or("id");
                found.sort_by_key(|d| match by.trim_start_matches('-') {
                    "status" => d.status.as_str().to_owned(),
                    "type" => d.kind.clone(),
                    "last_seen_at" => format!("{:?}", d.last_seen_at),
                    _ => d.id.to_string(),
                });
                if by.starts_with('-') {
                    found.reverse();
                }
                page(range, &found, |d| (d.id.to_string(), text(d)))
            }
            Listing::Timeline => {
                let rows: Vec<TimelineEntry> = self.timeline(filter("command"), filter("device"));
                page(range, &rows, |entry| (entry.seq.to_string(), text(entry)))
            }
            Listing::Output => {
                let rows = self.output(filter("command").unwrap_or_default());
                page(range, &rows, |c| (format!("{}:{}", c.stream, c.offset), text(c)))
            }
            Listing::Alerts => {
                let found: Vec<&Alert> = self
                    .alerts
                    .iter()
                    .filter(|a| filter("status") != Some("open") || a.resolved_at.is_none())
                    .collect();
                page(range, &found, |a| (a.id.clone(), text(a)))
            }
            Listing::Audit => page(range, &self.audit, |e| (e.seq.to_string(), text(e))),
            Listing::Operations => {
                let mut all = operations::builtin();
                let own = operations::Operation {
                    name: "firmware_update".to_owned(),
                    title: "Firmware update".to_owned(),
                    description: "Write the other slot, verify it, and boot from it.".to_owned(),
                    icon: "◇".to_owned(),
                    estimated_duration_s: 240,
                    source: operations::OperationSource::Device,
                    device_count: self.devices.len() as u64,
                    ..all[0].clone()
                };
                all.push(own);
                page(range, &all, |op| (op.name.clone(), text(op)))
            }
            Listing::Users => page(range, &self.users, |u| (u.username.clone(), text(u))),
            Listing::Members => {
                let all: Vec<Member> = self
                    .users
                    .iter()
                    .filter_map(|u| {
                        let role = *u.projects.values().next()?;
                        Some(Member { username: u.username.clone(), role })
                    })
                    .collect();
                page(range, &all, |m| (m.username.clone(), text(m)))
            }
            Listing::Projects => page(range, &self.projects, |p| (p.id.to_string(), text(p))),
            Listing::EnrollmentTokens => page(range, &self.tokens, |t| (t.id.clone(), text(t))),
            Listing::Tunnels => {
                let found: Vec<&Tunnel> = self
                    .tunnels
                    .iter()
                    .filter(|t| {
                        allows(filter("device"), t.device_id.as_str())
                            && allows(filter("user"), &t.user)
                            && allows(filter("status"), t.status.as_str())
                            && allows(filter("kind"), t.kind.as_str())
                            && is_between(t.created_at, filter("from"), filter("to"))
                    })
                    .collect();
                page(range, &found, |t| (t.id.to_string(), text(t)))
            }
            Listing::Recordings => {
                let found: Vec<&Recording> = self
                    .recordings
                    .iter()
                    .filter(|r| {
                        allows(filter("device"), r.device_id.as_str())
                            && allows(filter("user"), &r.user)
                            && allows(filter("status"), r.status.as_str())
                            && is_between(r.started_at, filter("from"), filter("to"))
                    })
                    .collect();
                page(range, &found, |r| (r.id.clone(), text(r)))
            }
            Listing::Overview => {
                let overview = self.overview();
                (vec![("overview".to_owned(), text(&overview))], 1)
            }
        }
    }

    fn command_json(&self, command: &Command) -> String {
        let device_status =
            self.devices.iter().find(|d| d.id == command.device_id).map(|d| d.status);
        text(&Command { device_status, ..command.clone() })
    }

    fn timeline(&self, command: Option<&str>, device: Option<&str>) -> Vec<TimelineEntry> {
        let mut out = Vec::new();
        for c in self.commands.iter().filter(|c| {
            command.is_none_or(|id| c.id.to_string() == id)
                && device.is_none_or(|id| c.device_id.as_str() == id)
        }) {
            let mut push = |at: Option<Timestamp>, event: &str, by: &str, detail: Value| {
                if let Some(at) = at {
                    let seq = out.len() as i64 + 1;
                    let event = event.to_owned();
                    let by = by.to_owned();
                    out.push(TimelineEntry { seq, at, event, by, command_id: Some(c.id), detail });
                }
            };
            push(Some(c.created_at), "created", &c.created_by, json!({"type": c.kind}));
            push(c.published_at, "published", "server", json!({"qos": 2}));
            push(c.accepted_at, "accepted", "device", Value::Null);
            push(c.started_at, "execution_started", "device", json!({"state": "executing"}));
            push(c.finished_at, c.status.as_str(), "device", json!({"exit_code": c.exit_code}));
        }
        out
    }

    /// What a command printed.
    pub(super) fn output(&self, id: &str) -> Vec<OutputChunk> {
        let Some(c) = self.commands.iter().find(|c| c.id.to_string() == id) else {
            return Vec::new();
        };
        let Some(started) = c.started_at else { return Vec::new() };
        let end = c.finished_at.unwrap_or(self.now);
        let lines = (end.millis_since(started) / 400).clamp(1, 300);
        let mut offset = 0;
        (0..lines)
            .map(|n| {
                let stderr = n % 11 == 9;
                let text = printed(&c.kind, n, stderr);
                offset += text.len() as u64;
                OutputChunk {
                    stream: if stderr { "stderr" } else { "stdout" }.to_owned(),
                    offset,
                    text,
                    at: started.plus_millis(n * 400),
                }
            })
            .collect()
    }

    pub(super) fn overview(&self) -> Overview {
        let count = |status| self.devices.iter().filter(|d| d.status == status).count() as u64;
        let mut open = BTreeMap::new();
        let mut recent = BTreeMap::new();
        for c in &self.commands {
            let map = if c.status.is_terminal() { &mut recent } else { &mut open };
            *map.entry(c.status.as_str().to_owned()).or_insert(0) += 1;
        }
        let mut sites: BTreeMap<&str, u64> = BTreeMap::new();
        for d in self.devices.iter().filter(|d| d.status == DeviceStatus::Offline) {
            *sites.entry(d.tags.get("site").map_or("", String::as_str)).or_default() += 1;
        }
        let mut by_site: Vec<SiteCount> = sites
            .into_iter()
            .map(|(site, count)| SiteCount { site: site.to_owned(), count })
            .collect();
        by_site.sort_by_key(|site| std::cmp::Reverse(site.count));
        let severe =
            |severity| self.alerts.iter().filter(|a| a.severity == severity).count() as u64;
        Overview {
            devices: DeviceCounts {
                online: count(DeviceStatus::Online),
                stale: count(DeviceStatus::Stale),
                unheard: self.devices.iter().filter(|d| d.unheard_since.is_some()).count() as u64,
                offline: count(DeviceStatus::Offline),
                retired: 0,
                service_failed: self.devices.iter().filter(|d| d.service_failed.is_some()).count()
                    as u64,
            },
            open_commands: open,
            recent_commands: recent,
            p50_ms: Some(2_100),
            p95_ms: Some(14_000),
            oldest_queued_at: Some(self.now.plus_seconds(-191)),
            alerts: AlertCounts {
                critical: severe(Severity::Critical),
                warning: severe(Severity::Warning),
                info: severe(Severity::Info),
                unacknowledged: self.alerts.iter().filter(|a| a.acknowledged_by.is_none()).count()
                    as u64,
            },
            offline_by_site: by_site,
            open_tunnels: 0,
            reboot_budget: self
                .devices
                .iter()
                .zip([3, 1])
                .map(|(device, used)| RebootBudget {
                    device_id: device.id.clone(),
                    used,
                    left: 3 - used,
                })
                .collect(),
        }
    }
}

/// Whether a column's filter lets a name through.
fn allows(filter: Option<&str>, name: &str) -> bool {
    let names = search::names(filter.unwrap_or_default()).unwrap_or_default();
    let is = |term: &search::Term| if term.fuzzy { term.is_in(name) } else { term.text == name };
    let (none, any): (Vec<_>, Vec<_>) = names.iter().partition(|term| term.inverse);
    !none.into_iter().any(is) && (any.is_empty() || any.into_iter().any(is))
}

/// Whether an instant is from one on, and before another.
fn is_between(at: Timestamp, from: Option<&str>, to: Option<&str>) -> bool {
    let instant = |text: Option<&str>| text.and_then(|text| text.parse::<Timestamp>().ok());
    instant(from).is_none_or(|from| at >= from) && instant(to).is_none_or(|to| at < to)
}

/// Whether each word of a search holds in the texts that are searched.
fn finds(q: Option<&str>, texts: &[&str]) -> bool {
    let words = search::words(q.unwrap_or_default()).unwrap_or_default();
    words.iter().all(|word| texts.iter().any(|text| word.is_in(text)) != word.inverse)
}

fn has_tags(device: &Device, wanted: &str) -> bool {
    wanted.split(',').all(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        device.tags.get(key).is_some_and(|own| own == value)
    })
}

fn page<T>(
    range: Range,
    all: &[T],
    row: impl Fn(&T) -> (String, String),
) -> (Vec<(String, String)>, u64) {
    let from = (range.offset as usize).min(all.len());
    let to = (from + range.limit as usize).min(all.len());
    (all[from..to].iter().map(row).collect(), all.len() as u64)
}

fn text<T: Serialize>(row: &T) -> String {
    serde_json::to_string(row).expect("serialises")
}

/// Line `n` of what an operation prints.
fn printed(kind: &str, n: i64, stderr: bool) -> String {
    match (kind, stderr, n % 4) {
        // With colours of its own, as programs have that know no better.
        (_, true, _) => "\u{1b}[33mwarning\u{1b}[0m: slow media, trying again\n".to_owned(),
        ("firmware_update", _, 3) => format!("verify: block 0x{:03x} ok\n", n * 37),
        ("firmware_update", ..) => format!("slot b: {} of 4096 KiB written\n", n * 32),
        (_, _, 0) => format!("mqtt-bridge: {} messages forwarded, 0 lost\n", 40 + n * 7),
        (_, _, 1) => format!("player: playlist {} of 5, all files there\n", n % 5 + 1),
        (_, _, 2) => format!("verify: /var/lib/player {n} files ok\n"),
        _ => format!("kernel: eth0: {} packets, no errors\n", 1000 + n * 97),
    }
}
