//! Forms in dialogs: users, members, projects, tokens, tags, silences, views.

use std::collections::BTreeMap;

use quarterdeck_protocol::{
    api::{ChangeDevice, ChangeUser, CreateEnrollmentToken, CreateProject, CreateUser, Role},
    ids::{DeviceId, ProjectId},
};

use super::{
    App,
    calls::Purpose,
    dialog::{FormDialog, FormPurpose, Overlay},
    field::TextField,
    form::{Control, Editor, Field, Form, pairs},
    jobs::Task,
    perform, pickers, subjects,
    tabs::UsersTab,
};
use crate::tui::{
    effects::{ApiRequest, Effect},
    store::WindowKey,
    theme::Tone,
};

/// The role that somebody has in the project now.
fn role_of(app: &App, table: WindowKey, username: &str) -> Option<Role> {
    let row = app.store.window(table).find(username)?;
    if table == WindowKey::Members {
        return row.member().map(|member| member.role);
    }
    let project = ProjectId::new(&app.session.project).ok()?;
    row.user()?.projects.get(&project).copied()
}

/// Opens a form.
pub fn open(app: &mut App, purpose: FormPurpose) {
    let text =
        |name: &str, label: &str| Field::new(name, label, Control::Text(TextField::default()));
    let secret =
        |name: &str, label: &str| Field::new(name, label, Control::Text(TextField::secret()));
    let (title, fields) = match &purpose {
        FormPurpose::CreateUser => (
            "New user".to_owned(),
            vec![
                text("username", "User name").required(),
                secret("password", "Password").required().help("tell them to change it"),
                Field::new("admin", "Server admin", Control::Switch(false))
                    .help("manages users and projects; every role everywhere"),
            ],
        ),
        FormPurpose::Password { username } => (
            format!("Password of {username}"),
            vec![
                secret("password", "New password").required(),
                secret("again", "Once more").required(),
            ],
        ),
        FormPurpose::SetMember => {
            let options = Role::ALL.map(|role| role.as_str().to_owned()).to_vec();
            let table = match app.tabs.users {
                UsersTab::Members => WindowKey::Members,
                UsersTab::Users | UsersTab::Projects | UsersTab::Tokens => WindowKey::Users,
            };
            let under = subjects::under_cursor(app, table).unwrap_or_default();
            let chosen = role_of(app, table, &under).unwrap_or(Role::Viewer);
            let chosen = Role::ALL.iter().position(|role| *role == chosen).unwrap_or(0);
            let name = TextField::new(&under);
            (
                format!("Role in {}", app.session.project),
                vec![
                    Field::new("username", "User name", Control::Text(name)).required(),
                    Field::new("role", "Role", Control::Choice { options, chosen })
                        .help("each role includes those before it"),
                ],
            )
        }
        FormPurpose::CreateProject => (
            "New project".to_owned(),
            vec![
                text("id", "Id").required().help("letters, digits, '.', '_', '-'; stays for ever"),
                text("name", "Name").help("for people"),
            ],
        ),
        FormPurpose::CreateToken => (
            "New enrolment token".to_owned(),
            vec![
                Field::new(
                    "uses",
                    "Devices",
                    Control::Number { text: TextField::new("1"), integer: true },
                )
                .required()
                .help("how many may enrol with it"),
                Field::new(
                    "expires_in_s",
                    "Good for",
                    Control::Presets {
                        options: vec![
                            ("1 h".to_owned(), 3600),
                            ("1 day".to_owned(), 86_400),
                            ("1 week".to_owned(), 604_800),
                            ("30 days".to_owned(), 2_592_000),
                        ],
                        chosen: 0,
                    },
                ),
                Field::new("tags", "Tags", Control::Map(Box::new(Editor::new("", 3))))
                    .help("name=value, one a line; each such device gets them"),
            ],
        ),
        FormPurpose::DeviceTags { ids } => {
            let tags = subjects::device(app, ids.first().map_or("", String::as_str))
                .map(|device| device.tags.clone())
                .filter(|_| ids.len() == 1)
                .unwrap_or_default();
            let lines: Vec<String> = tags.iter().map(|(k, v)| format!("{k}={v}")).collect();
            let title = match ids.as_slice() {
                [only] => format!("Tags of {only}"),
                many => format!("Replace the tags of {} devices", many.len()),
            };
            let editor = Control::Map(Box::new(Editor::new(&lines.join("\n"), 6)));
            let field = Field::new("tags", "Tags", editor);
            (
                title,
                vec![field.help("name=value, one a line; Tab, then Enter saves"), save_button()],
            )
        }
        FormPurpose::Silence { ids } => (
            format!("Silence {}", crate::tui::format::plural(ids.len() as u64, "alert")),
            vec![Field::new(
                "duration_s",
                "For",
                Control::Presets {
                    options: vec![
                        ("15 min".to_owned(), 900),
                        ("1 h".to_owned(), 3600),
                        ("8 h".to_owned(), 28_800),
                        ("1 day".to_owned(), 86_400),
                        ("1 week".to_owned(), 604_800),
                    ],
                    chosen: 1,
                },
            )],
        ),
        FormPurpose::SaveView => {
            ("Save this view".to_owned(), vec![text("name", "Name").required()])
        }
    };
    let mut fields = fields;
    // Enter in an editor is a new line, so a form that ends in one needs a place to submit from.
    if matches!(fields.last().map(|field| &field.control), Some(Control::Map(_))) {
        fields.push(save_button());
    }
    let dialog = FormDialog { title, form: Form::new(fields), purpose, error: None, pending: None };
    app.overlay = Some(Overlay::Form(Box::new(dialog)));
}

