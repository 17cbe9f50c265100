//! The tabs: which is shown, and where a new pane goes by itself.

use ratatui::layout::Rect;

use super::{PaneId, Refused, SPLIT_MIN, Split, Tab};

/// The most tabs.
pub const TABS_MAX: usize = 9;
/// A pane that is put somewhere by itself should have so much, where one can choose: two of it and
/// a border are split.
const COLUMNS_GOOD: u16 = 50;
const ROWS_GOOD: u16 = 12;
/// Two share a screen of so many columns when they are wanted side by side.
const PAIR_MIN_COLUMNS: u16 = 80;

/// All tabs. There is always one, with a pane in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tabs {
    tabs: Vec<Tab>,
    shown: usize,
}

impl Tabs {
    pub fn new(pane: PaneId) -> Self {
        Self { tabs: vec![Tab::new(pane)], shown: 0 }
    }

    pub fn tabs(&self) -> &[Tab] {
        &self.tabs
    }

    /// Which tab is shown.
    pub const fn shown(&self) -> usize {
        self.shown
    }

    pub fn tab(&self) -> &Tab {
        &self.tabs[self.shown]
    }

    pub fn tab_mut(&mut self) -> &mut Tab {
        &mut self.tabs[self.shown]
    }

    /// Opens a tab after the one that is shown, and goes to it.
    pub fn open(&mut self, pane: PaneId) -> Result<(), Refused> {
        if self.tabs.len() >= TABS_MAX {
            return Err(Refused::TooManyTabs);
        }
        self.shown += 1;
        self.tabs.insert(self.shown, Tab::new(pane));
        Ok(())
    }

    /// Puts a pane where there is room for it: beside the one in focus, below it, else into a tab
    /// of its own. `area` is what a tab has.
    pub fn add(&mut self, pane: PaneId, area: Rect) -> Result<(), Refused> {
        self.put(pane, area, false)
    }

    /// The same for one of several that are wanted side by side: two share a screen also where
    /// each has less than is good.
    pub fn add_beside(&mut self, pane: PaneId, area: Rect) -> Result<(), Refused> {
        self.put(pane, area, true)
    }

    fn put(&mut self, pane: PaneId, area: Rect, is_beside: bool) -> Result<(), Refused> {
        let tab = self.tab_mut();
        if tab.is_synchronised {
            return self.open(pane);
        }
        let focus = tab.focus();
        let mut places = Vec::new();
        tab.root.place(area, &mut places);
        let room = places.iter().find(|place| place.pane == focus).map(|place| place.area);
        let how = room.and_then(|room| {
            if room.width > 2 * COLUMNS_GOOD {
                Some(Split::Columns)
            } else if room.height > 2 * ROWS_GOOD {
                Some(Split::Rows)
            } else {
                let is_enough = room.width >= PAIR_MIN_COLUMNS && room.height >= SPLIT_MIN.1;
                (is_beside && is_enough && places.len() == 1).then_some(Split::Columns)
            }
        });
        match how {
            Some(how) if tab.split(how, pane).is_ok() => Ok(()),
            _ => self.open(pane),
        }
    }

    /// Gives a pane a name that no other has or had.
    pub fn rename(&mut self, pane: PaneId, new: PaneId) {
        if let Some(tab) = self.tabs.iter_mut().find(|tab| tab.root.contains(pane)) {
            tab.rename(pane, new);
        }
    }

    /// Goes to a pane, in whichever tab it is.
    pub fn go_to_pane(&mut self, pane: PaneId) {
        if let Some(at) = self.tabs.iter().position(|tab| tab.root.contains(pane)) {
            self.shown = at;
            self.tabs[at].focus_pane(pane);
        }
    }

    /// Goes to a tab, if there is one of that number.
    pub fn go_to(&mut self, tab: usize) {
        if tab < self.tabs.len() {
            self.shown = tab;
        }
    }

    pub fn next(&mut self) {
        self.shown = (self.shown + 1) % self.tabs.len();
    }

