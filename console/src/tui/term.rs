//! The terminal: what it can, what comes from it, and what goes to it.
//!
//! | module | subject |
//! | --- | --- |
//! | [`caps`] | what the terminal can, told from the environment |
//! | [`input`] | keys, paste, mouse, size |
//! | [`frame`] | from one screen to the next in few bytes |
//! | `row` | one row of it |
//! | `pen` | the cursor, moved the shortest way |
//! | [`sgr`] | colours and attributes, merged |
//! | [`scroll`] | finds rows that only moved |
//! | [`screen`] | takes the terminal, gives it back, writes in the background |

pub mod caps;
pub mod frame;
pub mod input;
mod pen;
mod row;
pub mod screen;
pub mod scroll;
pub mod sgr;
