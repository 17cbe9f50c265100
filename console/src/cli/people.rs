//! `quarterdeck users`, `members` and `projects`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use quarterdeck_protocol::{
    api::{ChangeUser, CreateProject, CreateUser, Member, Project, ProjectSettings, Role, User},
    ids::ProjectId,
};
use serde_json::Value;

use super::{
    context::Context,
    error::CliError,
    input::{self, PasswordSource},
    rows::Details,
    units::Pair,
};

#[derive(Debug, Args)]
pub struct UsersArgs {
    #[command(subcommand)]
    command: Option<UsersCommand>,
}

#[derive(Debug, Subcommand)]
enum UsersCommand {
    /// List users (what `users` alone does)
    Ls,
    /// Create a user
    Create {
        username: String,
        /// A file whose first line is the password; else it is asked for, or read from stdin
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
        /// A server admin: every role in every project
        #[arg(long)]
        admin: bool,
    },
    /// Set a user's password
    Passwd {
        username: String,
        /// A file whose first line is the password; else it is asked for, or read from stdin
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
    },
    /// Lock a user out; open sessions end
    Disable { username: String },
    /// Let a user in again
    Enable { username: String },
}

pub async fn users(context: &mut Context, args: UsersArgs) -> Result<(), CliError> {
    let set_role = context.line("members set");
    let Context { client, printer, .. } = context;
    let new_password = |file: &Option<PathBuf>, username: &str| {
        let source = PasswordSource { file: file.as_deref(), is_new: true };
        input::password(source, &format!("New password of {username}"))
    };
    let (username, change) = match args.command.unwrap_or(UsersCommand::Ls) {
        UsersCommand::Ls => {
            printer.pages::<User>(client.users(None)).await?;
            return Ok(());
        }
        UsersCommand::Create { username, password_file, admin } => {
            let password = new_password(&password_file, &username)?.reveal().to_owned();
            let user = client.create_user(&CreateUser { username, password, admin }).await?;
            let sentence = format!("created {}; give a role with: {set_role}", user.username);
            return printer.done(&[user], &sentence);
        }
        UsersCommand::Passwd { username, password_file } => {
            let password = Some(new_password(&password_file, &username)?.reveal().to_owned());
            (username, ChangeUser { password, ..ChangeUser::default() })
        }
        UsersCommand::Disable { username } => {
            (username, ChangeUser { disabled: Some(true), ..ChangeUser::default() })
        }
        UsersCommand::Enable { username } => {
            (username, ChangeUser { disabled: Some(false), ..ChangeUser::default() })
        }
    };
    let user = client.change_user(&username, &change).await?;
    let done = if change.password.is_some() {
        "new password set"
    } else if user.disabled {
        "disabled"
    } else {
        "enabled"
    };
    printer.done(&[user], &format!("{username}: {done}"))
}

#[derive(Debug, Args)]
pub struct MembersArgs {
    #[command(subcommand)]
    command: Option<MembersCommand>,
}

#[derive(Debug, Subcommand)]
enum MembersCommand {
    /// List who may do what in the project (what `members` alone does)
    Ls,
    /// Give a user a role in the project: viewer, operator or admin
    Set { username: String, role: Role },
    /// Take a user's role in the project away
    Remove { username: String },
}

pub async fn members(context: &mut Context, args: MembersArgs) -> Result<(), CliError> {
    let Context { client, project, printer, .. } = context;
    let api = client.project(project);
    match args.command.unwrap_or(MembersCommand::Ls) {
        MembersCommand::Ls => {
            printer.pages::<Member>(api.members(None)).await?;
            Ok(())
        }
        MembersCommand::Set { username, role } => {
            let member = api.set_member(&username, role).await?;
            printer.done(&[member], &format!("{username} is {} in {project}", role.as_str()))
        }
        MembersCommand::Remove { username } => {
            api.remove_member(&username).await?;
            printer.done::<Member>(&[], &format!("{username} has no role in {project} any more"))
        }
    }
}

#[derive(Debug, Args)]
pub struct ProjectsArgs {
    #[command(subcommand)]
    command: Option<ProjectsCommand>,
}

