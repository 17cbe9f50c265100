//! Doors for `tests/fuzz` to parsers of untrusted input that only this crate calls.
//!
//! Each does what the program does with such input up to where a disk, a socket
//! or a database would come in, and tells what the targets check.

use axum::http::{HeaderMap, HeaderValue, header};
use quarterdeck_protocol::{
    command::ResponseStatus, ids::ProjectId, time::Timestamp, topics::DeviceTopic,
};
use serde::de::DeserializeOwned;

use crate::{
    config,
    engine::ingest::message::{Failed, Health, Said, Status},
    http::{audit, extract, json, problem::Error, query::Params},
    store::{
        alerts, audit as trail, commands, devices,
        listed::Listed as _,
        query::{ListError, Slice, Sql},
    },
};

/// What of a device's message would be kept.
#[derive(Debug, Default)]
pub struct Heard {
    /// Texts that hold JSON, and are shown inside of other JSON.
    pub json: Vec<String>,
    pub texts: Vec<String>,
}

/// Reads a message of a device; says why when it is malformed.
pub fn device_message(kind: DeviceTopic, payload: &[u8]) -> Result<Heard, String> {
    let mut heard = Heard::default();
    match kind {
        DeviceTopic::CommandsResponse => {
            let said = Said::parse(payload).map_err(|error| error.to_string())?;
            for event in ["late", said.status.as_str()] {
                heard.json.extend(Some(said.detail(event, Some("why"))).filter(|d| !d.is_empty()));
            }
            if said.status == ResponseStatus::Progress {
                let chunks = said.chunks(Timestamp::from_millis(0));
                heard.texts.extend(chunks.into_iter().map(|chunk| chunk.text));
            }
            heard.texts.extend(said.state);
            heard.texts.extend(said.step);
            heard.texts.extend(said.error_code);
            if let Some(rest) = said.rest {
                heard.json.extend(rest.result);
                heard.texts.extend(rest.error_message);
                heard.texts.extend(rest.stdout);
                heard.texts.extend(rest.stderr);
            }
        }
        DeviceTopic::Status => {
            let status = Status::parse(payload).map_err(|error| error.to_string())?;
            heard.json.extend(status.facts);
            heard.texts.extend(status.boot_id);
            heard.texts.extend(status.agent_version);
            if let Some(announced) = status.announced {
                heard.texts.extend(announced.names);
                let cards = announced.cards.iter().map(serde_json::to_string);
                heard.json.extend(cards.map(|card| card.expect("plain data")));
            }
        }
        DeviceTopic::Health => {
            let health = Health::parse(payload).map_err(|error| error.to_string())?;
            heard.json.push(health.report);
            heard.texts.extend(health.process_status);
        }
        DeviceTopic::ServiceFailed => {
            let Failed(failed) = Failed::parse(payload).map_err(|error| error.to_string())?;
            heard.texts.extend(failed.into_iter().flat_map(<[String; 2]>::from));
        }
        _ => {}
    }
    Ok(heard)
}

/// Reads the body of a request.
pub fn http_body<T: DeserializeOwned>(body: &[u8]) -> Result<T, Error> {
    json::parse(body)
}

/// Reads the query of a listing, up to the statements that it becomes: each its text and how many values it has.
pub fn http_query(listing: &str, query: &str) -> Result<Vec<(String, usize)>, Error> {
    let mut params = Params::read("/fuzz", query)?;
    // Its mark would stop each cursor that was not made here.
    let cursor = params.take("cursor");
    let mut paging = params.paging()?;
    paging.cursor = cursor;
    let (sort, cursor) = (paging.sort.as_deref(), paging.cursor.as_deref());
    let project = ProjectId::new("p").expect("a constant name");
    let given = params.filters();
    let invalid = |error| Error::from(ListError::Invalid(error));
    let select = match listing {
        "devices" => devices::listing::Filter::parse(&given)
            .and_then(|filter| Ok(filter.select(&project, devices::listing::Filter::sort(sort)?))),
        "commands" => commands::listing::Filter::parse(&given)
            .and_then(|filter| Ok(filter.select(&project, commands::listing::Filter::sort(sort)?))),
        "alerts" => alerts::Filter::parse(&given)
            .and_then(|filter| Ok(filter.select(&project, alerts::Filter::sort(sort)?))),
        _ => {
            trail::Filter::parse(&given).map_err(invalid)?;
            audit::is_descending(sort).map_err(invalid)?;
            paging.after_key()?;
            return Ok(Vec::new());
        }
    };
    let select = select.map_err(invalid)?;
    let keys = select.keys(Slice::After(cursor), paging.limit).map_err(invalid)?;
    Ok([keys, select.count()].into_iter().map(|Sql { text, binds }| (text, binds.len())).collect())
}

/// Reads an `Authorization` header as each kind of caller would send it.
pub fn authorization(value: &[u8]) -> Option<(String, String)> {
    let mut headers = HeaderMap::new();
    headers.insert(header::AUTHORIZATION, HeaderValue::from_bytes(value).ok()?);
    let _ = extract::bearer(&headers);
    extract::basic(&headers)
}

/// Reads a configuration file, without the files that it names.
pub fn config_file(text: &str) -> Result<(), String> {
    config::check_file(text).map(drop)
}
