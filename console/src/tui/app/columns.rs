//! The columns of the tables: what they are called, how wide, what goes first.

use crate::tui::store::WindowKey;

/// How wide a column is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Width {
    Fixed(u16),
    /// At least so much; what is left over is shared by weight.
    Flex {
        least: u16,
        most: u16,
        weight: u16,
    },
}

/// A column of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    pub id: &'static str,
    pub title: &'static str,
    pub width: Width,
    /// The higher, the sooner it is left out; 0 never.
    pub rank: u8,
    pub right: bool,
    /// It holds names that must be told apart: it gets the room that they need before others get more.
    pub names: bool,
    /// What to sort by on the server; not at all when `None`.
    pub sort: Option<&'static str>,
}

const fn fixed(id: &'static str, title: &'static str, width: u16, rank: u8) -> Column {
    let width = Width::Fixed(width);
    Column { id, title, width, rank, right: false, names: false, sort: Some(id) }
}

const fn flex(
    id: &'static str,
    title: &'static str,
    (least, most, weight): (u16, u16, u16),
    rank: u8,
) -> Column {
    let width = Width::Flex { least, most, weight };
    Column { id, title, width, rank, right: false, names: false, sort: Some(id) }
}

impl Column {
    const fn right(self) -> Self {
        Self { right: true, ..self }
    }

    const fn by(self, sort: &'static str) -> Self {
        Self { sort: Some(sort), ..self }
    }

    const fn names(self) -> Self {
        Self { names: true, ..self }
    }

    const fn unsorted(self) -> Self {
        Self { sort: None, ..self }
    }
}

/// A device's id of the greatest length, behind the sign of its state.
const NAME_MOST: u16 = 66;
/// So much of a column of names is handed out by weight, as of any other; more only to names that
/// need it.
const NAME_USUAL: u16 = 32;

const DEVICES: &[Column] = &[
    flex("id", "DEVICE", (14, NAME_MOST, 4), 0).names(),
    fixed("status", "STATUS", 9, 0),
    flex("type", "TYPE", (12, 20, 2), 4),
    flex("site", "SITE", (6, 14, 1), 3).names(),
    flex("tags", "TAGS", (26, 60, 4), 6),
    flex("health", "HEALTH", (10, 34, 5), 2).by("process_status"),
    fixed("open_commands", "OPEN", 4, 5).right(),
    flex("agent_version", "AGENT", (8, 12, 1), 5),
    fixed("last_seen_at", "SEEN", 5, 1).right(),
];

const COMMANDS: &[Column] = &[
    flex("type", "COMMAND", (13, 26, 2), 0),
    flex("device_id", "DEVICE", (14, NAME_MOST, 3), 0).names(),
    flex("status", "STATUS", (13, 26, 4), 0),
    flex("state", "STATE", (10, 18, 1), 5),
    flex("detail", "DETAIL", (26, 70, 5), 4),
    flex("created_by", "BY", (8, 24, 2), 3),
    fixed("id", "ID", 8, 6),
    fixed("priority", "PRI", 3, 7).right(),
    fixed("created_at", "AGE", 5, 1).right(),
    fixed("duration", "TOOK", 7, 2).right(),
];

const ALERTS: &[Column] = &[
    fixed("severity", "SEVERITY", 11, 0),
    flex("cause", "CAUSE", (32, 120, 8), 0),
    flex("device", "DEVICE", (16, NAME_MOST, 3), 3).by("device_id").names(),
    flex("kind", "KIND", (10, 18, 1), 5),
    fixed("count", "COUNT", 5, 4).right(),
    fixed("first_seen_at", "SINCE", 5, 2).right(),
    fixed("last_seen_at", "LAST", 5, 1).right(),
    flex("state", "STATE", (12, 22, 2), 1).unsorted(),
];

