//! A program on a real terminal, driven by keys.
//!
//! What it writes is kept twice: raw, to prove what never reached the
//! terminal, and as the screen that a terminal would show.

use std::{
    num::NonZeroU16,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use pty_process::{OwnedWritePty, Size};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::Child,
    sync::watch,
};

use crate::{
    binaries::on_path,
    clock,
    wait::{DEADLINE, Look, in_time, wait_for},
};

/// The raw bytes that are kept; a test that draws more has run wild.
const RAW_MAX_BYTES: usize = 64 * 1024 * 1024;
/// More than any frame has.
const FRAME_MAX_BYTES: usize = 128 * 1024;
const SCROLLBACK_ROWS: usize = 1_000;
/// More than any program waits for the rest of a sequence.
const ESCAPE_PAUSE: Duration = Duration::from_millis(150);

/// Keys that are no letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    Enter,
    Escape,
    Tab,
    BackTab,
    Backspace,
    Up,
    Down,
    Left,
    Right,
    Home,
    End,
    PageUp,
    PageDown,
    /// With the control key held.
    Ctrl(char),
    /// With the alt key held.
    Alt(char),
}

impl Key {
    fn bytes(self) -> Vec<u8> {
        match self {
            Self::Enter => b"\r".to_vec(),
            Self::Escape => b"\x1b".to_vec(),
            Self::Tab => b"\t".to_vec(),
            Self::BackTab => b"\x1b[Z".to_vec(),
            Self::Backspace => b"\x7f".to_vec(),
            Self::Up => b"\x1b[A".to_vec(),
            Self::Down => b"\x1b[B".to_vec(),
            Self::Right => b"\x1b[C".to_vec(),
            Self::Left => b"\x1b[D".to_vec(),
            Self::Home => b"\x1b[H".to_vec(),
            Self::End => b"\x1b[F".to_vec(),
            Self::PageUp => b"\x1b[5~".to_vec(),
            Self::PageDown => b"\x1b[6~".to_vec(),
            Self::Ctrl(letter) => vec![letter.to_ascii_uppercase() as u8 & 0x1f],
            Self::Alt(letter) => format!("\x1b{letter}").into_bytes(),
        }
    }
}

/// A program to run on a terminal.
#[derive(Debug)]
pub struct TerminalBuilder {
    program: std::path::PathBuf,
    args: Vec<String>,
    env: Vec<(String, String)>,
    cols: NonZeroU16,
    rows: NonZeroU16,
}

impl TerminalBuilder {
    /// On a terminal of 80 columns and 24 rows.
    pub fn new(program: impl AsRef<Path>) -> Self {
        Self {
            program: program.as_ref().to_owned(),
            args: Vec::new(),
            env: vec![
                ("TERM".into(), "xterm-256color".into()),
                ("LANG".into(), "C.UTF-8".into()),
                ("LC_ALL".into(), "C.UTF-8".into()),
            ],
            cols: const { NonZeroU16::new(80).expect("not zero") },
            rows: const { NonZeroU16::new(24).expect("not zero") },
        }
    }

