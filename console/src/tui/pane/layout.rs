//! How panes share the screen: tabs, each a tree of splits.
//!
//! ```text
//!   Tabs ─ Tab ─ Node::Split(Columns) ─┬─ Pane 1
//!                                      └─ Node::Split(Rows) ─┬─ Pane 2
//!                                                            └─ Pane 3
//! ```
//!
//! Pure: commands in, rectangles out. The children of a split share its length
//! by weight, with one cell between two for the border. A pane that has no room
//! left gets none; nothing is lost, it shows again when there is.

mod tabs;
mod tree;

use ratatui::layout::Rect;

pub use self::tabs::{TABS_MAX, Tabs};
use self::tree::Node;

/// Below this one pane is seen at a time: columns, rows.
pub const SPLIT_MIN: (u16, u16) = (60, 14);
/// The most panes of a tab.
pub const PANES_MAX: usize = 16;

/// Names a pane and its session: with another session it has another name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PaneId(pub u32);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Split {
    /// Side by side.
    Columns,
    /// One above the other.
    Rows,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    Left,
    Right,
    Up,
    Down,
}

impl Direction {
    const fn split(self) -> Split {
        match self {
            Self::Left | Self::Right => Split::Columns,
            Self::Up | Self::Down => Split::Rows,
        }
    }

    const fn is_forward(self) -> bool {
        matches!(self, Self::Right | Self::Down)
    }
}

/// Why a command did nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("a tab holds at most {PANES_MAX} panes: open another tab")]
    TooManyPanes,
    #[error("there are at most {TABS_MAX} tabs: close one")]
    TooManyTabs,
}

/// One tab.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tab {
    root: Node,
    focus: PaneId,
    pub is_zoomed: bool,
    /// What is typed goes to all its panes.
    pub is_synchronised: bool,
}

/// A pane and where it is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub pane: PaneId,
    pub area: Rect,
}

impl Tab {
    pub const fn new(pane: PaneId) -> Self {
        Self { root: Node::Pane(pane), focus: pane, is_zoomed: false, is_synchronised: false }
    }

    /// The pane that has the keyboard.
    pub const fn focus(&self) -> PaneId {
        self.focus
    }

    /// All panes, from left to right and top to bottom.
    pub fn panes(&self) -> Vec<PaneId> {
        let mut panes = Vec::new();
        self.root.collect(&mut panes);
        panes
    }

    /// Whom a key goes to.
    pub fn receivers(&self) -> Vec<PaneId> {
        if self.is_synchronised { self.panes() } else { vec![self.focus] }
    }

    /// Where the visible panes are, within `area`.
    pub fn places(&self, area: Rect) -> Vec<Place> {
        if self.is_zoomed {
            return vec![Place { pane: self.focus, area }];
        }
        let mut places = Vec::new();
        self.root.place(area, &mut places);
        places
    }

    /// Puts a new pane beside the one in focus, and goes to it.
    pub fn split(&mut self, split: Split, new: PaneId) -> Result<(), Refused> {
        if self.panes().len() >= PANES_MAX {
            return Err(Refused::TooManyPanes);
        }
        self.root.split(self.focus, split, new);
        self.focus = new;
        self.is_zoomed = false;
        Ok(())
    }

    /// Gives a pane another name.
    fn rename(&mut self, pane: PaneId, new: PaneId) {
        self.root.swap(pane, new);
        if self.focus == pane {
            self.focus = new;
        }
    }

    /// Takes a pane away; `false` when it was the last one, which stays.
    pub fn close(&mut self, pane: PaneId) -> bool {
        let panes = self.panes();
        let Some(at) = panes.iter().position(|other| *other == pane) else { return true };
        if panes.len() == 1 {
            return false;
        }
        self.root.remove(pane);
        // What joins later is not to get keys that nobody meant for it.
        self.is_synchronised &= panes.len() > 2;
        if self.focus == pane {
            let next = if at + 1 < panes.len() { at + 1 } else { at - 1 };
            self.focus = panes[next];
            self.is_zoomed = false;
        }
        true
    }

