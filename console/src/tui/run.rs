//! The loop: the only place of the TUI with a clock and with IO.
//!
//! ```text
//!   select, in this order:
//!     signal          ──▶ leave
//!     input           ──▶ update, draw at once
//!     writer idle     ──▶ the next frame may go
//!     a frame is due  ──▶ draw
//!     channel free    ──▶ the next request goes
//!     time            ──▶ update, draw
//!     network         ──▶ update a turn's worth, draw within a frame's time
//! ```
//!
//! When a frame is due, and when changed rows are looked at, [`Pace`] says. What
//! did not change is not written.

use std::{path::Path, time::Duration};

use anyhow::Context as _;
use crossterm::event::EventStream;
use futures_util::StreamExt as _;
use quarterdeck_protocol::time::Timestamp;
use ratatui::{
    buffer::Buffer,
    layout::{Rect, Size},
};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{Instant, sleep_until},
};

use super::{
    Exit, NetHandle, TuiOptions,
    app::{App, Link, msg::Msg, update::update, views::Views},
    effects::{ApiRequest, Effect, ExportStep, NetRequest},
    export_file::ExportFile,
    outbox::Outbox,
    pace::Pace,
    term::{
        caps::Caps,
        frame::Encoder,
        input,
        screen::{self, Screen, Written},
    },
    view,
};

/// A write that takes this long is a slow one, in milliseconds.
const SLOW_WRITE_MS: u128 = 200;
/// So many slow writes in a row turn low bandwidth on.
const SLOW_WRITES: u32 = 3;

pub(super) async fn run(options: TuiOptions, net: NetHandle) -> anyhow::Result<Exit> {
    let caps = Caps::detect(&options, |name| std::env::var(name).ok());
    let (width, height) = crossterm::terminal::size().context("stdout is not a terminal")?;
    let zone = jiff::tz::TimeZone::system();
    let mut app = App::new(&options, &caps, Size { width, height }, now(), zone);
    if let Some(path) = &options.state_file
        && let Ok(text) = tokio::fs::read_to_string(path).await
    {
        app.views = Views::parse(&text);
    }
    let (screen, idle) = Screen::enter(caps.mouse).context("could not take the terminal")?;
    let mut console = Console {
        encoder: Encoder::new(caps.abilities),
        buffer: Buffer::empty(Rect::ZERO),
        screen,
        pace: Pace::new(Instant::now()),
        extra: Vec::new(),
        title: String::new(),
        takes_osc: caps.takes_osc,
        slow_writes: 0,
        outbox: Outbox::default(),
        exporting: None,
        options,
        app,
        exit: None,
    };
    console.serve(net, idle).await
}

/// The state with everything around it that is not pure.
struct Console {
    app: App,
    options: TuiOptions,
    encoder: Encoder,
    buffer: Buffer,
    screen: Screen,
    pace: Pace,
    /// Bytes that go with the next frame: clipboard, bell.
    extra: Vec<u8>,
    title: String,
    takes_osc: bool,
    slow_writes: u32,
    outbox: Outbox,
    exporting: Option<ExportFile>,
    exit: Option<Exit>,
}

impl Console {
    async fn serve(
        &mut self,
        net: NetHandle,
        mut idle: tokio::sync::mpsc::Receiver<Written>,
    ) -> anyhow::Result<Exit> {
        let mut events = EventStream::new();
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut network_ended = false;
        self.draw();
        while self.exit.is_none() {
            self.pace.low_bandwidth = self.app.low_bandwidth;
            let due = self.pace.due();
            let wake = self.wake();
            tokio::select! {
                biased;
                _ = terminate.recv() => self.exit = Some(Exit::Terminated),
                _ = hangup.recv() => self.exit = Some(Exit::Terminated),
                _ = interrupt.recv() => self.exit = Some(Exit::Terminated),
                event = events.next() => match event {
                    Some(Ok(event)) => {
                        if let Some(input) = input::from_event(event) {
                            self.pace.key();
                            self.update(Msg::Input(input)).await;
                            self.draw();
                        }
                    }
                    Some(Err(_)) | None => self.exit = Some(Exit::Terminated),
                },
                Some(written) = idle.recv() => self.written(written),
                // Frames and requests before news: however much of it there is, what is seen is fresh
                // and what was typed leaves.
                () = sleep_until(due.unwrap_or(wake)), if due.is_some() => self.draw(),
                permit = net.requests.reserve(), if !self.outbox.is_empty() && !network_ended => {
                    match permit {
                        Ok(permit) => if let Some(request) = self.outbox.pop() {
                            permit.send(request);
                        },
                        Err(_) => network_ended = true,
                    }
                }
                () = sleep_until(wake) => self.update(Msg::Tick).await,
                batch = net.mailbox.take(self.pace.rows_due()) => {
                    self.pace.took(Instant::now());
                    self.update(Msg::Net(batch)).await;
                    if let Link::SignedOut { why, .. } = &self.app.link && self.app.wall.is_none() {
                        self.exit = Some(Exit::SignedOut { why: why.clone() });
                    }
                }
            }
        }
        Ok(self.exit.take().unwrap_or(Exit::Quit))
    }