    #[must_use]
    pub fn args<'a>(mut self, args: impl IntoIterator<Item = &'a str>) -> Self {
        self.args.extend(args.into_iter().map(str::to_owned));
        self
    }

    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.env.push((name.to_owned(), value.into()));
        self
    }

    #[must_use]
    pub fn size(mut self, cols: u16, rows: u16) -> Self {
        self.cols = at_least_one(cols);
        self.rows = at_least_one(rows);
        self
    }

    pub fn start(self) -> Result<Terminal> {
        let (pty, pts) = pty_process::open().context("opening a terminal")?;
        pty.resize(Size::new(self.rows.get(), self.cols.get()))?;
        // As for all our processes: the kernel ends it when we die.
        let mut command = match on_path("setpriv") {
            Some(setpriv) => pty_process::Command::new(setpriv)
                .args(["--pdeathsig", "KILL", "--"])
                .arg(&self.program),
            None => pty_process::Command::new(&self.program),
        };
        command = command.args(&self.args).kill_on_drop(true);
        for (name, value) in &self.env {
            command = command.env(name, value);
        }
        let child =
            command.spawn(pts).with_context(|| format!("starting {}", self.program.display()))?;
        let (mut read, write) = pty.into_split();
        let screen = Screen {
            raw: Vec::new(),
            parser: vt100::Parser::new(self.rows, self.cols, SCROLLBACK_ROWS),
            ended: false,
            at: clock::now(),
        };
        let screen = Arc::new(Mutex::new(screen));
        let (changed, changes) = watch::channel(());
        let shown = screen.clone();
        tokio::spawn(async move {
            let mut buffer = vec![0; 64 * 1024];
            // A terminal whose program ended answers EIO.
            while let Ok(length @ 1..) = read.read(&mut buffer).await {
                let at = clock::now();
                {
                    let mut screen = shown.lock().unwrap_or_else(PoisonError::into_inner);
                    screen.at = at;
                    screen.parser.process(&buffer[..length]);
                    if screen.raw.len() < RAW_MAX_BYTES {
                        screen.raw.extend_from_slice(&buffer[..length]);
                    }
                }
                changed.send_replace(());
            }
            shown.lock().unwrap_or_else(PoisonError::into_inner).ended = true;
        });
        Ok(Terminal { child, write, screen, changes })
    }
}

fn at_least_one(count: u16) -> NonZeroU16 {
    NonZeroU16::new(count).unwrap_or(NonZeroU16::MIN)
}

struct Screen {
    raw: Vec<u8>,
    parser: vt100::Parser,
    ended: bool,
    /// When the last bytes came.
    at: Instant,
}

impl Screen {
    /// Whether a synchronized update has begun and not ended: a terminal shows nothing of it yet.
    fn is_mid_frame(&self) -> bool {
        const SWITCH: &[u8] = b"\x1b[?2026";
        let recent = &self.raw[self.raw.len().saturating_sub(FRAME_MAX_BYTES)..];
        let last = recent.windows(SWITCH.len()).rposition(|part| part == SWITCH);
        // Cut off behind the number, it is one that begins or ends: either way more comes.
        last.is_some_and(|at| recent.get(at + SWITCH.len()) != Some(&b'l'))
    }
}

/// A program on its terminal; killed when dropped.
pub struct Terminal {
    child: Child,
    write: OwnedWritePty,
    screen: Arc<Mutex<Screen>>,
    changes: watch::Receiver<()>,
}

impl std::fmt::Debug for Terminal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Terminal").field("child", &self.child).finish_non_exhaustive()
    }
}

impl Terminal {
    /// What stands on the screen, a line a row.
    pub fn text(&self) -> String {
        self.read(|screen| screen.parser.screen().contents())
    }

    /// Every byte that the program wrote.
    pub fn raw(&self) -> Vec<u8> {
        self.read(|screen| screen.raw.clone())
    }

    /// How many bytes the program wrote so far.
    pub fn bytes_written(&self) -> usize {
        self.read(|screen| screen.raw.len())
    }

    /// The title that the program gave its window: the last OSC 0 or 2.
    pub fn title(&self) -> Option<String> {
        let raw = String::from_utf8_lossy(&self.raw()).into_owned();
        let start = raw.rfind("\x1b]0;").max(raw.rfind("\x1b]2;"))? + 4;
        let end = raw[start..].find(['\x07', '\x1b'])?;
        Some(raw[start..start + end].to_owned())
    }

    pub async fn press(&mut self, key: Key) -> Result<()> {
        self.send(&key.bytes()).await?;
        if key == Key::Escape {
            // Only the pause after it tells a lone escape from the first byte of another key.
            tokio::time::sleep(ESCAPE_PAUSE).await;
        }
        Ok(())
    }

    /// Types a text, letter by letter.
    pub async fn type_text(&mut self, text: &str) -> Result<()> {
        self.send(text.as_bytes()).await
    }

    /// Pastes a text as a terminal with bracketed paste does.
    pub async fn paste(&mut self, text: &str) -> Result<()> {
        self.send(format!("\x1b[200~{text}\x1b[201~").as_bytes()).await
    }

