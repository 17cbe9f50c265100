//! Queries of listings: filters, sorts, limits and cursors. The first line names the listing.

use quarterdeck_server::fuzz::http_query;

pub(super) fn run(input: &[u8]) {
    let Some((listing, query)) = super::chosen(input) else { return };
    let Ok(query) = std::str::from_utf8(query) else { return };
    match http_query(listing, query) {
        Ok(statements) => {
            for (text, values) in statements {
                assert_eq!(placeholders(&text), values, "{text}");
            }
        }
        // One that is no query at all names no field.
        Err(error) if error.code == "bad_query" => assert_eq!(error.status.as_u16(), 400),
        Err(error) => {
            assert_eq!(error.status.as_u16(), 422, "{error:?}");
            assert!(error.field.is_some(), "{error:?}");
        }
    }
}

/// Counts `$1`, `$2`, … and checks that they rise by one: nothing of the query may be among them.
fn placeholders(sql: &str) -> usize {
    let mut count = 0;
    for part in sql.split('$').skip(1) {
        count += 1;
        let digits = part.len() - part.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        assert_eq!(part[..digits].parse(), Ok(count), "{sql}");
    }
    count
}