/// A field whose Enter submits.
fn save_button() -> Field {
    Field::new("", "", Control::Choice { options: vec!["Save".to_owned()], chosen: 0 })
}

/// Sends what was filled in; the dialog stays open until the server has answered.
pub fn submit(app: &mut App, mut dialog: Box<FormDialog>) -> Vec<Effect> {
    let form = &dialog.form;
    let text = |name: &str| form.text(name);
    let call = match &dialog.purpose {
        FormPurpose::CreateUser => Ok(ApiRequest::CreateUser(CreateUser {
            username: text("username"),
            password: text("password"),
            admin: text("admin") == "true",
        })),
        FormPurpose::Password { username } => {
            if text("password") == text("again") {
                let change =
                    ChangeUser { password: Some(text("password")), ..ChangeUser::default() };
                Ok(ApiRequest::ChangeUser { username: username.clone(), change })
            } else {
                Err(("again", "is not the same".to_owned()))
            }
        }
        FormPurpose::SetMember => text("role")
            .parse()
            .map(|role| ApiRequest::SetMember { username: text("username"), role })
            .map_err(|error: quarterdeck_protocol::api::UnknownRole| ("role", error.to_string())),
        FormPurpose::CreateProject => ProjectId::new(&text("id"))
            .map(|id| ApiRequest::CreateProject(CreateProject { id, name: text("name") }))
            .map_err(|error| ("id", error.to_string())),
        FormPurpose::CreateToken => token(form),
        FormPurpose::DeviceTags { ids } => return submit_tags(app, &dialog.form, ids),
        FormPurpose::Silence { ids } => {
            let duration_s = form.get("duration_s").map_or(3600, Field::preset);
            let silence = |id: &String| {
                Task::one(ApiRequest::SilenceAlert { id: id.clone(), duration_s }, id)
            };
            let mut effects = Vec::new();
            let tasks = ids.iter().map(silence).collect();
            perform::send(app, perform::on_rows("silence", tasks), &mut effects);
            return effects;
        }
        FormPurpose::SaveView => return pickers::save_view(app, &text("name")),
    };
    let mut effects = Vec::new();
    match call {
        Ok(call) => {
            let id = perform::call_with_id(app, call, Purpose::Form, &mut effects);
            dialog.pending = id;
        }
        Err((field, error)) => {
            dialog.form.blame(field, &error);
        }
    }
    app.overlay = Some(Overlay::Form(dialog));
    effects
}

fn token(form: &Form) -> Result<ApiRequest, (&'static str, String)> {
    let uses = form.text("uses").parse().ok().filter(|uses| *uses > 0);
    let uses = uses.ok_or(("uses", "expected 1 or more".to_owned()))?;
    let tags = pairs(&form.text("tags")).map_err(|error| ("tags", error))?;
    let expires_in_s = form.get("expires_in_s").map_or(3600, Field::preset);
    Ok(ApiRequest::CreateEnrollmentToken(CreateEnrollmentToken { uses, expires_in_s, tags }))
}

fn submit_tags(app: &mut App, form: &Form, ids: &[String]) -> Vec<Effect> {
    let tags: BTreeMap<String, String> = pairs(&form.text("tags")).unwrap_or_default();
    let tag = |id: &String| {
        let change = ChangeDevice { tags: Some(tags.clone()), kind: None };
        let call = ApiRequest::ChangeDevice { id: DeviceId::new(id).ok()?, change };
        Some(Task::one(call, id))
    };
    let tasks: Vec<Task> = ids.iter().filter_map(tag).collect();
    let mut effects = Vec::new();
    if tasks.is_empty() {
        app.toast("no device to tag", Tone::Warn);
    } else {
        perform::send(app, perform::on_rows("tags", tasks), &mut effects);
    }
    effects
}
