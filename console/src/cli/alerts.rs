//! `quarterdeck alerts`, `audit` and `operations`.

use clap::{Args, Subcommand, ValueEnum};
use quarterdeck_protocol::{
    api::{Alert, AuditEntry},
    operations::Operation,
};

use super::{
    context::Context,
    error::CliError,
    listing::{query, wanted, when},
    several::each,
    units::{Moment, Span},
};
use crate::net::api::Query;

#[derive(Debug, Args)]
pub struct AlertsArgs {
    #[command(subcommand)]
    command: Option<AlertsCommand>,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, Subcommand)]
enum AlertsCommand {
    /// List alerts (what `alerts` alone does)
    Ls(ListArgs),
    /// Say that you have seen alerts
    Ack {
        #[arg(required = true)]
        ids: Vec<String>,
    },
    /// Keep alerts quiet for a while
    Silence {
        #[arg(required = true)]
        ids: Vec<String>,
        /// How long: 30m, 4h, 7d
        #[arg(long = "for", value_name = "TIME", default_value = "1h")]
        duration: Span,
    },
}

#[derive(Debug, Default, PartialEq, Args)]
struct ListArgs {
    /// Only these: open, acknowledged, unacknowledged, resolved
    #[arg(
        long,
        value_name = "STATUS",
        value_parser = ["open", "acknowledged", "unacknowledged", "resolved"],
        hide_possible_values = true
    )]
    status: Option<String>,
    /// Only of this severity
    #[arg(long, value_name = "SEVERITY", value_enum)]
    severity: Option<SeverityArg>,
    /// Only of this kind, such as device_offline
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,
    /// Only of this device
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
    /// Only those with these words; !word for without, ~word for its letters in order
    #[arg(short, long = "query", value_name = "TEXT")]
    q: Option<String>,
    /// Order by a field; `-` before it for descending, as in --sort=-last_seen_at
    #[arg(long, value_name = "FIELD", allow_hyphen_values = true)]
    sort: Option<String>,
    /// At most so many
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
enum SeverityArg {
    Info,
    Warning,
    Critical,
}

impl ListArgs {
    fn query(&self) -> Query {
        let severity = self.severity.map(|severity| match severity {
            SeverityArg::Info => "info",
            SeverityArg::Warning => "warning",
            SeverityArg::Critical => "critical",
        });
        query([
            ("severity", severity.map(str::to_owned)),
            ("kind", self.kind.clone()),
            ("device", self.device.clone()),
            ("status", self.status.clone()),
            ("q", self.q.clone()),
            ("sort", self.sort.clone()),
        ])
    }
}

pub async fn alerts(context: &mut Context, args: AlertsArgs) -> Result<(), CliError> {
    let Context { client, project, printer, .. } = context;
    let api = client.project(project);
    let command = wanted(args.command, args.list, AlertsCommand::Ls)?;
    match command {
        AlertsCommand::Ls(list) => {
            printer.pages::<Alert>(api.alerts(list.query(), list.limit)).await?;
        }
        AlertsCommand::Ack { ids } => {
            each(&ids, async |id| api.acknowledge_alert(id).await).await.print(printer)?;
        }
        AlertsCommand::Silence { ids, duration } => {
            let silence = async |id: &String| api.silence_alert(id, duration.seconds).await;
            each(&ids, silence).await.print(printer)?;
        }
    }
    Ok(())
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  quarterdeck audit --actor ops-1 --from 1d
  quarterdeck audit --object device:pi-1 --outcome denied --output json")]
pub struct AuditArgs {
    /// Only by this user, service:NAME or device:ID
    #[arg(long, value_name = "WHO")]
    actor: Option<String>,
    /// Only this action, such as command.create
    #[arg(long, value_name = "WHAT")]
    action: Option<String>,
    /// Only on this, such as device:pi-1
    #[arg(long, value_name = "OBJECT")]
    object: Option<String>,
    /// Only with this outcome: ok, denied, failed
    #[arg(long, value_name = "OUTCOME", value_parser = ["ok", "denied", "failed"])]
    outcome: Option<String>,
    /// At this moment or later: RFC 3339, or how long ago, such as 2h
    #[arg(long, value_name = "TIME")]
    from: Option<Moment>,
    /// Before this moment
    #[arg(long, value_name = "TIME")]
    to: Option<Moment>,
    /// At most so many
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
}

pub async fn audit(context: &mut Context, args: AuditArgs) -> Result<(), CliError> {
    let Context { client, project, printer, .. } = context;
    let query = query([
        ("actor", args.actor),
        ("action", args.action),
        ("object", args.object),
        ("outcome", args.outcome),
        ("from", when(args.from)),
        ("to", when(args.to)),
    ]);
    printer.pages::<AuditEntry>(client.project(project).audit(query, args.limit)).await?;
    Ok(())
}

pub async fn operations(context: &mut Context) -> Result<(), CliError> {
    let Context { client, project, printer, .. } = context;
    printer.pages::<Operation>(client.project(project).operations(None)).await?;
    Ok(())
}
