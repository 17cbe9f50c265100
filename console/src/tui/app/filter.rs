//! What is typed after `/`, made into the parameters of a listing.
//!
//! ```text
//! status:failed,timed_out device:pi-1 fw     words go to `q`
//! !type:ping type:~rst                       not this one; by letters in their order
//! site:fra1                                  of devices: a tag, where it is no column
//! seen:1m                                    a column that is not filtered by: refused
//! !word ~wrd "two words" "a:b"               as protocol/src/search.rs reads them
//! ```

use std::collections::BTreeMap;

use quarterdeck_protocol::{
    live::Listing,
    search::{self, Term},
};

/// Words that may stand for longer names of columns and statuses.
const SHORT_KEYS: [(&str, &str); 9] = [
    ("op", "type"),
    ("operation", "type"),
    ("by", "user"),
    ("batch", "batch_id"),
    ("error", "error_code"),
    ("tags", "tag"),
    ("agent", "agent_version"),
    ("health", "process_status"),
    ("id", "device"),
];
/// Columns of devices that the server does not filter by: to be taken for a tag they would have to
/// be one, and nothing would be found.
const UNFILTERED: [&str; 4] = ["open", "open_commands", "seen", "last_seen_at"];
const SHORT_STATUSES: [(&str, &str); 5] = [
    ("running", "execution_started"),
    ("rebooting", "awaiting_reconnect"),
    ("timeout", "timed_out"),
    ("blocked", "blocked_safety"),
    ("ok", "completed"),
];

/// The parameters by which a listing may be filtered.
pub const fn keys(listing: Listing) -> &'static [&'static str] {
    match listing {
        Listing::Devices => &[
            "status",
            "type",
            "tag",
            "device",
            "agent_version",
            "process_status",
            "service_failed",
            "crashed",
        ],
        Listing::Commands => &[
            "status",
            "type",
            "device",
            "user",
            "batch_id",
            "priority",
            "error_code",
            "from",
            "to",
            "id",
        ],
        Listing::Alerts => &["status", "severity", "kind", "device"],
        Listing::Audit => &["actor", "action", "object", "outcome", "from", "to"],
        Listing::Tunnels => &["device", "user", "status", "kind", "from", "to"],
        Listing::Recordings => &["device", "user", "status", "from", "to"],
        _ => &[],
    }
}

/// Parameters that take one value as it is, rather than names apart by commas.
fn is_single(key: &str) -> bool {
    matches!(key, "from" | "to" | "id" | "service_failed" | "crashed")
}

/// Whether a listing searches for words.
const fn takes_words(listing: Listing) -> bool {
    matches!(listing, Listing::Devices | Listing::Commands | Listing::Alerts)
}

/// Says why the server could not take a filter.
pub fn check(text: &str, listing: Listing) -> Result<(), String> {
    parse(text, listing).map(drop)
}

/// Makes the parameters of a filter that is typed; of a wrong one those before what is wrong.
pub fn parameters(text: &str, listing: Listing) -> BTreeMap<String, String> {
    parse(text, listing).unwrap_or_default()
}

/// The words that rows are searched for: what is marked in them.
pub fn wanted_words(text: &str, listing: Listing) -> Vec<Term> {
    let words = parameters(text, listing).remove("q").unwrap_or_default();
    let words = search::words(&words).unwrap_or_default();
    words.into_iter().filter(|word| !word.inverse).collect()
}

/// Makes the parameters, or says what of the text is wrong.
pub fn parse(text: &str, listing: Listing) -> Result<BTreeMap<String, String>, String> {
    let known = keys(listing).join(":, ");
    if known.is_empty() {
        return Err("this table has no filter".to_owned());
    }
    let mut filter: BTreeMap<String, String> = BTreeMap::new();
    let mut words: Vec<&str> = Vec::new();
    for piece in search::split(text, char::is_whitespace) {
        let (inverse, bare) = piece.strip_prefix('!').map_or((false, piece), |rest| (true, rest));
        let pair = bare.split_once(':').filter(|(key, _)| {
            !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c))
        });
        let Some((key, value)) = pair else {
            if !piece.is_empty() {
                words.push(piece);
            }
            continue;
        };
        let Some((key, value)) = column(key, value, inverse, listing)? else {
            return Err(format!(
                "there is no column {key:?} here; there are {known}: (or \"{bare}\" in quotes for the text)"
            ));
        };
        if value.is_empty() {
            return Err(format!("{key}: expected a value"));
        }
        if is_single(key) && filter.contains_key(key) {
            return Err(format!("{key}: expected once"));
        }
        let so_far = filter.entry(key.to_owned()).or_default();
        let comma = if so_far.is_empty() { "" } else { "," };
        *so_far = format!("{so_far}{comma}{value}");
    }
    if let Some(first) = words.first() {
        if !takes_words(listing) {
            return Err(format!("{first:?} is no filter here; there are {known}:"));
        }
        let words = words.join(" ");
        search::words(&words).map_err(|error| format!("words: {error}"))?;
        filter.insert("q".to_owned(), words);
    }
    Ok(filter)
}