    /// Goes to a pane, for a click.
    pub fn focus_pane(&mut self, pane: PaneId) {
        if self.panes().contains(&pane) {
            self.is_zoomed &= self.focus == pane;
            self.focus = pane;
        }
    }

    pub fn focus_next(&mut self) {
        let panes = self.panes();
        let at = panes.iter().position(|pane| *pane == self.focus).unwrap_or(0);
        self.focus_pane(panes[(at + 1) % panes.len()]);
    }

    /// Goes to the neighbour on that side, if there is one.
    pub fn focus_towards(&mut self, direction: Direction, area: Rect) {
        if let Some(pane) = self.neighbour(direction, area) {
            self.focus_pane(pane);
        }
    }

    /// Changes places with the neighbour on that side.
    pub fn swap_towards(&mut self, direction: Direction, area: Rect) {
        if let Some(pane) = self.neighbour(direction, area) {
            self.root.swap(self.focus, pane);
        }
    }

    /// Moves the nearest border that runs across the direction, towards it.
    pub fn resize(&mut self, direction: Direction) {
        self.root.resize(self.focus, direction);
    }

    /// The pane next to the one in focus, the one that has most of the border; of the whole
    /// layout, also while one is zoomed.
    fn neighbour(&self, direction: Direction, area: Rect) -> Option<PaneId> {
        let mut places = Vec::new();
        self.root.place(area, &mut places);
        let from = places.iter().find(|place| place.pane == self.focus)?.area;
        places
            .iter()
            .filter(|place| place.pane != self.focus)
            .filter_map(|place| {
                let to = place.area;
                let is_beside = match direction {
                    Direction::Left => to.right() + 1 == from.x,
                    Direction::Right => from.right() + 1 == to.x,
                    Direction::Up => to.bottom() + 1 == from.y,
                    Direction::Down => from.bottom() + 1 == to.y,
                };
                let shared = match direction.split() {
                    Split::Columns => overlap((from.y, from.bottom()), (to.y, to.bottom())),
                    Split::Rows => overlap((from.x, from.right()), (to.x, to.right())),
                };
                (is_beside && shared > 0).then_some((shared, place.pane))
            })
            .max_by_key(|(shared, pane)| (*shared, std::cmp::Reverse(*pane)))
            .map(|(_, pane)| pane)
    }
}

