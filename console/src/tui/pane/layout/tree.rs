//! The splits of a tab: panes that share a length by weight, with borders between.

use ratatui::layout::Rect;

use super::{Direction, PaneId, Place, Split};

/// What a pane weighs to begin with, so that borders move in small steps.
const WEIGHT: u32 = 1000;
/// How much one step of a border takes from a neighbour, in parts of both.
const STEP: u32 = 20;
/// No pane may weigh less.
const WEIGHT_MIN: u32 = 50;

/// A pane, or several that share its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Node {
    Pane(PaneId),
    Split { split: Split, children: Vec<(u32, Node)> },
}

impl Node {
    pub(super) fn collect(&self, panes: &mut Vec<PaneId>) {
        match self {
            Self::Pane(pane) => panes.push(*pane),
            Self::Split { children, .. } => {
                for (_, node) in children {
                    node.collect(panes);
                }
            }
        }
    }

    pub(super) fn contains(&self, pane: PaneId) -> bool {
        match self {
            Self::Pane(own) => *own == pane,
            Self::Split { children, .. } => children.iter().any(|(_, node)| node.contains(pane)),
        }
    }

    pub(super) fn place(&self, area: Rect, places: &mut Vec<Place>) {
        match self {
            Self::Pane(pane) => places.push(Place { pane: *pane, area }),
            Self::Split { split, children } => {
                let length = match split {
                    Split::Columns => area.width,
                    Split::Rows => area.height,
                };
                let weights: Vec<u32> = children.iter().map(|(weight, _)| *weight).collect();
                for ((from, to), (_, node)) in shares(length, &weights).into_iter().zip(children) {
                    let part = match split {
                        Split::Columns => Rect { x: area.x + from, width: to - from, ..area },
                        Split::Rows => Rect { y: area.y + from, height: to - from, ..area },
                    };
                    node.place(part, places);
                }
            }
        }
    }

    pub(super) fn split(&mut self, at: PaneId, how: Split, new: PaneId) {
        match self {
            Self::Pane(pane) if *pane == at => {
                let children = vec![(WEIGHT, Self::Pane(at)), (WEIGHT, Self::Pane(new))];
                *self = Self::Split { split: how, children };
            }
            Self::Pane(_) => {}
            Self::Split { split, children } => {
                let here = children.iter().position(|(_, node)| *node == Self::Pane(at));
                match here {
                    // One more beside those that already stand so; the two share what the one had.
                    Some(index) if *split == how => {
                        let half = (children[index].0 / 2).max(WEIGHT_MIN);
                        children[index].0 = half;
                        children.insert(index + 1, (half, Self::Pane(new)));
                    }
                    _ => children.iter_mut().for_each(|(_, node)| node.split(at, how, new)),
                }
            }
        }
    }

    /// Takes a pane out; a split of one is what is in it.
    pub(super) fn remove(&mut self, pane: PaneId) {
        let Self::Split { children, .. } = self else { return };
        children.retain(|(_, node)| *node != Self::Pane(pane));
        for (_, node) in children.iter_mut() {
            node.remove(pane);
        }
        if children.len() == 1
            && let Some((_, only)) = children.pop()
        {
            *self = only;
        }
    }

    pub(super) fn swap(&mut self, a: PaneId, b: PaneId) {
        match self {
            Self::Pane(pane) if *pane == a => *pane = b,
            Self::Pane(pane) if *pane == b => *pane = a,
            Self::Pane(_) => {}
            Self::Split { children, .. } => {
                for (_, node) in children {
                    node.swap(a, b);
                }
            }
        }
    }

    /// Moves a border of the innermost split that has one in this direction. Says whether it did.
    pub(super) fn resize(&mut self, pane: PaneId, direction: Direction) -> bool {
        let Self::Split { split, children } = self else { return false };
        let Some(at) = children.iter().position(|(_, node)| node.contains(pane)) else {
            return false;
        };
        if children[at].1.resize(pane, direction) {
            return true;
        }
        if *split != direction.split() || children.len() < 2 {
            return false;
        }
        // The border after it, or, for the last, the one before it.
        let before = if at + 1 < children.len() { at } else { at - 1 };
        let (grows, shrinks) =
            if direction.is_forward() { (before, before + 1) } else { (before + 1, before) };
        let step = ((children[grows].0 + children[shrinks].0) / STEP).max(1);
        let step = step.min(children[shrinks].0.saturating_sub(WEIGHT_MIN));
        children[shrinks].0 -= step;
        children[grows].0 += step;
        true
    }
}

/// Shares a length by weight, one cell between two parts. What comes last may get nothing.
fn shares(length: u16, weights: &[u32]) -> Vec<(u16, u16)> {
    let borders = (weights.len() as u16).saturating_sub(1);
    let room = u64::from(length.saturating_sub(borders));
    let total: u64 = weights.iter().map(|weight| u64::from(*weight)).sum::<u64>().max(1);
    let (mut before, mut parts) = (0_u64, Vec::with_capacity(weights.len()));
    for (border, weight) in (0_u16..).zip(weights) {
        let from = (before * room / total) as u16 + border;
        before += u64::from(*weight);
        let to = (before * room / total) as u16 + border;
        parts.push((from.min(length), to.min(length)));
    }
    parts
}