    pub fn previous(&mut self) {
        self.shown = (self.shown + self.tabs.len() - 1) % self.tabs.len();
    }

    /// Closes a pane wherever it is, and its tab with the last one; `false` when it was the
    /// very last, which stays: the panes are then to be left.
    pub fn close(&mut self, pane: PaneId) -> bool {
        let Some(at) = self.tabs.iter().position(|tab| tab.root.contains(pane)) else {
            return true;
        };
        if self.tabs[at].close(pane) {
            return true;
        }
        if self.tabs.len() == 1 {
            return false;
        }
        self.tabs.remove(at);
        if self.shown > at || self.shown == self.tabs.len() {
            self.shown -= 1;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tabs_open_after_the_shown_one_and_close_with_their_last_pane() {
        let mut tabs = Tabs::new(PaneId(1));
        tabs.open(PaneId(2)).expect("room");
        tabs.previous();
        tabs.open(PaneId(3)).expect("room");
        let order: Vec<_> = tabs.tabs().iter().map(Tab::focus).collect();
        assert_eq!((order, tabs.shown()), (vec![PaneId(1), PaneId(3), PaneId(2)], 1));
        assert!(tabs.close(PaneId(1)));
        assert_eq!(tabs.tab().focus(), PaneId(3));
        assert!(tabs.close(PaneId(2)));
        assert!(!tabs.close(PaneId(3)));
        for n in 10..10 + TABS_MAX as u32 - 1 {
            tabs.open(PaneId(n)).expect("room");
        }
        assert_eq!(tabs.open(PaneId(99)), Err(Refused::TooManyTabs));
    }

    #[test]
    fn a_pane_goes_where_there_is_room() {
        let area = Rect { x: 0, y: 0, width: 120, height: 30 };
        let mut tabs = Tabs::new(PaneId(0));
        for n in 1..=4 {
            tabs.add(PaneId(n), area).expect("room");
        }
        // Side by side, one below, then no more room: a tab, where it begins anew.
        let shapes: Vec<_> = tabs.tabs().iter().map(|tab| tab.panes().len()).collect();
        assert_eq!(shapes, [3, 2]);
        assert_eq!((tabs.shown(), tabs.tab().focus()), (1, PaneId(4)));
        tabs.go_to_pane(PaneId(1));
        assert_eq!((tabs.shown(), tabs.tab().focus()), (0, PaneId(1)));
        let tabs_of = |panes, width, height| {
            let mut tabs = Tabs::new(PaneId(0));
            for n in 1..panes {
                tabs.add_beside(PaneId(n), Rect { width, height, ..area }).expect("room");
            }
            tabs.tabs().len()
        };
        // Those that are wanted side by side are, on a terminal of 80x24 too, but no more than two.
        assert_eq!(tabs_of(2, 80, 22), 1);
        assert_eq!(tabs_of(3, 80, 22), 2);
        assert_eq!(tabs_of(2, PAIR_MIN_COLUMNS - 1, 22), 2);
        assert_eq!(tabs_of(2, 80, SPLIT_MIN.1 - 1), 2);
        let mut tabs = Tabs::new(PaneId(0));
        tabs.add(PaneId(1), Rect { width: 80, height: 22, ..area }).expect("room");
        assert_eq!(tabs.tabs().len(), 2, "one that is joined keeps its width");
    }

    #[test]
    fn keys_for_all_reach_no_pane_that_joins_later() {
        let area = Rect { x: 0, y: 0, width: 200, height: 60 };
        let mut tabs = Tabs::new(PaneId(0));
        tabs.add(PaneId(1), area).expect("room");
        tabs.tab_mut().is_synchronised = true;
        tabs.add(PaneId(2), area).expect("a tab");
        assert_eq!((tabs.tabs().len(), tabs.tab().receivers()), (2, vec![PaneId(2)]));
        tabs.go_to_pane(PaneId(0));
        assert!(tabs.close(PaneId(1)) && !tabs.tab().is_synchronised);
    }
}