    /// When the state changes by itself.
    fn wake(&self) -> Instant {
        let ms = self.app.next_wake().millis_since(now()).max(1);
        Instant::now() + Duration::from_millis(ms.unsigned_abs())
    }

    async fn update(&mut self, msg: Msg) {
        self.app.now = now();
        self.pace.news();
        let effects = update(&mut self.app, msg);
        self.perform(effects).await;
    }

    async fn perform(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Net(request) => {
                    let request = self.in_export_dir(request);
                    if !self.outbox.push(request) {
                        self.say("the network does not take any more requests", true);
                    }
                }
                Effect::CopyToClipboard(text) => match screen::clipboard(&text) {
                    Some(bytes) if self.takes_osc => self.extra.extend(bytes),
                    _ => self.say("too long for the clipboard: export it with x", true),
                },
                Effect::Notify(text) => {
                    let bytes = if self.takes_osc { screen::notify(&text) } else { vec![7] };
                    self.extra.extend(bytes);
                }
                Effect::WriteFile { name, content } => self.write_file(&name, content).await,
                Effect::Export(step) => self.export(step).await,
                Effect::SaveState(text) => self.save_state(text).await,
                Effect::Quit => self.exit = Some(Exit::Quit),
            }
        }
    }

    /// Files that the network writes go where all exports go.
    fn in_export_dir(&self, request: NetRequest) -> NetRequest {
        match request {
            NetRequest::Call { id, call } => {
                let folder = self.options.export_dir.clone().unwrap_or_default();
                let call = match call {
                    ApiRequest::SaveOutput { id, path } => {
                        ApiRequest::SaveOutput { id, path: folder.join(path) }
                    }
                    ApiRequest::SaveRecording { id, path } => {
                        ApiRequest::SaveRecording { id, path: folder.join(path) }
                    }
                    other => other,
                };
                NetRequest::Call { id, call }
            }
            other => other,
        }
    }

    async fn write_file(&mut self, name: &str, content: String) {
        let path = self.options.export_dir.clone().unwrap_or_default().join(name);
        match tokio::fs::write(&path, content).await {
            Ok(()) => self.say(&format!("written to {}", path.display()), false),
            Err(error) => self.say(&format!("{}: {error}", path.display()), true),
        }
    }

    async fn export(&mut self, step: ExportStep) {
        let said = match step {
            ExportStep::Begin { name } => {
                let folder = self.options.export_dir.clone().unwrap_or_default();
                match ExportFile::begin(&folder.join(name)).await {
                    Ok(file) => {
                        self.exporting = Some(file);
                        return;
                    }
                    Err(error) => Err(error),
                }
            }
            ExportStep::Rows(text) => match &mut self.exporting {
                Some(file) => match file.write(&text).await {
                    Ok(()) => return,
                    Err(error) => Err(error),
                },
                None => return,
            },
            ExportStep::End { what } => match self.exporting.take() {
                Some(file) => file.end().await.map(|path| format!("{what} in {}", path.display())),
                None => return,
            },
            ExportStep::Drop => {
                self.exporting = None;
                return;
            }
        };
        match said {
            Ok(text) => self.say(&text, false),
            Err(error) => {
                self.exporting = None;
                let effects = update(&mut self.app, Msg::ExportFailed { why: error.to_string() });
                self.pace.news();
                self.forward(effects);
            }
        }
    }

    async fn save_state(&mut self, text: String) {
        let Some(path) = self.options.state_file.clone() else { return };
        if let Err(error) = replace_file(&path, text).await {
            self.say(&format!("{}: {error}", path.display()), true);
        }
    }

    fn say(&mut self, text: &str, is_error: bool) {
        let effects = update(&mut self.app, Msg::Said { text: text.to_owned(), is_error });
        self.pace.news();
        self.forward(effects);
    }

    fn forward(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            if let Effect::Net(request) = effect {
                self.outbox.push(request);
            }
        }
    }

    fn written(&mut self, written: Written) {
        self.pace.left();
        match written {
            Written::Failed => self.exit = Some(Exit::Terminated),
            Written::After(time) if time.as_millis() >= SLOW_WRITE_MS => {
                self.slow_writes += 1;
                if self.slow_writes == SLOW_WRITES && !self.app.low_bandwidth {
                    self.app.low_bandwidth = true;
                    self.say("the link is slow: low bandwidth is on", true);
                }
            }
            Written::After(_) => self.slow_writes = 0,
        }
    }

    /// Draws the state and hands the writer what differs; keeps it for later while the writer is busy.
    fn draw(&mut self) {
        if self.pace.due().is_none() {
            return;
        }
        let area = Rect::from((ratatui::layout::Position::ORIGIN, self.app.size));
        if self.buffer.area != area {
            self.buffer = Buffer::empty(area);
        }
        if std::mem::take(&mut self.app.redraw) {
            self.encoder.forget();
        }
        self.app.now = now();
        view::prepare(&mut self.app);
        let mut drawn = view::draw(&self.app, &mut self.buffer);
        // What is on the screen decides what is asked for, and where text ends: settle that first.
        if drawn.layout != self.app.layout {
            for effect in update(&mut self.app, Msg::Drawn(drawn.layout.clone())) {
                if let Effect::Net(request) = effect {
                    self.outbox.push(request);
                }
            }
            view::prepare(&mut self.app);
            drawn = view::draw(&self.app, &mut self.buffer);
        }
        if std::mem::take(&mut self.app.dump) {
            self.dump();
        }
        let mut frame = self.encoder.encode(&self.buffer, drawn.cursor);
        let title = self.app.title();
        if title != self.title && self.takes_osc {
            frame.extend(screen::title(&title));
            self.title = title;
        }
        frame.append(&mut self.extra);
        self.pace.drawn(Instant::now(), !frame.is_empty());
        if !frame.is_empty() {
            self.screen.write(frame);
        }
    }

    /// Writes what is on the screen to a file, as text.
    fn dump(&mut self) {
        let stamp = jiff::Timestamp::from(self.app.now).strftime("%Y%m%d-%H%M%S").to_string();
        let path = self.options.export_dir.clone().unwrap_or_default();
        let path = path.join(format!("screen-{stamp}.txt"));
        match std::fs::write(&path, screen_text(&self.buffer)) {
            Ok(()) => self.say(&format!("written to {}", path.display()), false),
            Err(error) => self.say(&format!("{}: {error}", path.display()), true),
        }
    }
}

/// The screen as lines of text.
fn screen_text(buffer: &Buffer) -> String {
    let mut text = String::new();
    for row in buffer.content.chunks(usize::from(buffer.area.width.max(1))) {
        let mut covered = 0;
        let mut line = String::new();
        for cell in row {
            if covered > 0 {
                covered -= 1;
                continue;
            }
            covered = unicode_width::UnicodeWidthStr::width(cell.symbol()).saturating_sub(1);
            line.push_str(cell.symbol());
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Replaces a file as a whole: a crash leaves the old one or the new one.
async fn replace_file(path: &Path, text: String) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        tokio::fs::create_dir_all(folder).await?;
    }
    let beside = path.with_extension("new");
    tokio::fs::write(&beside, text).await?;
    tokio::fs::rename(&beside, path).await
}

/// The wall clock: the one place of the TUI that asks it.
#[expect(clippy::disallowed_methods, reason = "this is the TUI's door to time")]
fn now() -> Timestamp {
    jiff::Timestamp::now().into()
}