/// A parameter of the listing and its value, in the server's words; `None` for a column that is not there.
fn column(
    key: &str,
    value: &str,
    inverse: bool,
    listing: Listing,
) -> Result<Option<(&'static str, String)>, String> {
    let own = |key: &str| keys(listing).iter().find(|known| **known == key).copied();
    let short = || SHORT_KEYS.iter().find(|(short, _)| *short == key).and_then(|(_, k)| own(k));
    let Some(found) = own(key).or_else(short) else {
        if listing != Listing::Devices {
            return Ok(None);
        }
        if UNFILTERED.contains(&key) {
            let known = keys(listing).join(":, ");
            return Err(format!(
                "there is no filter by {key:?}; there are {known}: and any tag \
                 (tag:{key}=... for one of that name)"
            ));
        }
        // Any other column of a device is a tag.
        let values = names(key, value, inverse)?;
        let pairs: Vec<_> = values.iter().map(|value| format!("{key}={value}")).collect();
        return Ok(Some(("tag", pairs.join(","))));
    };
    let value = match found {
        _ if is_single(found) && inverse => {
            return Err(format!("{found}: this one cannot be inverted with !"));
        }
        _ if is_single(found) || value.is_empty() => value.to_owned(),
        "tag" if inverse => search::split(value, |c| c == ',')
            .into_iter()
            .map(|pair| format!("!{pair}"))
            .collect::<Vec<_>>()
            .join(","),
        "tag" => value.to_owned(),
        _ => {
            let mut names = names(found, value, inverse)?;
            if found == "status" && listing == Listing::Commands {
                names.iter_mut().for_each(lengthen);
            }
            // As the column's sign says it.
            for name in names.iter_mut().filter(|name| name.text == "ok") {
                if found == "process_status" {
                    "running".clone_into(&mut name.text);
                }
            }
            names.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
        }
    };
    Ok(Some((found, value)))
}

fn names(key: &str, value: &str, inverse: bool) -> Result<Vec<Term>, String> {
    if value.is_empty() {
        return Err(format!("{key}: expected a value"));
    }
    let mut names = search::names(value).map_err(|error| format!("{key}: {error}"))?;
    for name in &mut names {
        name.inverse ^= inverse;
    }
    Ok(names)
}

fn lengthen(status: &mut Term) {
    if let Some((_, long)) = SHORT_STATUSES.iter().find(|(short, _)| *short == status.text) {
        (*long).clone_into(&mut status.text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, listing: Listing) -> Vec<String> {
        let filter = parse(text, listing).unwrap_or_else(|why| panic!("{text}: {why}"));
        filter.iter().map(|(k, v)| format!("{k}={v}")).collect()
    }

    #[test]
    fn words_and_pairs_become_parameters() {
        assert_eq!(
            shown("status:failed,running device:pi-1 fw up by:root", Listing::Commands),
            ["device=pi-1", "q=fw up", "status=failed,execution_started", "user=root"]
        );
    }

    #[test]
    fn an_inverse_pair_leaves_out_each_of_its_names() {
        assert_eq!(
            shown("!type:ping,reboot_host type:~rst !status:ok", Listing::Commands),
            ["status=!completed", "type=!ping,!reboot_host,~rst"]
        );
        assert_eq!(shown("!status:open", Listing::Alerts), ["status=!open"]);
        assert_eq!(shown("!actor:!ann", Listing::Audit), ["actor=ann"]);
    }

    #[test]
    fn words_keep_their_marks_for_the_server() {
        assert_eq!(
            shown("fw !test ~brdg \"a b\"", Listing::Commands),
            ["q=fw !test ~brdg \"a b\""]
        );
        let marked = wanted_words("fw !test ~brdg status:failed", Listing::Commands);
        assert_eq!(
            marked.iter().map(|word| word.text.as_str()).collect::<Vec<_>>(),
            ["fw", "brdg"]
        );
    }

    #[test]
    fn what_is_no_column_of_a_device_is_a_tag() {
        assert_eq!(
            shown("site:fra1 environment:production ~edge !rack:r1 tag:a=b", Listing::Devices),
            ["q=~edge", "tag=site=fra1,environment=production,rack=!r1,a=b"]
        );
        assert_eq!(shown("!tag:a=b,c=d", Listing::Devices), ["tag=!a=b,!c=d"]);
        assert_eq!(shown("site:\"new york\"", Listing::Devices), ["tag=site=\"new york\""]);
    }

    #[test]
    fn a_column_of_devices_that_is_not_filtered_by_is_no_tag() {
        for text in ["open:1", "!open_commands:1", "fw seen:1m", "last_seen_at:1m"] {
            let why = parse(text, Listing::Devices).expect_err(text);
            assert!(why.contains("no filter by") && why.contains("status:, type:"), "{why}");
        }
        assert_eq!(shown("tag:open=1", Listing::Devices), ["tag=open=1"]);
        assert_eq!(
            shown("health:ok,crashed", Listing::Devices),
            ["process_status=running,crashed"]
        );
        assert_eq!(shown("id:pi-1", Listing::Devices), ["device=pi-1"]);
    }

    #[test]
    fn a_column_that_is_not_there_is_named_with_those_that_are() {
        let why = parse("fw colour:red", Listing::Commands).expect_err("no such column");
        assert!(why.contains("\"colour\"") && why.contains("status:, type:"), "{why}");
        assert_eq!(shown("\"colour:red\" ::1", Listing::Commands), ["q=\"colour:red\" ::1"]);
    }

    #[test]
    fn a_filter_that_the_server_does_not_have_is_refused_before_it_is_sent() {
        for (text, listing, why) in [
            ("mallory", Listing::Audit, "is no filter here"),
            ("", Listing::Users, "no filter"),
            ("status:", Listing::Commands, "status: expected a value"),
            ("type:a,,b", Listing::Commands, "a name on each side"),
            ("site:", Listing::Devices, "site: expected a value"),
            ("!from:2026-01-01T00:00:00Z", Listing::Commands, "cannot be inverted"),
            ("from:a from:b", Listing::Commands, "from: expected once"),
            ("a b c d e f g h i", Listing::Commands, "at most 8 words"),
        ] {
            let said = parse(text, listing).expect_err(text);
            assert!(said.contains(why), "{text}: {said}");
        }
        assert_eq!(check("actor:mallory", Listing::Audit), Ok(()));
        assert_eq!(check("", Listing::Commands), Ok(()));
    }
}
