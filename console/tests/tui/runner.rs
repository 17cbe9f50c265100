//! Drives the TUI by hand: `runner.keys("3 j Enter").wait_for("Overview")`.
//!
//! No terminal, no clock, no network: time moves when a wait moves it, and the
//! fleet answers at once. What a wait does not find fails with the screen.

use std::{collections::VecDeque, fmt::Write as _};

use quarterdeck_console::cli::line::Program;
use quarterdeck_console::net::tunnel::{Piece, State, Status};
use quarterdeck_console::tui::{
    TuiOptions,
    app::{App, msg::Msg, update::update},
    effects::{ApiRequest, Effect, NetEvent, NetRequest},
    mailbox::{Batch, MailboxReceiver, MailboxSender, mailbox},
    pane::layout::PaneId,
    term::{
        caps::Caps,
        frame::Encoder,
        input::{Code, Input, Key},
    },
    view::{self, Drawn},
};
use quarterdeck_protocol::{live::ServerMessage, operations, time::Timestamp};
use quarterdeck_tests::fake::{FakeFleet, Windows};
use ratatui::{
    buffer::{Buffer, Cell},
    layout::{Rect, Size},
    style::{Color, Modifier},
};

use crate::{
    network,
    sessions::{Sessions, output},
};

/// When every test begins.
pub(crate) fn start() -> Timestamp {
    "2026-11-21T06:14:52Z".parse().expect("valid")
}

pub(crate) struct Runner {
    pub(crate) app: App,
    pub(crate) fleet: FakeFleet,
    windows: Windows,
    pub(crate) buffer: Buffer,
    pub(crate) drawn: Drawn,
    pub(crate) effects: Vec<Effect>,
    /// What was asked by HTTP.
    pub(crate) requests: Vec<ApiRequest>,
    /// The far end of panes.
    pub(crate) sessions: Sessions,
    /// The network answers nothing.
    pub(crate) silent: bool,
    sender: MailboxSender,
    receiver: MailboxReceiver,
    queue: VecDeque<NetRequest>,
}

pub(crate) fn caps(ascii: bool, no_color: bool, low_bandwidth: bool) -> (TuiOptions, Caps) {
    let options = TuiOptions {
        server: "fleet.example".to_owned(),
        project: "prod".to_owned(),
        program: Program::new("default", Some("prod".to_owned())),
        ascii: Some(ascii),
        no_color: Some(no_color),
        low_bandwidth,
        ..TuiOptions::default()
    };
    let caps = Caps::detect(&options, |name| (name == "TERM").then(|| "xterm-256color".to_owned()));
    (options, caps)
}

impl Runner {
    pub(crate) fn new(width: u16, height: u16) -> Self {
        let (options, caps) = caps(false, false, false);
        Self::with(&options, &caps, width, height)
    }

    pub(crate) fn with(options: &TuiOptions, caps: &Caps, width: u16, height: u16) -> Self {
        let mut runner = Self::unconnected(options, caps, width, height);
        runner.connect();
        runner
    }

    pub(crate) fn unconnected(options: &TuiOptions, caps: &Caps, width: u16, height: u16) -> Self {
        let (sender, receiver) = mailbox();
        let now = start();
        let size = Size { width, height };
        let mut runner = Self {
            app: App::new(options, caps, size, now, jiff::tz::TimeZone::fixed(jiff::tz::offset(1))),
            fleet: FakeFleet::new(now, 240, 1_204),
            windows: Windows::default(),
            buffer: Buffer::empty(Rect::new(0, 0, width, height)),
            drawn: Drawn::default(),
            effects: Vec::new(),
            requests: Vec::new(),
            sessions: Sessions::default(),
            silent: false,
            sender,
            receiver,
            queue: VecDeque::new(),
        };
        runner.settle();
        runner
    }

    pub(crate) fn connect(&mut self) -> &mut Self {
        self.silent = false;
        let hello = self.fleet.hello();
        self.live(hello)
    }

    /// Lets the server say something.
    pub(crate) fn live(&mut self, message: ServerMessage) -> &mut Self {
        self.event(NetEvent::Live(message))
    }

