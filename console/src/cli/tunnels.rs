//! `quarterdeck tunnels`: who has sessions with which devices.

use clap::{Args, Subcommand};
use quarterdeck_protocol::{
    api::{Tunnel, TunnelKind, TunnelStatus},
    ids::TunnelId,
    time::Timestamp,
    tunnel::close::CloseCode,
};

use super::{
    context::Context,
    error::CliError,
    listing::{query, wanted, when},
    rows::{Details, Row},
    several::each,
    table::{Cell, Tone},
    units::{Moment, age, moment, short_span},
};
use crate::net::{api::Query, clock};

#[derive(Debug, Args)]
pub struct TunnelsArgs {
    #[command(subcommand)]
    command: Option<TunnelsCommand>,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, Subcommand)]
enum TunnelsCommand {
    /// List tunnels, open and over (what `tunnels` alone does)
    Ls(ListArgs),
    /// Show one
    Show {
        #[arg(value_name = "TUNNEL")]
        id: TunnelId,
    },
    /// End tunnels: your own, or any for an admin
    #[command(visible_alias = "kill")]
    Close {
        #[arg(value_name = "TUNNEL", required = true)]
        ids: Vec<TunnelId>,
    },
}

#[derive(Debug, Default, PartialEq, Args)]
struct ListArgs {
    /// Only these: opening, open, stalled, closed, failed; several with commas
    #[arg(
        long,
        value_name = "STATUS",
        value_delimiter = ',',
        value_parser = ["opening", "open", "stalled", "closed", "failed"],
        hide_possible_values = true
    )]
    status: Vec<String>,
    /// Only these: terminal, exec, ssh, port_forward
    #[arg(
        long,
        value_name = "KIND",
        value_delimiter = ',',
        value_parser = ["terminal", "exec", "ssh", "port_forward"],
        hide_possible_values = true
    )]
    kind: Vec<String>,
    /// Only to this device
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
    /// Only this user's
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// Opened since: a time, or how long ago
    #[arg(long, value_name = "WHEN")]
    from: Option<Moment>,
    /// Opened until
    #[arg(long, value_name = "WHEN")]
    to: Option<Moment>,
    /// Order by a field; `-` before it for descending
    #[arg(long, value_name = "FIELD", allow_hyphen_values = true)]
    sort: Option<String>,
    /// At most so many
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
}

impl ListArgs {
    fn query(&self) -> Query {
        let some = |names: &[String]| (!names.is_empty()).then(|| names.join(","));
        query([
            ("status", some(&self.status)),
            ("kind", some(&self.kind)),
            ("device", self.device.clone()),
            ("user", self.user.clone()),
            ("from", when(self.from)),
            ("to", when(self.to)),
            ("sort", self.sort.clone()),
        ])
    }
}

pub async fn run(context: &mut Context, args: TunnelsArgs) -> Result<(), CliError> {
    let Context { client, project, printer, .. } = context;
    let api = client.project(project);
    let command = wanted(args.command, args.list, TunnelsCommand::Ls)?;
    match command {
        TunnelsCommand::Ls(list) => {
            printer.pages::<Tunnel>(api.tunnels(list.query(), list.limit)).await?;
        }
        TunnelsCommand::Show { id } => printer.item(&api.tunnel(id).await?, details)?,
        TunnelsCommand::Close { ids } => {
            each(&ids, async |id| api.close_tunnel(*id).await).await.print(printer)?;
        }
    }
    Ok(())
}

impl Row for Tunnel {
    const TITLES: &'static [&'static str] =
        &["ID", "DEVICE", "KIND", "STATUS", "BY", "AGE", "TOOK", "UP", "DOWN", "TO", "ENDED"];

    fn cells(&self, now: Timestamp) -> Vec<Cell> {
        let tone = match self.status {
            TunnelStatus::Opening => Tone::Plain,
            TunnelStatus::Open => Tone::Good,
            TunnelStatus::Stalled => Tone::Warning,
            TunnelStatus::Closed => Tone::Dim,
            TunnelStatus::Failed => Tone::Bad,
        };
        vec![
            Cell::new(self.id.to_string()),
            Cell::new(&self.device_id),
            Cell::new(self.kind.as_str()),
            Cell::new(self.status.as_str()).tone(tone),
            Cell::new(&self.user),
            Cell::new(age(self.created_at, now)),
            Cell::maybe(took(self)),
            Cell::new(self.bytes_up.to_string()),
            Cell::new(self.bytes_down.to_string()),
            Cell::new(target(self)),
            Cell::maybe(ended(self)),
        ]
    }
}

/// Why it is over; of a program also how that ended.
fn ended(tunnel: &Tunnel) -> Option<String> {
    let exit = tunnel.exit_code.map(|code| format!(", exit {code}")).unwrap_or_default();
    Some(format!("{}{exit}", tunnel.close_reason?.as_str()))
}

/// How long it was open.
fn took(tunnel: &Tunnel) -> Option<String> {
    let (opened, closed) = (tunnel.opened_at?, tunnel.closed_at?);
    Some(short_span(closed.millis_since(opened)))
}

/// What a tunnel leads to, in a few words.
fn target(tunnel: &Tunnel) -> String {
    match tunnel.kind {
        TunnelKind::Terminal if tunnel.argv.is_empty() => "login shell".to_owned(),
        TunnelKind::Terminal | TunnelKind::Exec => shell_words::join(&tunnel.argv),
        TunnelKind::Ssh | TunnelKind::PortForward => {
            let port = tunnel.listen_port.or(tunnel.port);
            let port = port.map_or_else(|| "?".to_owned(), |port| port.to_string());
            let place = format!("{}:{port}", tunnel.host.as_deref().unwrap_or("127.0.0.1"));
            if tunnel.reverse { format!("from {place}") } else { place }
        }
    }
}

fn details(tunnel: &Tunnel) -> String {
    let now = clock::now();
    let when = |at: Option<Timestamp>| at.map(|at| moment(at, now));
    Details::default()
        .field("id", tunnel.id.to_string())
        .field("device", &tunnel.device_id)
        .field("kind", tunnel.kind.as_str())
        .field("to", target(tunnel))
        .field("status", tunnel.status.as_str())
        .maybe("ended", tunnel.close_reason.map(CloseCode::as_str))
        .maybe("because", tunnel.close_message.as_ref())
        .maybe("exit code", tunnel.exit_code.map(|code| code.to_string()))
        .field("by", &tunnel.user)
        .field("attached consoles", tunnel.attached.to_string())
        .field("bytes to the device", tunnel.bytes_up.to_string())
        .field("bytes from the device", tunnel.bytes_down.to_string())
        .maybe("recording", tunnel.recording_id.as_ref())
        .field("created", moment(tunnel.created_at, now))
        .maybe("opened", when(tunnel.opened_at))
        .maybe("last activity", when(tunnel.last_activity_at))
        .maybe("closed", when(tunnel.closed_at))
        .maybe("took", took(tunnel))
        .finish()
}
