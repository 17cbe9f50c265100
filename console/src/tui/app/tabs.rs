//! The tabs of the screens that have some.

macro_rules! tabs {
    ($(#[$doc:meta])* $name:ident { $first:ident = $title:literal $(, $tab:ident = $other:literal)+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub enum $name {
            #[default]
            $first,
            $($tab),+
        }

        impl $name {
            pub const ALL: &[Self] = &[Self::$first, $(Self::$tab),+];
            pub const TITLES: &[&str] = &[$title, $($other),+];

            pub fn index(self) -> usize {
                Self::ALL.iter().position(|tab| *tab == self).unwrap_or(0)
            }

            /// The tab that is `by` further, round and round.
            #[must_use]
            pub fn step(self, by: isize) -> Self {
                let n = Self::ALL.len() as isize;
                let at = (self.index() as isize + by).rem_euclid(n);
                Self::ALL[at as usize]
            }
        }
    };
}

tabs!(
    /// Of a device.
    DeviceTab { Overview = "Overview", Health = "Health", Commands = "Commands", Timeline = "Timeline" }
);

tabs!(
    /// Of a command.
    CommandTab {
        Overview = "Overview",
        Payload = "Payload",
        Response = "Response",
        Logs = "Logs",
        Timeline = "Timeline",
    }
);

tabs!(
    /// Of the people screen.
    UsersTab { Users = "Users", Members = "Members", Projects = "Projects", Tokens = "Enrolment tokens" }
);

/// Which tab each screen shows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tabs {
    pub device: DeviceTab,
    pub command: CommandTab,
    pub users: UsersTab,
}