const AUDIT: &[Column] = &[
    fixed("seq", "SEQ", 7, 3).right(),
    fixed("at", "TIME", 19, 1),
    flex("actor", "WHO", (8, 40, 4), 0),
    flex("action", "WHAT", (14, 30, 2), 0),
    flex("object", "ON WHAT", (12, 60, 4), 2),
    fixed("outcome", "OUTCOME", 9, 1),
    flex("from", "FROM", (9, 24, 1), 4),
    flex("detail", "DETAIL", (10, 60, 3), 6).unsorted(),
];

const USERS: &[Column] = &[
    flex("username", "USER", (10, 30, 2), 0),
    fixed("state", "STATE", 10, 0).unsorted(),
    flex("roles", "ROLES BY PROJECT", (12, 70, 5), 1).unsorted(),
    fixed("last_login_at", "LOGIN", 5, 2).right(),
    fixed("created_at", "SINCE", 5, 3).right(),
];

const MEMBERS: &[Column] =
    &[flex("username", "MEMBER", (10, 40, 2), 0), flex("role", "ROLE", (10, 20, 1), 0)];

const PROJECTS: &[Column] = &[
    flex("id", "PROJECT", (10, 40, 2), 0),
    flex("name", "NAME", (10, 60, 3), 2),
    fixed("role", "YOUR ROLE", 10, 1).unsorted(),
    fixed("created_at", "SINCE", 5, 3).right(),
];

const TOKENS: &[Column] = &[
    fixed("id", "ID", 8, 0),
    fixed("state", "STATE", 10, 0).unsorted(),
    fixed("used", "USED", 9, 1).right().unsorted(),
    fixed("expires_at", "EXPIRES", 8, 1).right(),
    flex("tags", "TAGS", (10, 60, 4), 3).unsorted(),
    flex("created_by", "BY", (8, 20, 1), 2),
    fixed("created_at", "SINCE", 5, 4).right(),
];

const TIMELINE: &[Column] = &[
    fixed("at", "TIME", 8, 0).unsorted(),
    flex("event", "EVENT", (12, 22, 1), 0).unsorted(),
    flex("by", "BY", (8, 40, 4), 2).unsorted(),
    flex("detail", "DETAIL", (12, 200, 8), 1).unsorted(),
];

const OPEN_ALERTS: &[Column] = &[
    fixed("severity", "SEVERITY", 11, 0),
    flex("cause", "CAUSE", (16, 200, 8), 0),
    fixed("first_seen_at", "SINCE", 5, 1).right(),
    flex("state", "STATE", (14, 22, 1), 2).unsorted(),
];

const DEVICE_COMMANDS: &[Column] = &[
    flex("type", "COMMAND", (14, 30, 3), 0),
    flex("status", "STATUS", (13, 26, 4), 0),
    flex("detail", "DETAIL", (20, 60, 4), 4),
    flex("created_by", "BY", (8, 24, 2), 3),
    fixed("id", "ID", 8, 5),
    fixed("created_at", "AGE", 5, 1).right(),
    fixed("duration", "TOOK", 7, 2).right(),
];

const WIZARD_DEVICES: &[Column] = &[
    flex("id", "DEVICE", (12, NAME_MOST, 4), 0).names(),
    fixed("status", "STATUS", 9, 0),
    flex("type", "TYPE", (12, 20, 2), 3),
    flex("site", "SITE", (6, 14, 1), 2).names(),
    flex("tags", "TAGS", (12, 60, 4), 4),
    fixed("last_seen_at", "SEEN", 5, 1).right(),
];

const TUNNELS: &[Column] = &[
    flex("device_id", "DEVICE", (14, NAME_MOST, 4), 0).names(),
    fixed("status", "STATUS", 9, 0),
    fixed("kind", "KIND", 12, 3),
    flex("user", "USER", (6, 20, 2), 1),
    fixed("bytes_up", "UP", 7, 5).right(),
    fixed("bytes_down", "DOWN", 7, 3).right(),
    fixed("attached", "SEEN BY", 7, 6).right().unsorted(),
    fixed("created_at", "AGE", 5, 2).right(),
    fixed("duration", "LASTED", 8, 2).right().unsorted(),
    fixed("recorded", "REC", 3, 4).unsorted(),
    flex("close_reason", "ENDED", (10, 40, 3), 1).unsorted(),
];