#[derive(Debug, Subcommand)]
enum ProjectsCommand {
    /// List projects (what `projects` alone does)
    Ls,
    /// Create a project
    Create {
        id: ProjectId,
        /// For people
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        name: String,
    },
    /// Show the project's settings, or change some: `reboot_limit=5 record_terminals=true`
    Settings {
        #[arg(value_name = "KEY=VALUE")]
        changes: Vec<Pair>,
    },
}

pub async fn projects(context: &mut Context, args: ProjectsArgs) -> Result<(), CliError> {
    let Context { client, project, printer, .. } = context;
    match args.command.unwrap_or(ProjectsCommand::Ls) {
        ProjectsCommand::Ls => {
            printer.pages::<Project>(client.projects(None)).await?;
            Ok(())
        }
        ProjectsCommand::Create { id, name } => {
            let project = client.create_project(&CreateProject { id, name }).await?;
            let sentence = format!("created {}", project.id);
            printer.done(&[project], &sentence)
        }
        ProjectsCommand::Settings { changes } => {
            let api = client.project(project);
            let mut settings = api.settings().await?;
            if !changes.is_empty() {
                settings = api.change_settings(&changed(&settings.value, &changes)?).await?;
            }
            printer.item(&settings, |settings| {
                let fields = serde_json::to_value(settings).unwrap_or_default();
                let fields = fields.as_object().cloned().unwrap_or_default();
                fields
                    .iter()
                    .fold(Details::default(), |details, (key, value)| {
                        details.field(
                            key,
                            value.as_str().map_or_else(|| value.to_string(), str::to_owned),
                        )
                    })
                    .finish()
            })
        }
    }
}

fn changed(settings: &ProjectSettings, changes: &[Pair]) -> Result<ProjectSettings, CliError> {
    let mut fields = serde_json::to_value(settings).unwrap_or_default();
    for Pair { key, value } in changes {
        let expected = |what: &str| CliError::Usage(format!("{key}={value}: expected {what}"));
        // A setting keeps the type that it has.
        fields[key] = match fields.get(key) {
            Some(Value::Number(_)) => {
                value.parse::<u32>().map_err(|_| expected("a number"))?.into()
            }
            Some(Value::Bool(_)) => {
                value.parse::<bool>().map_err(|_| expected("true or false"))?.into()
            }
            Some(_) => Value::from(value.as_str()),
            None => {
                let known: Vec<_> =
                    fields.as_object().into_iter().flatten().map(|(k, _)| k.as_str()).collect();
                return Err(CliError::Usage(format!(
                    "{key}: expected one of {}",
                    known.join(", ")
                )));
            }
        };
        serde_json::from_value::<ProjectSettings>(fields.clone())
            .map_err(|e| expected(&e.to_string()))?;
    }
    serde_json::from_value(fields).map_err(|e| CliError::Usage(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_change_by_name() {
        let pair = |text: &str| text.parse::<Pair>().expect("a pair");
        let before = ProjectSettings::default();
        let after = changed(&before, &[pair("reboot_limit=5")]).expect("valid");
        assert_eq!(after, ProjectSettings { reboot_limit: 5, ..before.clone() });
        let error = changed(&before, &[pair("reboots=5")]).expect_err("unknown").to_string();
        assert!(error.contains("reboot_limit"), "{error}");
        assert!(changed(&before, &[pair("reboot_limit=lots")]).is_err());
        let pairs = [pair("record_terminals=true"), pair("production_tunnel_role=admin")];
        let after = changed(&before, &pairs).expect("valid");
        assert!(after.record_terminals);
        assert_eq!(after.production_tunnel_role.as_str(), "admin");
        let error = changed(&before, &[pair("record_terminals=2")]).expect_err("no truth");
        assert!(error.to_string().contains("expected true or false"), "{error}");
        let error = changed(&before, &[pair("production_tunnel_role=boss")]).expect_err("no role");
        assert!(error.to_string().contains("production_tunnel_role=boss"), "{error}");
    }
}
