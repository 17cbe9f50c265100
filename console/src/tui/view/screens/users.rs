//! People and what they may do: users, members, projects, enrolment tokens.

use ratatui::layout::Rect;

use super::cells;
use crate::tui::{
    app::{App, msg::Layout, tabs::UsersTab},
    store::WindowKey,
    view::{
        canvas::{Canvas, cut_top},
        widgets::{panel, table},
    },
};

pub fn draw(canvas: &mut Canvas<'_>, area: Rect, app: &App, layout: &mut Layout) {
    let mut rest = area;
    let line = cut_top(&mut rest, 1);
    panel::tabs(canvas, line, UsersTab::TITLES, app.tabs.users.index(), layout);
    if rest.height > 8 {
        cut_top(&mut rest, 1);
    }
    let look = |key, title, none| table::Look { key, title, focused: true, none };
    match app.tabs.users {
        UsersTab::Users => {
            let look = look(WindowKey::Users, "Users of this server", &["No users."][..]);
            table::draw(canvas, rest, app, look, layout, cells::user);
        }
        UsersTab::Members => {
            let title = format!("Members of {}", app.session.project);
            let none = ["No members yet.", "r gives somebody a role in this project."];
            let look = look(WindowKey::Members, &title, &none[..]);
            table::draw(canvas, rest, app, look, layout, cells::member);
        }
        UsersTab::Projects => {
            let look = look(WindowKey::Projects, "Projects", &["No projects."][..]);
            table::draw(canvas, rest, app, look, layout, cells::project);
        }
        UsersTab::Tokens => {
            let none = ["No enrolment tokens.", "n makes one: a device needs it to enrol."];
            let look = look(WindowKey::Tokens, "Enrolment tokens", &none[..]);
            table::draw(canvas, rest, app, look, layout, cells::token);
        }
    }
}
