//! Pages of any listing, with the keys that its rows have in live windows.

use std::collections::BTreeMap;

use quarterdeck_protocol::{
    api::{Page, RecordingEvent},
    live::{Listing, Row},
};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    api::{InProject, Query},
    call::Call,
    client::Client,
    error::ApiError,
};
use crate::tui::effects::{EventsPage, ListPage};

/// Rows of one page: a page of commands with all their output is held in memory.
const PAGE_ITEMS: u32 = 500;

/// Reads the page behind `cursor`, the first one without.
pub(super) async fn page(
    client: &Client,
    project: &InProject<'_>,
    listing: Listing,
    mut filter: BTreeMap<String, String>,
    sort: Option<String>,
    cursor: Option<String>,
) -> Result<ListPage, ApiError> {
    let of_project = ["projects", project.id().as_str()];
    let subject;
    let is_of_device = filter.contains_key("device");
    let (segments, sort): (Vec<&str>, _) = match listing {
        Listing::Devices
        | Listing::Commands
        | Listing::Alerts
        | Listing::Audit
        | Listing::Tunnels
        | Listing::Recordings => {
            let name = match listing {
                Listing::Devices => "devices",
                Listing::Commands => "commands",
                Listing::Alerts => "alerts",
                Listing::Tunnels => "tunnels",
                Listing::Recordings => "recordings",
                _ => "audit",
            };
            ([&of_project[..], &[name]].concat(), sort)
        }
        // Newest first, as in the live window.
        Listing::Timeline => {
            let (what, id) = filter.pop_first().unwrap_or_default();
            subject = id;
            let name = if what == "device" { "devices" } else { "commands" };
            let segments = [&of_project[..], &[name, &subject, "timeline"]].concat();
            (segments, Some("-seq".to_owned()))
        }
        Listing::Operations => ([&of_project[..], &["operations"]].concat(), None),
        Listing::Members => ([&of_project[..], &["members"]].concat(), None),
        Listing::EnrollmentTokens => ([&of_project[..], &["enrollment-tokens"]].concat(), None),
        Listing::Users => (vec!["users"], None),
        Listing::Projects => (vec!["projects"], None),
        Listing::Output | Listing::Overview => {
            return Ok(ListPage { rows: Vec::new(), next_cursor: None, total: 0 });
        }
    };
    let mut query: Query = filter.into_iter().collect();
    query.push(("limit".to_owned(), PAGE_ITEMS.to_string()));
    query.extend(sort.map(|sort| ("sort".to_owned(), sort)));
    query.extend(cursor.map(|cursor| ("cursor".to_owned(), cursor)));
    let page: Page<Box<RawValue>> = client.call(Call::get(&segments).query(query)).await?;
    let keyed = |data: Box<RawValue>| Row { key: key(listing, is_of_device, &data), data };
    let rows = page.items.into_iter().map(keyed).collect();
    Ok(ListPage { rows, next_cursor: page.next_cursor, total: page.total })
}

/// Reads a page of what was recorded.
pub(super) async fn events(
    client: &Client,
    project: &InProject<'_>,
    id: &str,
    cursor: Option<String>,
) -> Result<EventsPage, ApiError> {
    let segments = ["projects", project.id().as_str(), "recordings", id, "events"];
    let mut query: Query = vec![("limit".to_owned(), PAGE_ITEMS.to_string())];
    query.extend(cursor.map(|cursor| ("cursor".to_owned(), cursor)));
    let page: Page<RecordingEvent> = client.call(Call::get(&segments).query(query)).await?;
    Ok(EventsPage { events: page.items, next_cursor: page.next_cursor })
}

/// The fields that keys are made of.
#[derive(Default, Deserialize)]
struct Keys {
    #[serde(default)]
    id: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    seq: i64,
    #[serde(default)]
    command_id: Option<String>,
}

/// The key of a row in a live window.
fn key(listing: Listing, is_of_device: bool, data: &RawValue) -> String {
    let keys: Keys = serde_json::from_str(data.get()).unwrap_or_default();
    match listing {
        Listing::Timeline => match keys.command_id.filter(|_| is_of_device) {
            // Several commands may have been made in one moment of a device.
            Some(command) => format!("{}.{command}", keys.seq),
            None => keys.seq.to_string(),
        },
        Listing::Audit => keys.seq.to_string(),
        Listing::Users | Listing::Members => keys.username,
        Listing::Operations => keys.name,
        _ => keys.id,
    }
}
