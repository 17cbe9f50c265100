//! Pieces that screens are made of.

pub mod bars;
pub mod form;
pub mod input;
pub mod panel;
pub mod table;
