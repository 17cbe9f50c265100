//! What is typed after `/`, made into the parameters of a listing.
//!
//! ```text
//! status:failed,timed_out device:pi-1 fw     words go to `q`
//! !status:completed                          the inverse: every other status
//! site:fra1                                  of devices: a tag, where it is no column
//! !word ~wrd                                 inverse and fuzzy words, as the server reads them
//! ```

use std::collections::BTreeMap;

use quarterdeck_protocol::{command::CommandStatus, device::DeviceStatus, live::Listing};

/// Words that may stand for longer names of columns and statuses.
const SHORT_KEYS: [(&str, &str); 5] =
    [("op", "type"), ("operation", "type"), ("by", "user"), ("batch", "batch_id"), ("tags", "tag")];
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
        Listing::Devices => &["status", "type", "tag", "service_failed", "crashed", "id"],
        Listing::Commands => &["status", "type", "device", "user", "batch_id", "from", "to", "id"],
        Listing::Alerts => &["status", "severity", "kind", "device"],
        Listing::Audit => &["actor", "action", "object", "outcome", "from", "to"],
        _ => &[],
    }
}

/// Whether a listing searches for words.
const fn takes_words(listing: Listing) -> bool {
    matches!(listing, Listing::Devices | Listing::Commands | Listing::Alerts)
}

/// Says why the server could not take a filter.
pub fn check(text: &str, listing: Listing) -> Result<(), String> {
    if keys(listing).is_empty() {
        return Err("this table has no filter".to_owned());
    }
    if !takes_words(listing)
        && let Some(word) = parse(text, listing).get("q")
    {
        let known = keys(listing).join(":, ");
        return Err(format!("{word:?} is no filter here; there are {known}:"));
    }
    Ok(())
}

/// Makes the parameters. A `key:value` whose key the listing does not know is a word like any other.
pub fn parse(text: &str, listing: Listing) -> BTreeMap<String, String> {
    let mut filter: BTreeMap<String, String> = BTreeMap::new();
    let mut words: Vec<&str> = Vec::new();
    for word in text.split_whitespace() {
        let (inverse, bare) = word.strip_prefix('!').map_or((false, word), |rest| (true, rest));
        match bare.split_once(':').filter(|(_, v)| !v.is_empty()).and_then(|p| pair(p, listing)) {
            Some((key, value)) => {
                let value = match (inverse, key) {
                    (false, _) => value,
                    (true, "status") => other_statuses(&value, listing),
                    (true, _) => format!("!{value}"),
                };
                filter
                    .entry(key.to_owned())
                    .and_modify(|before| {
                        before.push(',');
                        before.push_str(&value);
                    })
                    .or_insert(value);
            }
            None => words.push(word),
        }
    }
    if !words.is_empty() {
        filter.insert("q".to_owned(), words.join(" "));
    }
    filter
}

/// A parameter of the listing and its value, in the server's words.
fn pair((key, value): (&str, &str), listing: Listing) -> Option<(&'static str, String)> {
    let own = |key: &str| keys(listing).iter().find(|known| **known == key).copied();
    let short = || SHORT_KEYS.iter().find(|(short, _)| *short == key).and_then(|(_, k)| own(k));
    let found = own(key).or_else(short);
    match found {
        Some("status") if listing == Listing::Commands => {
            let long = |name: &str| {
                let found = SHORT_STATUSES.iter().find(|(short, _)| *short == name);
                found.map_or_else(|| name.to_owned(), |(_, long)| (*long).to_owned())
            };
            Some(("status", value.split(',').map(long).collect::<Vec<_>>().join(",")))
        }
        Some(key) => Some((key, value.to_owned())),
        None if listing == Listing::Devices && !key.is_empty() => {
            Some(("tag", format!("{key}={value}")))
        }
        None => None,
    }
}

/// All statuses but these.
fn other_statuses(value: &str, listing: Listing) -> String {
    let all: Vec<&str> = match listing {
        Listing::Commands => CommandStatus::ALL.iter().map(|status| status.as_str()).collect(),
        Listing::Devices => DeviceStatus::ALL.iter().map(|status| status.as_str()).collect(),
        Listing::Alerts => vec!["open", "resolved"],
        _ => Vec::new(),
    };
    let given: Vec<&str> = value.split(',').collect();
    let others: Vec<&str> = all.into_iter().filter(|status| !given.contains(status)).collect();
    others.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, listing: Listing) -> Vec<String> {
        parse(text, listing).iter().map(|(k, v)| format!("{k}={v}")).collect()
    }

    #[test]
    fn words_and_pairs_become_parameters() {
        assert_eq!(
            shown("status:failed,running device:pi-1 fw up by:root", Listing::Commands),
            ["device=pi-1", "q=fw up", "status=failed,execution_started", "user=root"]
        );
    }

    #[test]
    fn what_is_no_column_of_a_device_is_a_tag() {
        assert_eq!(
            shown("site:fra1 environment:production ~edge", Listing::Devices),
            ["q=~edge", "tag=site=fra1,environment=production"]
        );
    }

    #[test]
    fn the_inverse_of_a_status_is_every_other_one() {
        assert_eq!(shown("!status:online,stale", Listing::Devices), ["status=offline,retired"]);
        assert_eq!(shown("!status:open", Listing::Alerts), ["status=resolved"]);
    }

    #[test]
    fn a_filter_that_the_server_does_not_have_is_refused_before_it_is_sent() {
        assert!(check("mallory", Listing::Audit).is_err());
        assert!(check("actor:mallory", Listing::Audit).is_ok());
        assert!(check("", Listing::Users).is_err());
    }
}
