//! What a device said as it is kept until it is decided: one JSON object a word.
//!
//! The payload stands in it as the device wrote it, which is read again after a crash.

use std::fmt::Write as _;

use bytes::Bytes;
use quarterdeck_protocol::{
    time::Timestamp,
    topics::{self, DeviceTopic},
};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{DeviceKey, Heard, reader};
use crate::clock::Now;

/// One word on its way into the store.
#[derive(Debug)]
pub(super) struct Word<'a> {
    pub(super) device: &'a DeviceKey,
    pub(super) kind: DeviceTopic,
    /// Valid JSON, or empty.
    pub(super) payload: &'a Bytes,
    pub(super) retained: bool,
    pub(super) last_will: bool,
    pub(super) now: Now,
}

/// The words of one batch, as text.
#[derive(Debug, Default)]
pub(super) struct Words(String);

impl Words {
    /// Adds a word that was read, hence one that is JSON and UTF-8.
    pub(super) fn push(&mut self, word: &Word<'_>) {
        let Ok(payload) = std::str::from_utf8(word.payload) else { return };
        let out = &mut self.0;
        out.push(if out.is_empty() { '[' } else { ',' });
        // Ids, and so topics, hold nothing that JSON would escape.
        write!(
            out,
            r#"{{"topic":"{}","at_ms":{},"steady_ms":{}"#,
            topics::topic(word.kind, &word.device.0, &word.device.1),
            word.now.wall.as_millis(),
            word.now.steady_ms,
        )
        .expect("writing to a string cannot fail");
        if word.retained {
            out.push_str(r#","retained":true"#);
        }
        if word.last_will {
            out.push_str(r#","last_will":true"#);
        }
        if !payload.is_empty() {
            out.push_str(r#","payload":"#);
            out.push_str(payload);
        }
        out.push('}');
    }

    /// The text to keep; `None` when there is no word.
    pub(super) fn finish(mut self) -> Option<String> {
        if self.0.is_empty() {
            return None;
        }
        self.0.push(']');
        Some(self.0)
    }
}

#[derive(Deserialize)]
struct Kept<'a> {
    topic: &'a str,
    at_ms: i64,
    steady_ms: i64,
    #[serde(default)]
    retained: bool,
    #[serde(default)]
    last_will: bool,
    #[serde(borrow, default)]
    payload: Option<&'a RawValue>,
}

/// Reads kept words again. One that cannot be read any more, by a later version say, is left out and logged.
pub(super) fn read(words: &str) -> Result<Vec<Heard>, serde_json::Error> {
    let kept: Vec<Kept<'_>> = serde_json::from_str(words)?;
    Ok(kept.iter().filter_map(heard).collect())
}

fn heard(kept: &Kept<'_>) -> Option<Heard> {
    let (project, device, kind) = topics::parse(kept.topic)?;
    let payload = kept.payload.map_or("", RawValue::get);
    match reader::parse(kind, payload.as_bytes(), kept.retained, kept.last_will) {
        Ok(what) => Some(Heard {
            device: (project, device),
            what: what?,
            now: Now { wall: Timestamp::from_millis(kept.at_ms), steady_ms: kept.steady_ms },
        }),
        Err(error) => {
            tracing::error!(topic = kept.topic, %error, "a kept word cannot be read");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::ingest::What;
    use quarterdeck_protocol::ids::{DeviceId, ProjectId};

    #[test]
    fn what_is_kept_is_read_again_as_it_was_said() {
        let device =
            (ProjectId::new("default").expect("valid"), DeviceId::new("pi-1").expect("valid"));
        let now = Now { wall: Timestamp::from_millis(1_790_000_000_000), steady_ms: 17 };
        let response = Bytes::from_static(
            b"{\"schema_version\":\"1.0\",\n \"command_id\":\"018f0000-0000-7000-8000-000000000001\",\"status\":\"accepted\"}",
        );
        let mut words = Words::default();
        for (kind, payload, last_will) in [
            (DeviceTopic::CommandsResponse, &response, false),
            (DeviceTopic::ServiceFailed, &Bytes::new(), true),
        ] {
            words.push(&Word { device: &device, kind, payload, retained: false, last_will, now });
        }
        let heard = read(&words.finish().expect("two words")).expect("as written");
        assert_eq!(heard.len(), 2);
        assert!(matches!(&heard[0].what, What::Response(said) if said.command_id.ends_with("01")));
        assert!(matches!(&heard[1].what, What::ServiceFailed(_)));
        assert!(heard.iter().all(|one| one.device == device && one.now.steady_ms == 17));
        assert!(Words::default().finish().is_none());
    }
}
