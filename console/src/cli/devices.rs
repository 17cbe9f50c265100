//! `quarterdeck devices …`

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use quarterdeck_protocol::{
    api::{ChangeDevice, Command, Device, DeviceHealth, TimelineEntry},
    device::DeviceStatus,
    ids::DeviceId,
    time::Timestamp,
};

use super::{
    context::Context,
    error::CliError,
    input,
    listing::{one_of, query, wanted},
    rows::{self, Details},
    several::each,
    units::{Pair, moment},
};
use crate::net::{api::Query, clock};

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct DevicesArgs {
    #[command(subcommand)]
    command: Option<DevicesCommand>,
    #[command(flatten)]
    list: ListArgs,
}

const EXAMPLES: &str = "Examples:
  quarterdeck devices                                    all devices
  quarterdeck devices --status offline,stale             what is away
  quarterdeck devices --tag site=fra1 --tag environment=production
  quarterdeck devices -q raspberry --sort -last_seen_at  words in id, type, tags and facts
  quarterdeck devices --service-failed --output json
  quarterdeck devices tag pi-1 site=fra1 rack-           sets site, removes rack";

#[derive(Debug, Subcommand)]
enum DevicesCommand {
    /// List devices (what `devices` alone does)
    Ls(ListArgs),
    /// Show all there is to know of a device
    Show { id: DeviceId },
    /// Set tags (`key=value`) and remove tags (`key-`)
    Tag {
        id: DeviceId,
        #[arg(required = true, value_name = "KEY=VALUE|KEY-")]
        tags: Vec<String>,
    },
    /// Take devices out of service: they cannot sign in any more
    Retire {
        #[arg(required = true)]
        ids: Vec<DeviceId>,
        /// Do not ask; needed where there is no terminal to ask on
        #[arg(long, short = 'y')]
        yes: bool,
    },
    /// Let a device that exists already, or is retired, enrol once more
    EnrollAgain { id: DeviceId },
    /// Clear the mark that a service of the device gave up
    ClearServiceFailed { id: DeviceId },
    /// Show the last health report
    Health { id: DeviceId },
    /// List the device's commands
    Commands {
        id: DeviceId,
        /// At most so many
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        limit: Option<u64>,
    },
    /// Show what happened to the device
    Timeline {
        id: DeviceId,
        /// At most so many
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        limit: Option<u64>,
    },
}

#[derive(Debug, Default, PartialEq, Args)]
struct ListArgs {
    /// Only these: online, stale, offline, retired
    #[arg(
        long,
        value_name = "STATUS",
        value_delimiter = ',',
        value_parser = one_of::<DeviceStatus>(DeviceStatus::ALL.map(DeviceStatus::as_str)),
        hide_possible_values = true
    )]
    status: Vec<DeviceStatus>,
    /// Only of this type
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// Only with this tag; several must all match
    #[arg(long, value_name = "KEY=VALUE")]
    tag: Vec<Pair>,
    /// Only those with these words; !word for without, ~word for its letters in order
    #[arg(short, long = "query", value_name = "TEXT")]
    q: Option<String>,
    /// Only those with a crashed process
    #[arg(long)]
    crashed: bool,
    /// Only those with a service that gave up
    #[arg(long)]
    service_failed: bool,
    /// Order by a field; `-` before it for descending, as in --sort=-last_seen_at
    #[arg(long, value_name = "FIELD", allow_hyphen_values = true)]
    sort: Option<String>,
    /// At most so many
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
}

impl ListArgs {
    fn query(&self) -> Query {
        let status: Vec<_> = self.status.iter().map(|status| status.as_str()).collect();
        let tags: Vec<_> =
            self.tag.iter().map(|Pair { key, value }| format!("{key}={value}")).collect();
        query([
            ("status", (!status.is_empty()).then(|| status.join(","))),
            ("type", self.kind.clone()),
            ("tag", (!tags.is_empty()).then(|| tags.join(","))),
            ("q", self.q.clone()),
            ("crashed", self.crashed.then(|| "true".to_owned())),
            ("service_failed", self.service_failed.then(|| "true".to_owned())),
            ("sort", self.sort.clone()),
        ])
    }
}

