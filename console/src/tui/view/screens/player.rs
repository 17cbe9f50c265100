//! A recording while it is played: what was shown, and where one is in it.

use ratatui::layout::Rect;

use super::cells;
use crate::tui::{
    app::{
        App,
        msg::Layout,
        player::{Loading, Player},
    },
    format,
    pane::widget::View,
    store::WindowKey,
    theme::Tone,
    view::{
        canvas::{Canvas, cut_bottom, cut_top, width},
        widgets::{bars, panel},
    },
};

pub fn draw(canvas: &mut Canvas<'_>, area: Rect, app: &App, id: &str, layout: &mut Layout) {
    let mut rest = area;
    let Some(player) = app.player.as_ref().filter(|player| player.id == id) else {
        let text = "The recording was left. Space opens it again, Esc goes back.";
        canvas.put(rest.x + 2, rest.y, text, Tone::Muted);
        return;
    };
    if rest.height > 3 {
        let line = cut_top(&mut rest, 1);
        let row = app.store.window(WindowKey::Recordings).find(id);
        let title = row.and_then(|row| row.recording()).map_or_else(
            || format!("recording {id}"),
            |recording| {
                let program = cells::program(&recording.argv);
                format!("{} on {}: {program}", recording.user, recording.device_id)
            },
        );
        panel::rule(canvas, line, &title, &note(player), true);
    }
    let line = cut_bottom(&mut rest, 1);
    let view =
        View { pane: &player.pane, top: None, selection: None, matches: &[], is_lost: false };
    if rest.height > 0 && rest.width > 0 {
        canvas.pane(&view, rest, true);
        layout.viewer = None;
    }
    progress(canvas, line, app, player);
}

/// What is to be said of how much of it is here.
fn note(player: &Player) -> String {
    let (shown, loaded) = player.events();
    match &player.loading {
        Loading::Asked(_) => format!("loading: {} events", format::count(loaded as u64)),
        Loading::Whole => {
            format!("event {} of {}", format::count(shown as u64), format::count(loaded as u64))
        }
        Loading::TooLong => {
            "this is its beginning: the rest is too long to be held, s saves it".to_owned()
        }
        Loading::Failed(why) => why.clone(),
    }
}

/// `> 0:12 / 12:40  x1 ━━━━━━───────`.
fn progress(canvas: &mut Canvas<'_>, area: Rect, app: &App, player: &Player) {
    let bar = canvas.style(Tone::Bar);
    canvas.fill(area, bar);
    let (word, tone) = match (player.is_playing, player.is_behind()) {
        (_, true) => ("SEEKING", Tone::Busy),
        (true, false) => ("PLAYING", Tone::Good),
        (false, false) => ("PAUSED", Tone::Warn),
    };
    let speed = player.speed_percent();
    let speed = match (speed / 100, speed % 100) {
        (whole, 0) => format!("x{whole}"),
        (whole, part) => format!("x{whole}.{part}"),
    };
    let time = format!("{} / {}", minutes(player.position_ms()), minutes(player.length_ms()));
    let mut parts = vec![(word.to_owned(), tone), (time, Tone::Strong), (speed, Tone::Text)];
    if let Some((text, places)) = player.found() {
        parts.push((format!("/{text}: {}", format::count(places as u64)), Tone::Match));
    }
    let mut x = area.x + 1;
    for (text, tone) in parts {
        if x + width(&text, app.theme.unicode) > area.right() {
            return;
        }
        let style = bar.patch(canvas.style(tone));
        x = canvas.text(x, area.y, &text, style, area.right().saturating_sub(x)) + 2;
    }
    let room = Rect { x, width: area.right().saturating_sub(x + 1), ..area };
    if room.width >= 8 {
        bars::bar(canvas, room, player.position_ms(), player.length_ms(), Tone::Accent);
    }
}

/// `0:12`, `1:02:03`.
fn minutes(ms: u64) -> String {
    let seconds = ms / 1000;
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 {
        format!("{hours}:{minutes:02}:{seconds:02}")
    } else {
        format!("{minutes}:{seconds:02}")
    }
}