const RECORDINGS: &[Column] = &[
    flex("device_id", "DEVICE", (14, NAME_MOST, 4), 0).names(),
    flex("user", "USER", (6, 20, 2), 0),
    fixed("status", "STATUS", 12, 1),
    flex("program", "PROGRAM", (7, 40, 2), 3).unsorted(),
    fixed("bytes", "SIZE", 7, 2).right(),
    fixed("started_at", "AGE", 5, 1).right(),
    fixed("duration", "LASTED", 8, 1).right().unsorted(),
    fixed("input", "KEYS", 4, 5).unsorted(),
    fixed("expires_at", "KEPT", 6, 4).right().unsorted(),
];

/// The columns of a table, in their order on the screen.
pub const fn columns(key: WindowKey) -> &'static [Column] {
    match key {
        WindowKey::Devices => DEVICES,
        WindowKey::WizardDevices => WIZARD_DEVICES,
        WindowKey::Commands => COMMANDS,
        WindowKey::DeviceCommands => DEVICE_COMMANDS,
        WindowKey::Alerts => ALERTS,
        WindowKey::OpenAlerts => OPEN_ALERTS,
        WindowKey::Audit => AUDIT,
        WindowKey::Users => USERS,
        WindowKey::Members => MEMBERS,
        WindowKey::Projects => PROJECTS,
        WindowKey::Tokens => TOKENS,
        WindowKey::Tunnels => TUNNELS,
        WindowKey::Recordings => RECORDINGS,
        WindowKey::DeviceTimeline | WindowKey::CommandTimeline => TIMELINE,
        WindowKey::Overview
        | WindowKey::HandoverAlerts
        | WindowKey::HandoverFailures
        | WindowKey::DeviceRow
        | WindowKey::CommandRow
        | WindowKey::CommandOutput
        | WindowKey::PeekOutput
        | WindowKey::OpenTunnels
        | WindowKey::Operations => &[],
    }
}

/// What a column of a table is sorted by on the server; `None` where the server has one order.
pub fn sort_of(key: WindowKey, column: &Column) -> Option<&'static str> {
    match key {
        WindowKey::Users | WindowKey::Members | WindowKey::Projects | WindowKey::Tokens => None,
        WindowKey::Audit => column.sort.filter(|by| matches!(*by, "seq" | "at")),
        _ => column.sort,
    }
}

/// What the operator calls the rows of a table.
pub const fn noun(key: WindowKey) -> &'static str {
    match key {
        WindowKey::Devices | WindowKey::WizardDevices | WindowKey::DeviceRow => "device",
        WindowKey::Commands | WindowKey::DeviceCommands | WindowKey::CommandRow => "command",
        WindowKey::Alerts | WindowKey::OpenAlerts => "alert",
        WindowKey::Audit => "audit entry",
        WindowKey::Users => "user",
        WindowKey::Members => "member",
        WindowKey::Projects => "project",
        WindowKey::Tokens => "token",
        WindowKey::Tunnels | WindowKey::OpenTunnels => "tunnel",
        WindowKey::Recordings => "recording",
        WindowKey::DeviceTimeline | WindowKey::CommandTimeline => "event",
        WindowKey::Overview
        | WindowKey::HandoverAlerts
        | WindowKey::HandoverFailures
        | WindowKey::CommandOutput
        | WindowKey::PeekOutput
        | WindowKey::Operations => "row",
    }
}

/// From this rank on a column is only good to have.
const GOOD_TO_HAVE: u8 = 5;

