//! What is typed after `/`, made into the parameters of a listing.
//!
//! ```text
//! status:failed,timed_out device:pi-1 fw     words go to `q`
//! !status:completed   !word                  the inverse
//! ~wrd                                       fuzzy
//! ```

use std::collections::BTreeMap;

use quarterdeck_protocol::live::Listing;

/// Words that may stand for longer names of columns and statuses.
const SHORT_KEYS: [(&str, &str); 5] = [
    ("op", "type"),
    ("operation", "type"),
    ("by", "user"),
    ("batch", "batch_id"),
    ("kind", "type"),
];
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
        Listing::Devices => {
            &["status", "type", "tag", "site", "id", "crashed", "service_failed", "version"]
        }
        Listing::Commands => &["status", "type", "device", "user", "batch_id", "from", "to", "id"],
        Listing::Alerts => &["status", "severity", "kind", "device"],
        Listing::Audit => &["actor", "action", "object", "outcome", "from", "to"],
        _ => &[],
    }
}

/// Makes the parameters. A `key:value` whose key the listing does not know is a word like any other.
pub fn parse(text: &str, listing: Listing) -> BTreeMap<String, String> {
    let mut filter: BTreeMap<String, String> = BTreeMap::new();
    let mut words: Vec<&str> = Vec::new();
    for word in text.split_whitespace() {
        let (inverse, bare) = word.strip_prefix('!').map_or((false, word), |rest| (true, rest));
        let pair = bare.split_once(':').filter(|(_, value)| !value.is_empty());
        let known = pair.and_then(|(key, value)| {
            let own = keys(listing).iter().find(|known| **known == key);
            let key = own.copied().or_else(|| {
                SHORT_KEYS
                    .iter()
                    .find(|(short, long)| *short == key && keys(listing).contains(long))
                    .map(|(_, long)| *long)
            })?;
            Some((key, value))
        });
        match known {
            Some((key, value)) => {
                let value = if key == "status" { statuses(value, listing) } else { value.into() };
                let value = if inverse { format!("!{value}") } else { value };
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

fn statuses(value: &str, listing: Listing) -> String {
    if listing != Listing::Commands {
        return value.to_owned();
    }
    let long = |name: &str| {
        SHORT_STATUSES
            .iter()
            .find(|(short, _)| *short == name)
            .map_or_else(|| name.to_owned(), |(_, long)| (*long).to_owned())
    };
    value.split(',').map(long).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_pairs_become_parameters() {
        let filter = parse("status:failed,running device:pi-1 fw up !by:root", Listing::Commands);
        let shown: Vec<_> = filter.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(
            shown,
            ["device=pi-1", "q=fw up", "status=failed,execution_started", "user=!root"]
        );
    }

    #[test]
    fn what_is_no_parameter_is_searched_for() {
        let filter = parse("~edge colour:red status:", Listing::Devices);
        assert_eq!(filter["q"], "~edge colour:red status:");
        assert!(parse("   ", Listing::Devices).is_empty());
    }
}
