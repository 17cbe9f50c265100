//! What becomes of a request: one method for each thing that may be asked.

use std::collections::BTreeMap;

use quarterdeck_protocol::{
    api::{
        Alert, CancelCommands, CancelledCommands, ChangeDevice, ChangeUser, Command,
        CreateCommands, CreateEnrollmentToken, CreateProject, CreateUser, CreatedCommands, Device,
        DeviceHealth, EnrollmentToken, Member, Problem, Project, Role, User,
    },
    command::CommandStatus as S,
    device::DeviceStatus,
    ids::{BatchId, CommandId, ProjectId},
    operations,
};
use serde_json::json;

use super::{
    FakeFleet, PROJECT, USERNAME,
    making::{command_id, mix},
};

/// A request's answer, or why there is none.
pub type Answer<T> = Result<T, Box<Problem>>;

impl FakeFleet {
    /// Queues a command for each device named.
    pub fn create_commands(&mut self, create: &CreateCommands) -> Answer<CreatedCommands> {
        if create.payload["service"] == "forbidden" {
            let detail = "The service 'forbidden' is not allowed.";
            return Err(problem(422, "invalid", detail, Some("payload.service")));
        }
        let is_retired = |id: &String| {
            let mut devices = self.devices.iter();
            devices.any(|d| d.id.as_str() == id && d.status == DeviceStatus::Retired)
        };
        if let Some(at) = create.targets.devices.iter().position(is_retired) {
            let field = format!("targets.devices[{at}]");
            return Err(problem(422, "invalid", "the device is retired", Some(&field)));
        }
        let template = self.a_command(40);
        let batch = BatchId(uuid::Uuid::from_u128(u128::from(mix(self.made + 99)) << 32));
        let mut made = Vec::new();
        let mut offline = 0;
        for (at, device) in create.targets.devices.iter().enumerate() {
            let Some(target) = self.devices.iter().find(|d| d.id.as_str() == device) else {
                let field = format!("targets.devices[{at}]");
                return Err(problem(422, "unknown_device", "No such device.", Some(&field)));
            };
            offline += u64::from(target.status != DeviceStatus::Online);
            let mut command = Command {
                batch_id: batch,
                device_id: target.id.clone(),
                kind: create.kind.clone(),
                payload: create.payload.clone(),
                notes: create.notes.clone(),
                created_by: USERNAME.to_owned(),
                ..template.clone()
            };
            self.queue(&mut command);
            made.push(command);
        }
        let count = made.len() as u64;
        Ok(CreatedCommands { batch_id: batch, count, offline, warnings: vec![], commands: made })
    }

    /// Cancels what waits, and asks what runs to stop.
    pub fn cancel_commands(&mut self, cancel: &CancelCommands) -> CancelledCommands {
        let mut done = CancelledCommands { cancelled: 0, requested: 0, already_finished: 0 };
        let now = self.now;
        for c in self.commands.iter_mut().filter(|c| cancel.ids.contains(&c.id.to_string())) {
            if c.status.is_terminal() {
                done.already_finished += 1;
            } else if c.status.awaits_delivery() {
                c.status = S::Cancelled;
                c.finished_at = Some(now);
                done.cancelled += 1;
            } else {
                c.cancel_requested_at = Some(now);
                done.requested += 1;
            }
        }
        done
    }

    /// Queues a command that has ended once more; a dangerous one has to be confirmed.
    pub fn retry_command(&mut self, id: CommandId, confirm: bool) -> Answer<Command> {
        let mut command = self
            .commands
            .iter()
            .find(|c| c.id == id)
            .cloned()
            .ok_or_else(|| not_found("command"))?;
        if !command.status.is_terminal() {
            return Err(problem(409, "not_finished", "The command has not ended.", None));
        }
        if operations::is_dangerous(&command.kind) && !confirm {
            let detail = "It is dangerous: set confirm to true.";
            return Err(problem(409, "confirmation_required", detail, Some("confirm")));
        }
        command.retry_of = Some(id);
        command.attempt += 1;
        self.queue(&mut command);
        Ok(command)
    }

    fn alert_mut(&mut self, id: &str) -> Answer<&mut Alert> {
        self.alerts.iter_mut().find(|a| a.id == id).ok_or_else(|| not_found("alert"))
    }

    pub fn acknowledge_alert(&mut self, id: &str) -> Answer<Alert> {
        let now = self.now;
        let alert = self.alert_mut(id)?;
        alert.acknowledged_by = Some(USERNAME.to_owned());
        alert.acknowledged_at = Some(now);
        Ok(alert.clone())
    }

    pub fn silence_alert(&mut self, id: &str, duration_s: u64) -> Answer<Alert> {
        let until = self.now.plus_seconds(duration_s as i64);
        let alert = self.alert_mut(id)?;
        alert.silenced_until = Some(until);
        Ok(alert.clone())
    }

    fn device_mut(&mut self, id: &str) -> Answer<&mut Device> {
        self.devices.iter_mut().find(|d| d.id.as_str() == id).ok_or_else(|| not_found("device"))
    }