fn overlap(a: (u16, u16), b: (u16, u16)) -> u16 {
    a.1.min(b.1).saturating_sub(a.0.max(b.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const AREA: Rect = Rect { x: 0, y: 0, width: 81, height: 25 };

    fn three() -> Tab {
        let mut tab = Tab::new(PaneId(1));
        tab.split(Split::Columns, PaneId(2)).expect("room");
        tab.split(Split::Rows, PaneId(3)).expect("room");
        tab
    }

    fn area(tab: &Tab, pane: u32) -> (u16, u16, u16, u16) {
        let places = tab.places(AREA);
        let place = places.iter().find(|place| place.pane == PaneId(pane)).expect("placed");
        (place.area.x, place.area.y, place.area.width, place.area.height)
    }

    #[test]
    fn a_split_halves_a_pane_with_a_border_between() {
        let tab = three();
        assert_eq!(area(&tab, 1), (0, 0, 40, 25));
        assert_eq!(area(&tab, 2), (41, 0, 40, 12));
        assert_eq!(area(&tab, 3), (41, 13, 40, 12));
    }

    #[test]
    fn focus_goes_to_the_neighbour() {
        let mut tab = three();
        for (direction, pane) in [
            (Direction::Up, 2),
            (Direction::Up, 2),
            (Direction::Left, 1),
            (Direction::Right, 2),
            (Direction::Down, 3),
            (Direction::Right, 3),
        ] {
            tab.focus_towards(direction, AREA);
            assert_eq!(tab.focus(), PaneId(pane), "{direction:?}");
        }
        tab.swap_towards(Direction::Left, AREA);
        assert_eq!(area(&tab, 3), (0, 0, 40, 25));
        tab.focus_next();
        assert_eq!(tab.focus(), PaneId(2));
    }

    #[test]
    fn a_border_moves_and_zoom_shows_one() {
        let mut tab = three();
        tab.resize(Direction::Left);
        assert_eq!(area(&tab, 1).2, 36);
        tab.resize(Direction::Down);
        assert!(area(&tab, 2).3 > 12);
        for _ in 0..100 {
            tab.resize(Direction::Right);
        }
        assert!(area(&tab, 3).2 > 0, "no pane is squeezed to nothing");
        tab.is_zoomed = true;
        assert_eq!(tab.places(AREA), [Place { pane: PaneId(3), area: AREA }]);
    }

    #[test]
    fn the_last_pane_stays_and_keys_go_where_they_should() {
        let mut tab = three();
        assert_eq!(tab.receivers(), [PaneId(3)]);
        tab.is_synchronised = true;
        assert_eq!(tab.receivers(), [PaneId(1), PaneId(2), PaneId(3)]);
        assert!(tab.close(PaneId(3)) && tab.close(PaneId(1)));
        assert_eq!((tab.focus(), tab.close(PaneId(2))), (PaneId(2), false));
    }

    #[derive(Debug, Clone)]
    enum Op {
        Split(bool),
        Close(prop::sample::Index),
        Focus(Direction),
        Swap(Direction),
        Resize(Direction),
        Next,
    }

    fn op() -> impl Strategy<Value = Op> {
        let direction = || {
            prop::sample::select(vec![
                Direction::Left,
                Direction::Right,
                Direction::Up,
                Direction::Down,
            ])
        };
        prop_oneof![
            3 => any::<bool>().prop_map(Op::Split),
            1 => any::<prop::sample::Index>().prop_map(Op::Close),
            1 => direction().prop_map(Op::Focus),
            1 => direction().prop_map(Op::Swap),
            2 => direction().prop_map(Op::Resize),
            1 => Just(Op::Next),
        ]
    }

    proptest! {
        #[test]
        fn panes_fill_the_screen_and_never_overlap(
            ops in prop::collection::vec(op(), 0..40), width in 0..200_u16, height in 0..60_u16,
        ) {
            let area = Rect { x: 3, y: 1, width, height };
            let (mut tab, mut next) = (Tab::new(PaneId(0)), 1);
            for op in ops {
                match op {
                    Op::Split(rows) => {
                        let split = if rows { Split::Rows } else { Split::Columns };
                        if tab.split(split, PaneId(next)).is_ok() {
                            next += 1;
                        }
                    }
                    Op::Close(at) => {
                        let panes = tab.panes();
                        tab.close(panes[at.index(panes.len())]);
                    }
                    Op::Focus(direction) => tab.focus_towards(direction, area),
                    Op::Swap(direction) => tab.swap_towards(direction, area),
                    Op::Resize(direction) => tab.resize(direction),
                    Op::Next => tab.focus_next(),
                }
                let (panes, places) = (tab.panes(), tab.places(area));
                prop_assert!(panes.contains(&tab.focus()) && panes.len() <= PANES_MAX);
                prop_assert_eq!(places.len(), panes.len());
                let mut covered = 0_u32;
                for (at, place) in places.iter().enumerate() {
                    prop_assert_eq!(place.area.intersection(area).area(), place.area.area());
                    covered += place.area.area();
                    for other in &places[..at] {
                        prop_assert!(place.pane != other.pane);
                        prop_assert_eq!(place.area.intersection(other.area).area(), 0);
                    }
                }
                // Borders take no more than one row or column for each pane beyond the first.
                let borders = (panes.len() as u32 - 1) * u32::from(width.max(height));
                prop_assert!(covered + borders >= area.area(), "{covered} of {}", area.area());
            }
        }
    }
}
