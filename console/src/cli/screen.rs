//! `quarterdeck` alone: the full-screen console.

use std::{io::IsTerminal as _, path::Path, time::Duration};

use etcetera::BaseStrategy as _;
use quarterdeck_protocol::api::Project;
use tokio::time::timeout;

use super::{
    context::Context,
    error::CliError,
    input,
    login::{self, LoginArgs},
    options::{GlobalArgs, TuiArgs, allowed, where_wrong},
    units::Span,
};
use crate::{
    net::session,
    tui::{
        self, Exit, TuiOptions, Wall,
        app::keymap::{Keymap, KeymapError},
    },
};

/// How long a page of the wall stays when nobody says.
const ROTATE_DEFAULT: Span = Span { seconds: 15 };
/// So many projects are named to who asks for one that is not there.
const PROJECTS_NAMED: u64 = 20;
/// How long the server may take to say whether there is the project. A slow one is shown as it is.
const PROJECT_WAIT: Duration = Duration::from_secs(2);

/// Reads which key does what, or says where the file is wrong.
fn read_keymap(path: &Path) -> Result<Keymap, CliError> {
    let text = input::text_file("--keymap", path)?;
    Keymap::parse(&text).map_err(|error| {
        let wrong = match &error {
            KeymapError::Toml(error) => where_wrong(&text, error),
            other => other.to_string(),
        };
        CliError::Usage(format!("--keymap {}: {wrong}", path.display()))
    })
}

/// Refuses a project that is not there for this login, with those that are. What else goes wrong
/// is the screen's to show: it says LOST, and waits.
async fn check_project(context: &Context) -> Result<(), CliError> {
    let asked = timeout(PROJECT_WAIT, context.project().settings()).await;
    let Ok(Err(refused)) = asked else { return Ok(()) };
    if !matches!(refused.status(), Some(403 | 404)) {
        return Ok(());
    }
    // What cannot be listed is not named: the refusal stands without.
    let listed = context.client.projects(Some(PROJECTS_NAMED)).all::<Project>().await;
    let projects: Vec<_> = listed.unwrap_or_default().iter().map(|p| p.id.to_string()).collect();
    let yours = match projects.as_slice() {
        [] => "an admin must make you a member of one".to_owned(),
        some => format!("choose one with --project: {}", some.join(", ")),
    };
    Err(CliError::Failed(format!("no project {} for this login; {yours}", context.project)))
}

/// Opens the console; signs in first when nobody has.
pub async fn run(options: &GlobalArgs, args: &TuiArgs) -> Result<(), CliError> {
    let is_wall = args.wall;
    let rotate = args.rotate.unwrap_or(ROTATE_DEFAULT);
    if rotate.seconds == 0 {
        return Err(CliError::Usage("--rotate: expected at least 1s".to_owned()));
    }
    let keymap = args.keymap.as_deref().map(read_keymap).transpose()?.unwrap_or_default();
    if !std::io::stdout().is_terminal() || !(is_wall || std::io::stdin().is_terminal()) {
        return Err(CliError::Usage(
            "the full-screen console needs a terminal; for scripts there are subcommands, see quarterdeck --help"
                .to_owned(),
        ));
    }
    let mut context = Context::new(options)?;
    if !context.client.has_credentials() {
        login::sign_in(options, &LoginArgs::default()).await?;
        context = Context::new(options)?;
    }
    check_project(&context).await?;
    let server = context.client.server().to_string();
    let tui_options = TuiOptions {
        server: server.split_once("://").map_or(server.clone(), |(_, host)| host.to_owned()),
        project: context.project.to_string(),
        program: context.program().clone(),
        read_only: args.read_only,
        wall: is_wall.then(|| Wall { rotate: rotate.duration() }),
        low_bandwidth: args.low_bandwidth,
        ascii: args.ascii.then_some(true),
        no_color: None,
        theme: args.theme.unwrap_or_default(),
        mouse: args.mouse,
        bell: args.bell,
        allowed: allowed(&args.allow),
        keymap,
        state_file: etcetera::choose_base_strategy().ok().map(|base| {
            base.state_dir()
                .unwrap_or_else(|| base.data_dir())
                .join("quarterdeck")
                .join("console.toml")
        }),
        export_dir: None,
    };
    let (handle, peer) = tui::net_channel();
    let Context { client, project, .. } = context;
    let network = tokio::spawn(session::serve(client, project, peer));
    let exit = tui::run(tui_options, handle).await;
    // The TUI's end is closed now, so this ends soon.
    let _ = network.await;
    match exit {
        Ok(Exit::Quit | Exit::Terminated) => Ok(()),
        Ok(Exit::SignedOut { why }) => Err(CliError::Failed(why)),
        Err(error) => Err(CliError::Failed(format!("{error:#}"))),
    }
}