    /// Lets the server say what changed in the windows.
    pub(crate) fn tell_changes(&mut self) -> &mut Self {
        for message in self.windows.changes(&self.fleet) {
            self.live(message);
        }
        self
    }

    /// Cuts the connection; the network says that it tries again in 4 s.
    pub(crate) fn lost(&mut self, why: &str) -> &mut Self {
        let again_in = std::time::Duration::from_secs(4);
        self.event(NetEvent::Lost { why: why.to_owned(), again_in })
    }

    /// Lets the network say something.
    pub(crate) fn event(&mut self, event: NetEvent) -> &mut Self {
        self.sender.put(event);
        self.settle();
        self
    }

    pub(crate) fn msg(&mut self, msg: Msg) {
        let effects = update(&mut self.app, msg);
        for effect in effects {
            match effect {
                Effect::Net(request) => self.queue.push_back(request),
                other => self.effects.push(other),
            }
        }
    }

    /// Answers what was asked and draws, until nothing more happens.
    pub(crate) fn settle(&mut self) {
        for _ in 0..500 {
            while let Some(request) = self.queue.pop_front() {
                if let NetRequest::Call { call, .. } = &request {
                    self.requests.push(call.clone());
                }
                if let NetRequest::Tunnel(request) = request {
                    if !self.silent {
                        self.sessions.take(&mut self.fleet, &self.sender, request);
                    }
                } else if !self.silent {
                    let answer = network::answer(&mut self.fleet, &mut self.windows, request);
                    if let Some(event) = answer {
                        self.sender.put(event);
                    }
                }
            }
            let batch = self.receiver.try_take();
            if !batch.is_empty() {
                self.msg(Msg::Net(batch));
                continue;
            }
            self.draw();
            if self.drawn.layout == self.app.layout {
                return;
            }
            let layout = self.drawn.layout.clone();
            self.msg(Msg::Drawn(layout));
        }
        panic!("the screen does not come to rest\n{}", self.text());
    }

    fn draw(&mut self) {
        let area = Rect::from((ratatui::layout::Position::ORIGIN, self.app.size));
        if self.buffer.area != area {
            self.buffer = Buffer::empty(area);
        }
        view::prepare(&mut self.app);
        self.drawn = view::draw(&self.app, &mut self.buffer);
    }

    /// Presses keys, named as in the action table, apart by spaces.
    pub(crate) fn keys(&mut self, keys: &str) -> &mut Self {
        for name in keys.split_whitespace() {
            let key = Key::parse(name).unwrap_or_else(|| panic!("{name:?} is no key"));
            self.msg(Msg::Input(Input::Key(key)));
            self.settle();
        }
        self
    }

    /// Goes to the card of a built-in operation, from the wizard's first.
    pub(crate) fn go_to_operation(&mut self, name: &str) -> &mut Self {
        let at = operations::builtin().iter().position(|operation| operation.name == name);
        for _ in 0..at.expect("it is built in") {
            self.keys("Right");
        }
        self
    }

    /// Types characters one by one.
    pub(crate) fn text_in(&mut self, text: &str) -> &mut Self {
        for c in text.chars() {
            self.msg(Msg::Input(Input::Key(Key::char(c))));
        }
        self.settle();
        self
    }

    /// Types into a pane: each character a key, `\r` is Enter.
    pub(crate) fn type_in(&mut self, text: &str) -> &mut Self {
        for c in text.chars() {
            let key = if c == '\r' { Key::plain(Code::Enter) } else { Key::char(c) };
            self.msg(Msg::Input(Input::Key(key)));
        }
        self.settle();
        self
    }

    pub(crate) fn input(&mut self, input: Input) -> &mut Self {
        self.msg(Msg::Input(input));
        self.settle();
        self
    }

    /// Lets the device of a pane say something.
    pub(crate) fn says(&mut self, pane: u32, text: &str) -> &mut Self {
        self.sessions.say(&self.sender, PaneId(pane), text);
        self.settle();
        self
    }

    /// Hands a piece of output to a pane as it is.
    pub(crate) fn brings(&mut self, pane: u32, piece: Piece) -> &mut Self {
        output(&self.sender, PaneId(pane), piece);
        self.settle();
        self
    }