    pub fn change_device(&mut self, id: &str, change: &ChangeDevice) -> Answer<Device> {
        let device = self.device_mut(id)?;
        if let Some(tags) = &change.tags {
            device.tags.clone_from(tags);
        }
        Ok(device.clone())
    }

    pub fn retire_device(&mut self, id: &str) -> Answer<Device> {
        let device = self.device_mut(id)?;
        device.status = DeviceStatus::Retired;
        Ok(device.clone())
    }

    pub fn clear_service_failed(&mut self, id: &str) -> Answer<Device> {
        let device = self.device_mut(id)?;
        device.service_failed = None;
        Ok(device.clone())
    }

    /// A health report; every device's is the same.
    pub fn device_health(&self) -> DeviceHealth {
        DeviceHealth {
            received_at: Some(self.now.plus_seconds(-12)),
            report: Some(json!({
                "processes": [
                    {"name": "mqtt-bridge", "state": "running", "restarts": 1},
                    {"name": "player", "state": "crashed", "restarts": 5},
                ],
                "resources": {"cpu_percent": 31.5, "memory_used_mb": 812, "disk_used_percent": 61},
            })),
        }
    }

    pub fn create_user(&mut self, create: CreateUser) -> Answer<User> {
        if self.users.iter().any(|u| u.username == create.username) {
            return Err(problem(409, "exists", "That name is taken.", Some("username")));
        }
        let user = User {
            id: format!("user-{}", self.users.len()),
            username: create.username,
            admin: create.admin,
            disabled: false,
            projects: BTreeMap::new(),
            created_at: self.now,
            last_login_at: None,
        };
        self.users.push(user.clone());
        Ok(user)
    }

    pub fn change_user(&mut self, username: &str, change: &ChangeUser) -> Answer<User> {
        let user = self.users.iter_mut().find(|u| u.username == username);
        let user = user.ok_or_else(|| not_found("user"))?;
        user.disabled = change.disabled.unwrap_or(user.disabled);
        Ok(user.clone())
    }

    /// Makes a user a member, or changes the role of one.
    pub fn set_member(&mut self, username: &str, role: Role) -> Answer<Member> {
        let user = self.users.iter_mut().find(|u| u.username == username);
        let user = user.ok_or_else(|| not_found("user"))?;
        user.projects.insert(ProjectId::new(PROJECT).expect("a name"), role);
        Ok(Member { username: username.to_owned(), role })
    }

    pub fn remove_member(&mut self, username: &str) {
        for user in self.users.iter_mut().filter(|u| u.username == username) {
            user.projects.clear();
        }
    }

    pub fn create_project(&mut self, create: CreateProject) -> Project {
        let role = self.role;
        let project = Project { id: create.id, name: create.name, created_at: self.now, role };
        self.projects.push(project.clone());
        project
    }

    pub fn create_enrollment_token(&mut self, create: CreateEnrollmentToken) -> EnrollmentToken {
        let mut token = self.tokens[0].clone();
        token.id = format!("0193aa10-70{:02}", self.tokens.len());
        token.uses = create.uses;
        token.used = 0;
        token.created_at = self.now;
        token.expires_at = self.now.plus_seconds(create.expires_in_s as i64);
        token.tags = create.tags;
        self.tokens.push(token.clone());
        // Told once, to who made it.
        token.token = Some("qde_3vTq8xwzPp0dLr5mJc7sY1nB6hKfA2gE9uRiXoCtZlW4".to_owned());
        token
    }

    pub fn revoke_enrollment_token(&mut self, id: &str) {
        let now = self.now;
        for token in self.tokens.iter_mut().filter(|t| t.id == id) {
            token.revoked_at = Some(now);
        }
    }

    /// Puts a command at the beginning of its life.
    pub(super) fn queue(&mut self, command: &mut Command) {
        self.made += 1;
        command.id = command_id(self.made + 1_000_000);
        command.status = S::Queued;
        command.created_at = self.now;
        command.expires_at = self.now.plus_seconds(3600);
        command.progress = None;
        command.step = None;
        command.state = None;
        command.published_at = None;
        command.accepted_at = None;
        command.started_at = None;
        command.finished_at = None;
        command.result = None;
        command.exit_code = None;
        command.error_code = None;
        command.error_message = None;
        command.blocked_until = None;
        self.commands.insert(0, command.clone());
    }
}

fn not_found(what: &str) -> Box<Problem> {
    problem(404, "not_found", &format!("There is no such {what}."), None)
}

/// What a server says when it does not do what was asked.
pub fn problem(status: u16, code: &str, detail: &str, field: Option<&str>) -> Box<Problem> {
    Box::new(Problem {
        kind: "about:blank".to_owned(),
        title: "Not possible".to_owned(),
        status,
        detail: detail.to_owned(),
        code: code.to_owned(),
        field: field.map(str::to_owned),
        request_id: None,
        other: serde_json::Map::new(),
    })
}