/// The columns that fit, and where each begins and how wide it is; one column between two.
/// `names` is how wide the widest name is that was seen in a column.
pub fn fit(
    columns: &[Column],
    hidden: impl Fn(&str) -> bool,
    width: u16,
    names: impl Fn(&str) -> u16,
) -> Vec<(Column, u16, u16)> {
    const GAP: u16 = 2;
    let least = |column: &Column| match column.width {
        Width::Fixed(n) => n,
        Width::Flex { least, .. } => least,
    };
    let mut kept: Vec<Column> =
        columns.iter().copied().filter(|column| column.rank == 0 || !hidden(column.id)).collect();
    let needed =
        |kept: &[Column]| kept.iter().map(|c| least(c) + GAP).sum::<u16>().saturating_sub(GAP);
    // What is good to have goes before the others get tight.
    let comfortable = |kept: &[Column]| {
        let each = |column: &Column| match column.width {
            Width::Fixed(n) => n,
            Width::Flex { least, most, .. } => (least + least / 2).min(most),
        };
        kept.iter().map(|c| each(c) + GAP).sum::<u16>().saturating_sub(GAP)
    };
    while comfortable(&kept) > width
        && let Some(rank) = kept.iter().map(|c| c.rank).max().filter(|rank| *rank >= GOOD_TO_HAVE)
        && let Some(at) = kept.iter().rposition(|c| c.rank == rank)
    {
        kept.remove(at);
    }
    while needed(&kept) > width {
        let Some(rank) = kept.iter().map(|c| c.rank).max().filter(|rank| *rank > 0) else { break };
        let at = kept.iter().rposition(|c| c.rank == rank).expect("a column has the highest rank");
        kept.remove(at);
    }
    let mut widths: Vec<u16> = kept.iter().map(least).collect();
    let mut spare = width.saturating_sub(needed(&kept));
    // Names first: what cannot be told apart cannot be acted on.
    for (at, column) in kept.iter().enumerate().filter(|(_, column)| column.names) {
        let Width::Flex { most, .. } = column.width else { continue };
        let more = names(column.id).min(most).saturating_sub(widths[at]).min(spare);
        widths[at] += more;
        spare -= more;
    }
    // Hand out what is left by weight, a round at a time, until all are as wide as they go.
    while spare > 0 {
        let mut given = 0;
        for (at, column) in kept.iter().enumerate() {
            let Width::Flex { most, weight, .. } = column.width else { continue };
            let most = if column.names { most.min(NAME_USUAL) } else { most };
            let more = weight.min(most.saturating_sub(widths[at])).min(spare - given);
            widths[at] += more;
            given += more;
        }
        if given == 0 {
            break;
        }
        spare -= given;
    }
    // Too narrow for even the columns that always stay: the widest give first, from the left.
    let room = width.saturating_sub(GAP * (widths.len() as u16).saturating_sub(1));
    while widths.iter().sum::<u16>() > room {
        let widest = widths.iter().max().copied().unwrap_or(0);
        let Some(at) = widths.iter().position(|w| *w == widest).filter(|_| widest > 0) else {
            break;
        };
        widths[at] -= 1;
    }
    let mut x = 0;
    kept.into_iter()
        .zip(widths)
        .map(|(column, width)| {
            let placed = (column, x, width);
            x += width + GAP;
            placed
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_drop_by_rank_and_never_overlap() {
        for key in [WindowKey::Devices, WindowKey::Commands, WindowKey::Audit, WindowKey::Alerts] {
            let mut last = 0;
            for width in 0..260 {
                let placed = fit(columns(key), |_| false, width, |_| 24);
                for pair in placed.windows(2) {
                    assert!(pair[0].1 + pair[0].2 < pair[1].1);
                }
                let end = placed.last().map_or(0, |(_, x, w)| x + w);
                assert!(end <= width || width < 24, "{key:?} at {width}: {end}");
                assert!(placed.len() >= last);
                last = placed.len();
            }
            assert_eq!(last, columns(key).len());
        }
    }

    #[test]
    fn names_get_the_room_that_they_need_before_others_get_more() {
        let device = |width, names| {
            let placed = fit(columns(WindowKey::Commands), |_| false, width, |_| names);
            placed.iter().find(|(column, ..)| column.names).expect("it always stays").2
        };
        assert_eq!(device(116, 30), 30);
        assert_eq!(device(196, 66), 66);
        // No more than they need, nor than there is.
        assert_eq!(device(116, 10), device(116, 0));
        assert!(device(76, 66) >= 20, "{}", device(76, 66));
    }
}
