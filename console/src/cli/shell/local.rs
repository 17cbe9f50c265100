//! The operator's own terminal: its keys, its size, its modes.

use std::{
    io::{self, Read as _},
    sync::Once,
    thread,
};

use bytes::Bytes;
use quarterdeck_protocol::tunnel::mark::Size;
use tokio::sync::mpsc;

/// What is read of the keyboard at once, in bytes.
const READ_BYTES: usize = 4 * 1024;
/// Chunks of keys that may wait.
const CHUNKS_MAX: usize = 16;

/// How large the terminal is; `None` when there is none.
pub(in crate::cli) fn terminal_size() -> Option<Size> {
    let (cols, rows) = crossterm::terminal::size().ok()?;
    Size::new(cols, rows)
}

/// The terminal hands every key on as it is, until this is dropped, however that comes about.
#[derive(Debug)]
pub(in crate::cli) struct RawMode(());

impl RawMode {
    pub(in crate::cli) fn enter() -> io::Result<Self> {
        crossterm::terminal::enable_raw_mode()?;
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                // What it says is to be read on a terminal in its right mind.
                let _ = crossterm::terminal::disable_raw_mode();
                before(panic);
            }));
        });
        Ok(Self(()))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // A terminal that is gone needs no mode.
        let _ = crossterm::terminal::disable_raw_mode();
    }
}

/// What comes from stdin, read in a thread of its own: a read of a terminal cannot be taken back.
#[derive(Debug)]
pub(in crate::cli) struct Keys(mpsc::Receiver<Bytes>);

impl Keys {
    pub(in crate::cli) fn read() -> Self {
        let (to, from) = mpsc::channel(CHUNKS_MAX);
        thread::spawn(move || {
            let mut stdin = io::stdin().lock();
            let mut buffer = [0; READ_BYTES];
            // An error is the end as well: the terminal is gone.
            while let Ok(length @ 1..) = stdin.read(&mut buffer) {
                if to.blocking_send(Bytes::copy_from_slice(&buffer[..length])).is_err() {
                    return;
                }
            }
        });
        Self(from)
    }

    /// The next; `None` at the end.
    pub(in crate::cli) async fn next(&mut self) -> Option<Bytes> {
        self.0.recv().await
    }
}
