//! `quarterdeck login` and `logout`.

use std::path::PathBuf;

use clap::Args;
use quarterdeck_protocol::api::Me;

use super::{
    context::Place,
    error::CliError,
    input::{self, PasswordSource},
    options::GlobalArgs,
    output::{Printer, note},
};
use crate::net::{
    ApiError,
    api::Item,
    auth::{Credentials, Session},
    profile::Profile,
};

#[derive(Debug, Clone, Default, Args)]
pub struct LoginArgs {
    /// Who to sign in as; asked for when absent
    #[arg(long, short = 'u', value_name = "USER", env = "QUARTERDECK_USERNAME")]
    pub username: Option<String>,
    /// A file whose first line is the password; else it is asked for, or read from stdin
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
}

/// Signs in and remembers it.
pub async fn login(options: &GlobalArgs, args: &LoginArgs) -> Result<(), CliError> {
    // A token of the environment must not keep anyone from signing in.
    let me = sign_in(options, args).await?;
    let mut printer = Printer::stdout(options.output.unwrap_or_default());
    if printer.is_json() { printer.done(&[me], "") } else { Ok(()) }
}

/// Signs in, remembers it, and says who one is now.
pub async fn sign_in(options: &GlobalArgs, args: &LoginArgs) -> Result<Item<Me>, CliError> {
    let place = Place::find(options)?;
    let username = match &args.username {
        Some(username) => username.clone(),
        None => input::ask(&format!("User name at {}: ", place.server))?
            .filter(|typed| !typed.is_empty())
            .ok_or_else(|| CliError::Usage("expected --username USER".to_owned()))?,
    };
    let source = PasswordSource { file: args.password_file.as_deref(), is_new: false };
    let password = input::password(source, &format!("Password of {username}"))?;
    let tokens = place.client(Credentials::None)?.login(&username, &password).await?;
    let session = Credentials::Session(Session::new(tokens.clone(), None));
    let me = place.client(session)?.me().await?;

    let profile = Profile {
        server: place.server.to_string(),
        project: place.project.to_string(),
        username: me.username.clone(),
        allow_plaintext: place.allow_plaintext,
        ca_file: absolute(place.ca_file.clone())?,
        tokens: Some(tokens),
    };
    let (profiles, name) = (place.profiles.clone(), place.profile_name.clone());
    let saved = tokio::task::spawn_blocking(move || {
        let _lock = profiles.lock(&name)?;
        profiles.save(&name, &profile)
    });
    saved.await.map_err(|e| CliError::Failed(e.to_string()))??;

    note(&format!("Signed in to {} as {}, project {}", place.server, me.username, place.project));
    if !me.admin && !me.projects.contains_key(place.project.as_str()) {
        note(&format!(
            "{} has no role in project {}; choose another with --project",
            me.username, place.project
        ));
    }
    Ok(me)
}

/// Ends the login, here and at the server.
pub async fn logout(options: &GlobalArgs) -> Result<(), CliError> {
    let place = Place::find(options)?;
    let mut printer = Printer::stdout(options.output.unwrap_or_default());
    let Some(profile) = place.profile.clone().filter(|profile| profile.tokens.is_some()) else {
        note(&format!("Not signed in to {}", place.server));
        return if printer.is_json() { printer.json(&[]) } else { Ok(()) };
    };
    let told = match place.remembered_credentials() {
        Credentials::None => Ok(()),
        credentials => place.client(credentials)?.logout().await,
    };
    let forgotten = Profile { tokens: None, ..profile };
    let (profiles, name) = (place.profiles.clone(), place.profile_name.clone());
    let saved = tokio::task::spawn_blocking(move || {
        let _lock = profiles.lock(&name)?;
        profiles.save(&name, &forgotten)
    });
    saved.await.map_err(|e| CliError::Failed(e.to_string()))??;
    match told {
        Ok(()) | Err(ApiError::SignedOut { .. }) => {}
        Err(error) => {
            return Err(CliError::Failed(format!(
                "the login is forgotten here, but the server was not told: {error}"
            )));
        }
    }
    note(&format!("Signed out of {}", place.server));
    if printer.is_json() { printer.json(&[]) } else { Ok(()) }
}

/// A path that is good from every folder.
fn absolute(path: Option<PathBuf>) -> Result<Option<PathBuf>, CliError> {
    path.map(std::path::absolute).transpose().map_err(CliError::from)
}
