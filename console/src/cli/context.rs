//! What a subcommand works with: a client, a project, a printer.

use std::path::PathBuf;

use quarterdeck_protocol::ids::ProjectId;

use super::{error::CliError, input, line::Program, options::GlobalArgs, output::Printer};
use crate::net::{
    Client, ClientOptions,
    api::InProject,
    auth::{Credentials, GivenToken, Keeper, Session},
    profile::{DEFAULT_PROFILE, Profile, Profiles, Secret},
    server::{DEFAULT_SERVER, Server},
};

/// The environment's stand-in for a login.
const TOKEN_VARIABLE: &str = "QUARTERDECK_TOKEN";
pub const DEFAULT_PROJECT: &str = "default";

/// A client that is ready, and where its results go.
#[derive(Debug)]
pub struct Context {
    pub client: Client,
    pub project: ProjectId,
    pub printer: Printer,
    program: Program,
}

impl Context {
    /// Makes a context from options, environment and the remembered login. Speaks to nobody yet.
    pub fn new(options: &GlobalArgs) -> Result<Self, CliError> {
        let place = Place::find(options)?;
        Ok(Self {
            client: place.client(place.credentials(options)?)?,
            program: place.program(),
            project: place.project,
            printer: Printer::stdout(options.output.unwrap_or_default()),
        })
    }

    /// How this program is called again.
    pub const fn program(&self) -> &Program {
        &self.program
    }

    /// A command line for a hint: it reaches the same login and project.
    pub fn line(&self, rest: &str) -> String {
        self.program.line(self.project.as_str(), rest)
    }

    pub fn project(&self) -> InProject<'_> {
        self.client.project(&self.project)
    }
}

/// Where the options point to.
#[derive(Debug)]
pub struct Place {
    pub server: Server,
    pub project: ProjectId,
    pub profiles: Profiles,
    pub profile_name: String,
    /// The remembered login, where it is for this server.
    pub profile: Option<Profile>,
    pub allow_plaintext: bool,
    pub ca_file: Option<PathBuf>,
}

impl Place {
    /// Finds server, project and login. A token that was given stands for a login: then the
    /// remembered one counts only when it is asked for by name, so no token goes to a server that
    /// its owner did not mean.
    pub fn find(options: &GlobalArgs) -> Result<Self, CliError> {
        let profiles = Profiles::of_user()?;
        let profile_name = options.profile.clone().unwrap_or_else(|| DEFAULT_PROFILE.to_owned());
        let is_wanted = options.profile.is_some() || !has_token(options);
        let remembered = if is_wanted { profiles.load(&profile_name)? } else { None };
        let url = options
            .server
            .clone()
            .or_else(|| remembered.as_ref().map(|profile| profile.server.clone()))
            .unwrap_or_else(|| DEFAULT_SERVER.to_owned());
        let is_same = |profile: &Profile| {
            Server::new(&profile.server, true).ok() == Server::new(&url, true).ok()
        };
        let profile = remembered.filter(is_same);
        let allow_plaintext = options.allow_plaintext
            || profile.as_ref().is_some_and(|profile| profile.allow_plaintext);
        let project = options
            .project
            .as_deref()
            .or(profile.as_ref().map(|profile| profile.project.as_str()))
            .unwrap_or(DEFAULT_PROJECT);
        Ok(Self {
            server: Server::new(&url, allow_plaintext)?,
            project: project.parse().map_err(|e| CliError::Usage(format!("{e}")))?,
            profiles,
            profile_name,
            allow_plaintext,
            ca_file: options
                .ca_file
                .clone()
                .or_else(|| profile.as_ref().and_then(|profile| profile.ca_file.clone())),
            profile,
        })
    }

    fn program(&self) -> Program {
        let home = self.profile.as_ref().map(|profile| profile.project.clone());
        Program::new(&self.profile_name, home)
    }

    pub fn client(&self, credentials: Credentials) -> Result<Client, CliError> {
        Ok(Client::new(ClientOptions {
            server: self.server.clone(),
            credentials,
            ca_file: self.ca_file.clone(),
            profile: self.profile_name.clone(),
        })?)
    }

    /// The token that was given, else the remembered login.
    pub fn credentials(&self, options: &GlobalArgs) -> Result<Credentials, CliError> {
        if let Some(token) = given_token(options)? {
            return Ok(Credentials::Token(token));
        }
        Ok(self.remembered_credentials())
    }

    /// The remembered login, whatever token was given.
    pub fn remembered_credentials(&self) -> Credentials {
        let tokens = self.profile.as_ref().and_then(|profile| profile.tokens.clone());
        let Some((profile, tokens)) = self.profile.as_ref().zip(tokens) else {
            return Credentials::None;
        };
        let keeper = Keeper {
            profiles: self.profiles.clone(),
            name: self.profile_name.clone(),
            server: profile.server.clone(),
        };
        Credentials::Session(Session::new(tokens, Some(keeper)))
    }
}

fn has_token(options: &GlobalArgs) -> bool {
    options.token_file.is_some() || std::env::var_os(TOKEN_VARIABLE).is_some_and(|v| !v.is_empty())
}

fn given_token(options: &GlobalArgs) -> Result<Option<GivenToken>, CliError> {
    let (token, from) = if let Some(path) = &options.token_file {
        (input::secret_file("--token-file", path)?, format!("--token-file {}", path.display()))
    } else {
        match std::env::var(TOKEN_VARIABLE) {
            Ok(token) if !token.is_empty() => {
                (Secret::new(token.trim()), TOKEN_VARIABLE.to_owned())
            }
            Ok(_) | Err(std::env::VarError::NotPresent) => return Ok(None),
            Err(std::env::VarError::NotUnicode(_)) => {
                return Err(CliError::Usage(format!("{TOKEN_VARIABLE}: expected a token")));
            }
        }
    };
    let is_token =
        !token.reveal().is_empty() && token.reveal().bytes().all(|b| b.is_ascii_graphic());
    if is_token {
        Ok(Some(GivenToken { token, from }))
    } else {
        Err(CliError::Usage(format!("{from}: expected a token")))
    }
}
