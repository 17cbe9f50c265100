//! `quarterdeck ssh-config`: what ssh needs to know to reach devices.
//!
//! ssh hands `ProxyCommand` to the user's shell, after it put in its own tokens
//! (`%p`). So every word is quoted for the shell, and `%` doubled.

use clap::Args;
use quarterdeck_protocol::{api::Device, device::DeviceStatus, ids::DeviceId};
use std::fmt::Write as _;

use super::{context::Context, error::CliError, options::GlobalArgs, output::note};
use crate::net::api::{Item, Query};

#[derive(Debug, Clone, Args)]
#[command(after_help = EXAMPLES)]
pub struct SshConfigArgs {
    /// Only these devices [default: all of the project that run an agent]
    #[arg(value_name = "DEVICE")]
    devices: Vec<String>,
    /// Before the name that ssh is given, as in `ssh qd-pi-1`
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    prefix: String,
    /// The user on the devices
    #[arg(long, value_name = "USER")]
    user: Option<String>,
}

const EXAMPLES: &str = "Examples:
  quarterdeck ssh-config pi-1 >> ~/.ssh/config
  quarterdeck ssh-config --prefix qd- > ~/.ssh/quarterdeck    and in ~/.ssh/config: Include quarterdeck
  ssh pi-1; scp file pi-1:; rsync -a folder pi-1:             then go through tunnels

The block names this program, the server and the project, and holds no secret: `quarterdeck login`
must have been done.";

pub async fn run(
    context: &mut Context,
    options: &GlobalArgs,
    args: SshConfigArgs,
) -> Result<(), CliError> {
    check_word("--prefix", &args.prefix)?;
    if let Some(user) = &args.user {
        check_word("--user", user)?;
    }
    let devices = if args.devices.is_empty() {
        let listed: Vec<Item<Device>> = context.project().devices(Query::new(), None).all().await?;
        let (reached, others): (Vec<_>, Vec<_>) =
            listed.iter().partition(|device| out_of_reach(device).is_none());
        let left_out: Vec<String> = (others.iter())
            .filter_map(|device| Some(format!("{} ({})", device.id, out_of_reach(device)?)))
            .collect();
        if !left_out.is_empty() {
            note(&format!("quarterdeck: left out: {}", left_out.join(", ")));
        }
        reached.into_iter().map(|device| device.id.clone()).collect()
    } else {
        let parse = |name: &String| {
            name.parse::<DeviceId>().map_err(|e| CliError::Usage(format!("DEVICE: {e}")))
        };
        let named = args.devices.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
        // A block for no device would be found out by ssh, and not where it was asked for.
        for device in &named {
            let known = context.project().device(device).await?;
            if known.status == DeviceStatus::Retired {
                return Err(CliError::Failed(format!(
                    "{device} is retired: no tunnel leads there"
                )));
            }
        }
        named
    };
    let program = std::env::current_exe()?;
    let program = program.to_str().ok_or_else(|| {
        CliError::Failed("this program's path is no text that ssh could be given".to_owned())
    })?;
    let mut words = vec![program.to_owned()];
    let mut add = |option: &str, value: String| words.extend([option.to_owned(), value]);
    add("--server", context.client.server().to_string());
    add("--project", context.project.to_string());
    if let Some(profile) = &options.profile {
        add("--profile", profile.clone());
    }
    for (option, file) in [("--token-file", &options.token_file), ("--ca-file", &options.ca_file)] {
        if let Some(file) = file {
            add(option, std::path::absolute(file)?.to_string_lossy().into_owned());
        }
    }
    if options.allow_plaintext {
        words.push("--allow-plaintext".to_owned());
    }
    let mut shown = String::new();
    for device in &devices {
        shown.push_str(&block(&args, &context.project, device, &words)?);
    }
    context.printer.text(&shown)
}

/// Why no tunnel leads to a device, whatever its owner allows.
const fn out_of_reach(device: &Device) -> Option<&'static str> {
    match (device.status, &device.agent_version) {
        (DeviceStatus::Retired, _) => Some("retired"),
        (_, None) => Some("no agent was heard there"),
        (_, Some(_)) => None,
    }
}

/// Words of ssh's own file that we do not quote.
fn check_word(option: &str, word: &str) -> Result<(), CliError> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if word.chars().all(is_plain) {
        return Ok(());
    }
    Err(CliError::Usage(format!("{option}: expected letters, digits, '-', '_' and '.' alone")))
}

fn block(
    args: &SshConfigArgs,
    project: &quarterdeck_protocol::ids::ProjectId,
    device: &DeviceId,
    words: &[String],
) -> Result<String, CliError> {
    let mut words = words.to_vec();
    words.extend(["proxy".to_owned(), device.to_string()]);
    let command = proxy_command(&words)?;
    let mut block = format!("Host {}{device}\n", args.prefix);
    let mut line = |text: String| {
        let _ = writeln!(block, "    {text}");
    };
    line(format!("HostName {device}"));
    // The key belongs to the device, whatever it is called here.
    line(format!("HostKeyAlias {device}.{project}.quarterdeck"));
    if let Some(user) = &args.user {
        line(format!("User {user}"));
    }
    line(format!("ProxyCommand {command} %p"));
    Ok(block)
}

/// A command line for ssh: quoted for the shell, without tokens of ssh's.
fn proxy_command(words: &[String]) -> Result<String, CliError> {
    if words.iter().any(|word| word.contains(['\n', '\r', '\0'])) {
        let why = "a path or option has a line break, which ssh's configuration cannot hold";
        return Err(CliError::Failed(why.to_owned()));
    }
    Ok(shell_words::join(words).replace('%', "%%"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_safe_from_the_shell_and_from_ssh() {
        let words = ["/opt/a b/quarter%deck", "--server", "http://x/?a=$(id)", "it's"];
        let command = proxy_command(&words.map(str::to_owned)).expect("no line breaks");
        assert_eq!(shell_words::split(&command.replace("%%", "%")).expect("quoted"), words);
        assert!(command.contains("quarter%%deck"), "{command}");
        assert!(proxy_command(&["a\nHost *".to_owned()]).is_err());
        assert!(check_word("--user", "root\n").is_err());
        assert!(check_word("--prefix", "*").is_err());
    }
}