    /// Says how the session of a pane fares.
    pub(crate) fn fares(
        &mut self,
        pane: u32,
        state: State,
        change: impl FnOnce(&mut Status),
    ) -> &mut Self {
        self.sessions.tell_with(&self.sender, &self.fleet, PaneId(pane), state, change);
        self.settle();
        self
    }

    pub(crate) fn mailbox(&self) -> MailboxSender {
        self.sender.clone()
    }

    /// Takes one turn's news by hand.
    pub(crate) fn try_take(&mut self) -> Batch {
        self.receiver.try_take()
    }

    /// Lets what was asked leave, and takes nothing of what comes back.
    pub(crate) fn pass_requests(&mut self) {
        while let Some(request) = self.queue.pop_front() {
            if let NetRequest::Tunnel(request) = request {
                self.sessions.take(&mut self.fleet, &self.sender, request);
            }
        }
    }

    /// Lets time pass, with the server's heartbeat unless it is silent.
    pub(crate) fn pass_ms(&mut self, ms: i64) -> &mut Self {
        let mut left = ms;
        while left > 0 {
            let step = left.min(250);
            left -= step;
            self.app.now = self.app.now.plus_millis(step);
            self.fleet.now = self.app.now;
            if !self.silent && self.app.link.is_connected() {
                let beat = self.fleet.heartbeat();
                self.sender.put(NetEvent::Live(beat));
            }
            self.msg(Msg::Tick);
            self.settle();
        }
        self
    }

    /// Waits until the screen says something, for at most a minute of its time.
    pub(crate) fn wait_for(&mut self, text: &str) -> &mut Self {
        for _ in 0..240 {
            if self.text().contains(text) {
                return self;
            }
            self.pass_ms(250);
            self.fleet.live(self.app.now);
            self.tell_changes().settle();
        }
        panic!("{text:?} does not appear\n{}", self.text());
    }

    pub(crate) fn shows(&self, text: &str) -> bool {
        self.text().contains(text)
    }

    /// The screen as lines.
    pub(crate) fn text(&self) -> String {
        text(&self.buffer)
    }

    pub(crate) fn resize(&mut self, width: u16, height: u16) -> &mut Self {
        self.msg(Msg::Input(Input::Resize(Size { width, height })));
        self.settle();
        self
    }

    /// The bytes from the screen before to this one.
    pub(crate) fn bytes(&self, encoder: &mut Encoder) -> usize {
        encoder.encode(&self.buffer, self.drawn.cursor).len()
    }
}

pub(crate) fn text(buffer: &Buffer) -> String {
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

/// What is not plain on a screen, row by row: `7: 0-1 ink 111 on 237 bold, 3-17 on 237`.
pub(crate) fn looks(buffer: &Buffer) -> String {
    let mut text = String::new();
    for (y, row) in buffer.content.chunks(usize::from(buffer.area.width.max(1))).enumerate() {
        let mut x = 0;
        let mut parts = Vec::new();
        for cells in row.chunk_by(|a, b| look(a) == look(b)) {
            let end = x + cells.len();
            let look = look(&cells[0]);
            if !look.is_empty() {
                parts.push(format!("{x}-{end}{look}"));
            }
            x = end;
        }
        if !parts.is_empty() {
            writeln!(text, "{y}: {}", parts.join(", ")).expect("writing to a string cannot fail");
        }
    }
    text
}

fn look(cell: &Cell) -> String {
    let colour = |colour: Color| match colour {
        Color::Indexed(index) => index.to_string(),
        named => named.to_string(),
    };
    let lined = Modifier::REVERSED | Modifier::UNDERLINED | Modifier::CROSSED_OUT;
    let is_inked = cell.symbol() != " " || cell.modifier.intersects(lined);
    let mut text = String::new();
    // The ink of a blank is not seen.
    if is_inked && cell.fg != Color::Reset {
        write!(text, " ink {}", colour(cell.fg)).expect("writing to a string cannot fail");
    }
    if cell.bg != Color::Reset {
        write!(text, " on {}", colour(cell.bg)).expect("writing to a string cannot fail");
    }
    let seen = if is_inked { cell.modifier } else { Modifier::empty() };
    for (name, _) in seen.iter_names() {
        write!(text, " {}", name.to_lowercase()).expect("writing to a string cannot fail");
    }
    text
}