pub async fn run(context: &mut Context, args: DevicesArgs) -> Result<(), CliError> {
    let Context { client, project, printer, .. } = context;
    let api = client.project(project);
    let command = wanted(args.command, args.list, DevicesCommand::Ls)?;
    match command {
        DevicesCommand::Ls(list) => {
            printer.pages::<Device>(api.devices(list.query(), list.limit)).await?;
        }
        DevicesCommand::Show { id } => {
            let device = api.device(&id).await?;
            printer.item(&device, |device| show(device, clock::now()))?;
        }
        DevicesCommand::Tag { id, tags } => {
            let mut all = api.device(&id).await?.value.tags;
            apply_tags(&mut all, &tags)?;
            let change = ChangeDevice { tags: Some(all), kind: None };
            let device = api.change_device(&id, &change).await?;
            let sentence = format!("{id}: {}", rows::tags(&device.tags));
            printer.done(&[device], &sentence)?;
        }
        DevicesCommand::Retire { ids, yes } => {
            if !yes {
                let (what, expected) = match ids.as_slice() {
                    [id] => (format!("{id} will not be able to sign in any more"), id.to_string()),
                    ids => (
                        format!("{} devices will not be able to sign in any more", ids.len()),
                        ids.len().to_string(),
                    ),
                };
                input::confirm(&what, &expected)?;
            }
            let several = each(&ids, async |id| api.retire_device(id).await).await;
            if printer.is_json() || !several.done.is_empty() {
                let names: Vec<_> = several.done.iter().map(|device| device.id.as_str()).collect();
                printer.done(&several.done, &format!("retired {}", names.join(" ")))?;
            }
            several.end()?;
        }
        DevicesCommand::EnrollAgain { id } => {
            let device = api.enroll_again(&id).await?;
            printer.done(&[device], &format!("{id}: may enrol again"))?;
        }
        DevicesCommand::ClearServiceFailed { id } => {
            let device = api.clear_service_failed(&id).await?;
            printer.done(&[device], &format!("{id}: cleared"))?;
        }
        DevicesCommand::Health { id } => {
            let health = api.device_health(&id).await?;
            printer.item(&health, |health| show_health(health, clock::now()))?;
        }
        DevicesCommand::Commands { id, limit } => {
            printer.pages::<Command>(api.device_commands(&id, Query::new(), limit)).await?;
        }
        DevicesCommand::Timeline { id, limit } => {
            printer.pages::<TimelineEntry>(api.device_timeline(&id, limit)).await?;
        }
    }
    Ok(())
}

/// `key=value` sets, `key-` removes.
fn apply_tags(tags: &mut BTreeMap<String, String>, changes: &[String]) -> Result<(), CliError> {
    for change in changes {
        if let Ok(Pair { key, value }) = change.parse() {
            tags.insert(key, value);
        } else if let Some(key) = change.strip_suffix('-').filter(|key| !key.is_empty()) {
            tags.remove(key);
        } else {
            return Err(CliError::Usage(format!(
                "{change:?}: expected key=value, or key- to remove one"
            )));
        }
    }
    Ok(())
}

fn show(device: &Device, now: Timestamp) -> String {
    let when = |at: Option<Timestamp>| at.map(|at| moment(at, now));
    let failed = device.service_failed.as_ref().map(|failed| {
        format!("{} ({}) since {}", failed.unit, failed.reason, moment(failed.at, now))
    });
    let broker = &device.broker_connection;
    let mut details = Details::default()
        .field("id", &device.id)
        .field("status", device.status.as_str())
        .field("type", &device.kind)
        .field("tags", rows::tags(&device.tags))
        .maybe("last seen", when(device.last_seen_at))
        .maybe("not heard since", when(device.unheard_since))
        .maybe("agent version", device.agent_version.as_ref())
        .field("contract", &device.contract)
        .maybe("processes", device.process_status.as_ref())
        .maybe("service failed", failed)
        .maybe("deployment", device.active_deployment.as_ref())
        .field("open commands", device.open_commands.to_string())
        .field("reconnects", broker.reconnect_count.to_string())
        .maybe("last disconnect", when(broker.last_disconnect_at))
        .maybe("clock ahead", device.clock_offset_ms.map(|ms| format!("{ms} ms")))
        .field("enrolled", moment(device.enrolled_at, now))
        .maybe("retired", when(device.retired_at))
        .field("operations", device.capabilities.join(" "));
    for (name, fact) in &device.facts {
        let fact = fact.as_str().map_or_else(|| fact.to_string(), str::to_owned);
        details = details.field("fact", format!("{name} = {fact}"));
    }
    details.finish()
}

fn show_health(health: &DeviceHealth, now: Timestamp) -> String {
    let received = health.received_at.map_or_else(|| "never".to_owned(), |at| moment(at, now));
    Details::default().field("received", received).json("report", health.report.as_ref()).finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_set_and_removed() {
        let mut tags = BTreeMap::from([("rack".to_owned(), "7".to_owned())]);
        let changes = ["site=fra1".to_owned(), "rack-".to_owned(), "note=a=b".to_owned()];
        apply_tags(&mut tags, &changes).expect("valid");
        assert_eq!(rows::tags(&tags), "note=a=b site=fra1");
        assert!(apply_tags(&mut tags, &["nonsense".to_owned()]).is_err());
    }
}