    pub async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        in_time("the program to read its keys", self.write.write_all(bytes)).await?.context("keys")
    }

    pub fn resize(&self, cols: u16, rows: u16) -> Result<()> {
        self.write.resize(Size::new(rows, cols))?;
        let mut screen = self.screen.lock().unwrap_or_else(PoisonError::into_inner);
        screen.parser.screen_mut().set_size(at_least_one(rows), at_least_one(cols));
        Ok(())
    }

    /// Waits until `text` stands on the screen; gives the whole screen.
    pub async fn wait_for_text(&self, text: &str) -> Result<String> {
        self.wait_for_screen(&format!("{text:?} on the screen"), |screen| screen.contains(text))
            .await
    }

    /// Waits until `text` no longer stands on the screen.
    pub async fn wait_until_gone(&self, text: &str) -> Result<String> {
        self.wait_for_screen(&format!("{text:?} to leave the screen"), |s| !s.contains(text)).await
    }

    pub async fn wait_for_screen(
        &self,
        what: &str,
        is_it: impl Fn(&str) -> bool,
    ) -> Result<String> {
        wait_for(what, || {
            let (text, ended) =
                self.read(|screen| (screen.parser.screen().contents(), screen.ended));
            let look = if is_it(&text) {
                Ok(Look::Ready(text))
            } else if ended {
                Err(anyhow::anyhow!("the program ended before {what}; its last screen:\n{text}"))
            } else {
                Ok(Look::not_yet(format!("this screen:\n{text}\n")))
            };
            async move { look }
        })
        .await
    }

    /// Waits for a whole frame that shows what is sought; gives the moment when its bytes came.
    pub async fn wait_for_frame(
        &mut self,
        what: &str,
        is_it: impl Fn(&vt100::Screen) -> bool,
    ) -> Result<Instant> {
        let waiting = async {
            loop {
                let found = self.read(|screen| {
                    let found = !screen.is_mid_frame() && is_it(screen.parser.screen());
                    found.then_some(screen.at)
                });
                if let Some(at) = found {
                    return Ok(at);
                }
                if self.changes.changed().await.is_err() {
                    bail!("the program ended before {what}");
                }
            }
        };
        let found = tokio::time::timeout(DEADLINE, waiting).await;
        found.unwrap_or_else(|_| bail!("waited for {what}; the screen is\n{}", self.text()))
    }

    /// Looks at the screen, cell by cell.
    pub fn look<T>(&self, look: impl FnOnce(&vt100::Screen) -> T) -> T {
        self.read(|screen| look(screen.parser.screen()))
    }

    /// The program's process, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Waits for the program to end by itself.
    pub async fn wait_for_end(&mut self) -> Result<i32> {
        match in_time("the program to end", self.child.wait()).await?? {
            status if status.code().is_some() => Ok(status.code().unwrap_or_default()),
            status => bail!("the program ended by {status}"),
        }
    }

    fn read<T>(&self, look: impl FnOnce(&Screen) -> T) -> T {
        look(&self.screen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the terminal's last screen\n{}", self.text());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_shell_on_a_terminal_takes_keys_and_knows_its_size() {
        let mut shell = TerminalBuilder::new("/bin/sh").size(100, 30).start().expect("started");
        shell
            .type_text("stty size; tty >/dev/null && echo on-a-$((1+1))-tty")
            .await
            .expect("typed");
        shell.press(Key::Enter).await.expect("pressed");
        let screen = shell.wait_for_text("on-a-2-tty").await.expect("shown");
        assert!(screen.contains("30 100"), "{screen}");
        shell.resize(40, 12).expect("resized");
        shell.type_text("stty size\r").await.expect("typed");
        shell.wait_for_text("12 40").await.expect("shown");
        shell.press(Key::Ctrl('d')).await.expect("pressed");
        assert_eq!(shell.wait_for_end().await.expect("ended"), 0);
    }

    #[tokio::test]
    async fn a_wait_for_what_never_comes_shows_the_last_screen() {
        let shell = TerminalBuilder::new("/bin/echo").args(["only this"]).start().expect("started");
        let error = shell.wait_for_text("something else").await.expect_err("never").to_string();
        assert!(error.contains("only this"), "{error}");
    }
}
