//! Takes the terminal, gives it back, and writes to it in the background.
//!
//! ```text
//!   enter ──▶ raw, alternate screen ──▶ frames ──▶ restore (drop, panic, signal)
//! ```
//!
//! One thread writes: a frame that a slow link holds up never holds up the
//! keyboard. It takes one frame at a time; the loop draws the next only when
//! this one has left.

use std::{
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use crossterm::terminal;
use tokio::{sync::mpsc as async_mpsc, time::Instant};

use crate::tui::pane::contain;

/// Alternate screen, no cursor, bracketed paste.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?2004h";
/// Everything that [`ENTER`] and frames may have set, undone.
const LEAVE: &str = "\x1b[?2026l\x1b[r\x1b[m\x1b[?1006l\x1b[?1000l\x1b[?2004l\x1b[?25h\x1b[?1049l";
const MOUSE_ON: &str = "\x1b[?1000h\x1b[?1006h";
/// How long the last frame may take to leave, in milliseconds.
const LAST_FRAME_WAIT_MS: u64 = 500;
/// The most text that goes to the clipboard: terminals refuse more.
const CLIPBOARD_MAX_BYTES: usize = 74_000;

/// The terminal while it is ours.
#[derive(Debug)]
pub struct Screen {
    frames: Option<mpsc::SyncSender<Vec<u8>>>,
    writer: Option<thread::JoinHandle<()>>,
}

/// Whether this process holds a terminal that must be given back.
static HELD: AtomicBool = AtomicBool::new(false);

/// What became of a frame.
#[derive(Debug, Clone, Copy)]
pub enum Written {
    /// It has left, and took this long.
    After(Duration),
    /// The terminal is gone.
    Failed,
}

impl Screen {
    /// Takes the terminal. The receiver tells when each frame has left.
    pub fn enter(mouse: bool) -> io::Result<(Self, async_mpsc::Receiver<Written>)> {
        terminal::enable_raw_mode()?;
        HELD.store(true, Ordering::SeqCst);
        restore_on_panic();
        let mut out = io::stdout();
        out.write_all(ENTER.as_bytes())?;
        if mouse {
            out.write_all(MOUSE_ON.as_bytes())?;
        }
        out.flush()?;
        let (frames, take) = mpsc::sync_channel::<Vec<u8>>(1);
        let (done, idle) = async_mpsc::channel(4);
        let writer = thread::Builder::new().name("terminal".into()).spawn(move || {
            while let Ok(frame) = take.recv() {
                let begun = Instant::now();
                let mut out = io::stdout().lock();
                let result = out.write_all(&frame).and_then(|()| out.flush());
                let written = result.map_or(Written::Failed, |()| Written::After(begun.elapsed()));
                // The loop keeps one frame under way, so there is always room.
                if done.try_send(written).is_err() {
                    return;
                }
            }
        })?;
        Ok((Self { frames: Some(frames), writer: Some(writer) }, idle))
    }

    /// Hands a frame to the writer. The caller waits for [`Written`] before the next.
    pub fn write(&self, frame: Vec<u8>) {
        if let Some(frames) = &self.frames {
            // A full channel cannot be while one frame is under way; a closed one is told by `Failed`.
            let _ = frames.try_send(frame);
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        drop(self.frames.take());
        // The last frame must not follow the goodbye; a terminal that takes none any more is not waited for.
        if let Some(writer) = self.writer.take() {
            for _ in 0..LAST_FRAME_WAIT_MS / 5 {
                if writer.is_finished() {
                    break;
                }
                thread::sleep(Duration::from_millis(5));
            }
        }
        restore();
    }
}

/// Gives the terminal back; once, whoever asks.
pub fn restore() {
    if HELD.swap(false, Ordering::SeqCst) {
        let mut out = io::stdout();
        let _ = out.write_all(LEAVE.as_bytes());
        let _ = out.flush();
        let _ = terminal::disable_raw_mode();
    }
}

/// A panic first gives the terminal back, so that its message can be read. One that a pane
/// contains is no end of anything, and nothing is said of it here.
fn restore_on_panic() {
    static SET: AtomicBool = AtomicBool::new(false);
    if SET.swap(true, Ordering::SeqCst) {
        return;
    }
    let before = Arc::new(std::panic::take_hook());
    std::panic::set_hook(Box::new(move |info| {
        if contain::is_contained() {
            return;
        }
        restore();
        before(info);
    }));
}

/// What sets the terminal's title. The text is made safe here.
pub fn title(text: &str) -> Vec<u8> {
    format!("\x1b]2;{}\x07", quarterdeck_protocol::text::line(text)).into_bytes()
}

/// What puts a text on the operator's clipboard (OSC 52); `None` when it is too long for that.
pub fn clipboard(text: &str) -> Option<Vec<u8>> {
    (text.len() <= CLIPBOARD_MAX_BYTES)
        .then(|| format!("\x1b]52;c;{}\x07", STANDARD.encode(text)).into_bytes())
}

/// The bell, and a desktop notification (OSC 9) where the terminal knows it.
pub fn notify(text: &str) -> Vec<u8> {
    format!("\x07\x1b]9;{}\x07", quarterdeck_protocol::text::line(text)).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_carries_no_control_of_its_own() {
        let out = title("a\x07\x1b]52;c;eA==\x07");
        let text = String::from_utf8(out).expect("UTF-8");
        assert_eq!(text.matches(['\x1b', '\x07']).count(), 2, "{text:?}");
    }

    #[test]
    fn the_clipboard_takes_base64_within_its_limit() {
        assert_eq!(clipboard("hi"), Some(b"\x1b]52;c;aGk=\x07".to_vec()));
        assert_eq!(clipboard(&"x".repeat(CLIPBOARD_MAX_BYTES + 1)), None);
    }
}
