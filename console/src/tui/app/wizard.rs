//! The wizard of a new command.
//!
//! ```text
//!   Targets ──▶ Operation ──▶ Configure ──▶ Review ──▶ (grace) ──▶ sent
//!      ◀── Esc ──    ◀── Esc ──    ◀── Esc ──
//! ```

use std::collections::BTreeMap;

use quarterdeck_protocol::{
    api::{CreateCommands, Targets},
    command::Priority,
    device::DeviceStatus,
    limits::{EXPIRES_DEFAULT_S, TIMEOUT_DEFAULT_S},
    operations::{Operation, OperationSource},
    search::{self, Term},
    time::Timestamp,
};
use serde_json::{Map, Value};

use super::{
    field::TextField,
    form::{Control, Field, Form},
    list::Mark,
};
use crate::tui::format;

/// Fields of the wizard's own, after those of the operation.
const PRIORITY: &str = "priority";
const TIMEOUT: &str = "timeout_s";
const EXPIRES: &str = "expires_in_s";
const NOTES: &str = "notes";
/// Why a device is left out that takes no commands any more.
const RETIRED: &str = "retired";
/// How many of them are named.
const LEFT_OUT_SHOWN: usize = 3;
/// How many sites are named.
pub const SITES_SHOWN: usize = 6;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    Targets,
    Operation,
    Configure,
    Review,
}

impl Step {
    pub const ALL: [Self; 4] = [Self::Targets, Self::Operation, Self::Configure, Self::Review];

    pub const fn title(self) -> &'static str {
        match self {
            Self::Targets => "Targets",
            Self::Operation => "Operation",
            Self::Configure => "Configure",
            Self::Review => "Review",
        }
    }
}

/// The wizard while it is open.
#[derive(Debug, Clone)]
pub struct Wizard {
    pub step: Step,
    /// The devices, with what is known of each.
    pub targets: BTreeMap<String, Mark>,
    /// Devices that were chosen and get nothing, each with why.
    pub left_out: BTreeMap<String, String>,
    /// The card under the cursor, among those that the filter leaves.
    pub card: usize,
    /// What the operations are searched for.
    pub filter: String,
    pub operation: Option<Operation>,
    /// The operation's fields, then the wizard's own.
    pub form: Form,
    /// How many of the fields are the operation's.
    pub payload_fields: usize,
    pub send_focused: bool,
    /// What the server says against it.
    pub error: Option<String>,
    /// The number of its submission, while that waits or has no answer.
    pub submission: Option<u64>,
    /// The operation and payload of the command that the wizard was opened on: to send it again with changes.
    pub given: Option<(String, Value)>,
    /// What the fields said before anything was written into them.
    blank: Vec<String>,
    /// The devices that it was opened on: these are still where they were chosen.
    opened_on: Vec<String>,
}

impl Wizard {
    pub fn new(chosen: BTreeMap<String, Mark>) -> Self {
        let mut wizard = Self {
            step: Step::Targets,
            targets: BTreeMap::new(),
            left_out: BTreeMap::new(),
            card: 0,
            filter: String::new(),
            operation: None,
            form: Form::default(),
            payload_fields: 0,
            send_focused: true,
            error: None,
            submission: None,
            given: None,
            blank: Vec::new(),
            opened_on: Vec::new(),
        };
        wizard.aim(chosen);
        wizard.opened_on = wizard.targets.keys().cloned().collect();
        if !wizard.targets.is_empty() {
            wizard.step = Step::Operation;
        }
        wizard
    }

    /// Takes the devices that were chosen, and leaves out those that are retired.
    pub fn aim(&mut self, chosen: BTreeMap<String, Mark>) {
        self.targets = chosen;
        self.left_out.clear();
        self.leave_out_retired();
    }

    /// A retired device takes no commands, and the server refuses all of a batch that has one.
    pub fn leave_out_retired(&mut self) {
        let Self { targets, left_out, .. } = self;
        targets.retain(|device, mark| {
            if mark.is_retired() {
                left_out.insert(device.clone(), RETIRED.to_owned());
            }
            !mark.is_retired()
        });
    }

    /// Who is left out, in words.
    pub fn says_left_out(&self) -> Vec<String> {
        let retired = self.left_out.iter().filter(|(_, why)| *why == RETIRED);
        let retired: Vec<&str> = retired.map(|(device, _)| device.as_str()).collect();
        let others = self.left_out.iter().filter(|(_, why)| *why != RETIRED);
        let mut said = Vec::new();
        let some = retired.iter().take(LEFT_OUT_SHOWN).copied().collect::<Vec<_>>().join(", ");
        let more = match retired.len().saturating_sub(LEFT_OUT_SHOWN) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        match retired.len() {
            0 => {}
            1 => said.push(format!("1 retired device is left out: {some}")),
            n => said.push(format!("{n} retired devices are left out: {some}{more}")),
        }
        said.extend(others.map(|(device, why)| format!("{device} is left out: {why}")));
        said
    }

    /// Takes the server's no: a device that it names is left out, the others can be sent again.
    pub fn refused(&mut self, why: String, blamed: Option<(String, String)>) {
        if let Some((device, why)) = blamed {
            self.targets.remove(&device);
            self.left_out.insert(device, why);
        }
        self.step = if self.targets.is_empty() { Step::Targets } else { Step::Review };
        self.error = Some(why);
    }

    /// Whether something was written that would be missed.
    pub fn is_written(&self) -> bool {
        self.operation.is_some() && self.form.texts() != self.blank
    }

    /// Whether anything was chosen in it, or written: what is begun again with some trouble.
    pub fn is_begun(&self) -> bool {
        let is_aimed = || self.targets.keys().ne(self.opened_on.iter());
        self.operation.is_some() || (!self.targets.is_empty() && is_aimed())
    }

    /// What it would send: `run_script on 3 devices`.
    pub fn title(&self) -> String {
        let kind = self.operation.as_ref().map_or("a command", |operation| &operation.name);
        match self.targets.len() {
            1 => format!("{kind} on {}", self.targets.keys().next().map_or("", String::as_str)),
            n => format!("{kind} on {}", format::plural(n as u64, "device")),
        }
    }

    /// Whether all chosen devices have it. Of one that is not loaded nobody knows here: the server will say.
    pub fn offers(&self, operation: &Operation) -> bool {
        operation.source == OperationSource::Builtin
            || self
                .targets
                .values()
                .filter_map(|mark| mark.own_operations.as_ref())
                .all(|own| own.contains(&operation.name))
    }

    /// Shows the operations that a text finds, with the cursor on the first.
    pub fn search(&mut self, text: &str) {
        if self.filter != text {
            text.clone_into(&mut self.filter);
            self.card = 0;
        }
    }

    /// Whether the search finds it: by its title, name and description, by letters in their order
    /// in the first two alone. What is no search yet finds all.
    pub fn finds(&self, operation: &Operation) -> bool {
        let Operation { title, name, description, .. } = operation;
        let stands = |word: &Term| {
            word.is_in(title) || word.is_in(name) || (!word.fuzzy && word.is_in(description))
        };
        let words = search::words(&self.filter).unwrap_or_default();
        words.iter().all(|word| stands(word) != word.inverse)
    }

    /// Takes an operation and makes its form.
    pub fn choose(&mut self, operation: Operation) {
        if self.operation.as_ref().is_some_and(|before| before.name == operation.name) {
            self.step = Step::Configure;
            return;
        }
        let given = self.given.as_ref().filter(|(kind, _)| *kind == operation.name);
        let given = given.map_or(&Value::Null, |(_, payload)| payload);
        let mut form = Form::from_schema(&operation.form_schema, given);
        self.payload_fields = form.fields.len();
        form.fields.extend(delivery_fields());
        form.focus = 0;
        self.blank = form.texts();
        self.form = form;
        self.operation = Some(operation);
        self.step = Step::Configure;
        self.error = None;
    }

    /// The payload, or `None` with the wrong field in focus.
    pub fn payload(&mut self) -> Option<Value> {
        let mut values = self.form.values()?;
        for own in [PRIORITY, TIMEOUT, EXPIRES, NOTES] {
            let is_operations =
                self.form.fields[..self.payload_fields].iter().any(|field| field.name == own);
            if !is_operations {
                values.remove(own);
            }
        }
        Some(Value::Object(values))
    }

    fn payload_now(&self) -> Value {
        let fields = &self.form.fields[..self.payload_fields.min(self.form.fields.len())];
        let pairs = fields
            .iter()
            .filter_map(|field| Some((field.name.clone(), field.value().ok().flatten()?)));
        Value::Object(pairs.collect::<Map<_, _>>())
    }

    fn own(&self, name: &str) -> Option<&Field> {
        self.form.fields.get(self.payload_fields..)?.iter().find(|field| field.name == name)
    }

    fn own_number(&self, name: &str, default: u32) -> u32 {
        self.own(name).and_then(|f| f.text().parse().ok()).unwrap_or(default)
    }

    pub fn priority(&self) -> u8 {
        self.own_number(PRIORITY, 5) as u8
    }

    pub fn timeout_s(&self) -> u32 {
        self.own_number(TIMEOUT, TIMEOUT_DEFAULT_S)
    }

    pub fn expires_in_s(&self) -> u32 {
        self.own_number(EXPIRES, EXPIRES_DEFAULT_S)
    }

    pub fn notes(&self) -> String {
        self.own(NOTES).map(Field::text).unwrap_or_default()
    }

    /// The request, without what is the default anyway; `confirm` says that the operator has confirmed.
    pub fn request(&self, confirm: bool) -> Option<CreateCommands> {
        self.request_to(usize::MAX, confirm)
    }

    /// The same to the first `most` devices, for what is only looked at.
    pub fn request_to(&self, most: usize, confirm: bool) -> Option<CreateCommands> {
        let operation = self.operation.as_ref()?;
        let devices = self.targets.keys().take(most).cloned().collect();
        Some(CreateCommands {
            targets: Targets { devices, groups: vec![] },
            kind: operation.name.clone(),
            payload: self.payload_now(),
            priority: unless(self.priority(), Priority::DEFAULT.get()),
            timeout_s: unless(self.timeout_s(), TIMEOUT_DEFAULT_S),
            expires_in_s: unless(self.expires_in_s(), EXPIRES_DEFAULT_S),
            notes: self.notes(),
            confirm,
        })
    }

    pub fn blast(&self) -> Blast {
        let mut blast = Blast { devices: self.targets.len() as u64, ..Blast::default() };
        let mut sites: BTreeMap<&str, u64> = BTreeMap::new();
        for mark in self.targets.values() {
            match mark.status {
                Some(DeviceStatus::Online) => blast.online += 1,
                Some(_) => blast.offline += 1,
                None => blast.unknown += 1,
            }
            blast.production += u64::from(mark.production);
            *sites.entry(mark.site.as_deref().unwrap_or("no site")).or_default() += 1;
            if let Some(at) = mark.last_seen_at {
                blast.oldest_contact = Some(blast.oldest_contact.map_or(at, |o| o.min(at)));
            }
        }
        blast.sites = sites.into_iter().map(|(site, n)| (site.to_owned(), n)).collect();
        blast.sites.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
        blast
    }
}

/// A value that need not be said when it is the default.
pub fn unless<T: PartialEq + Copy>(value: T, default: T) -> Option<T> {
    (value != default).then_some(value)
}

/// What a submission touches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Blast {
    pub devices: u64,
    pub online: u64,
    pub offline: u64,
    pub unknown: u64,
    pub production: u64,
    /// Most devices first.
    pub sites: Vec<(String, u64)>,
    pub oldest_contact: Option<Timestamp>,
}

fn delivery_fields() -> Vec<Field> {
    let minutes = |n: u64| (format!("{n} min"), n * 60);
    vec![
        Field::new(PRIORITY, "Priority", Control::Slider { value: 5, min: 1, max: 10 })
            .help("1 leaves first; left and right, or a digit"),
        Field::new(
            TIMEOUT,
            "Time-out",
            Control::Presets {
                options: vec![
                    ("30 s".to_owned(), 30),
                    minutes(1),
                    minutes(5),
                    minutes(15),
                    ("1 h".to_owned(), 3600),
                    ("6 h".to_owned(), 6 * 3600),
                ],
                chosen: 2,
            },
        )
        .help("how long it may run on the device"),
        Field::new(
            EXPIRES,
            "Waits for",
            Control::Presets {
                options: vec![
                    minutes(5),
                    ("1 h".to_owned(), 3600),
                    ("6 h".to_owned(), 6 * 3600),
                    ("1 day".to_owned(), 86_400),
                    ("1 week".to_owned(), 7 * 86_400),
                ],
                chosen: 1,
            },
        )
        .help("how long it waits for a device that is offline"),
        Field::new(NOTES, "Notes", Control::Text(TextField::default()))
            .help("why, for the audit log"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use quarterdeck_protocol::operations::{self, AnnouncedOperation};

    fn wizard(operation: &str) -> Wizard {
        let mark = |site: &str, status| Mark {
            status: Some(status),
            site: Some(site.to_owned()),
            ..Mark::default()
        };
        let mut wizard = Wizard::new(BTreeMap::from([
            ("pi-1".to_owned(), mark("fra1", DeviceStatus::Online)),
            ("pi-2".to_owned(), mark("fra1", DeviceStatus::Offline)),
            ("pi-3".to_owned(), mark("ams2", DeviceStatus::Online)),
        ]));
        let all = operations::builtin();
        wizard.choose(all.into_iter().find(|op| op.name == operation).expect("built in"));
        wizard
    }

    #[test]
    fn an_operation_of_devices_is_offered_where_all_chosen_ones_have_it() {
        let flash =
            AnnouncedOperation { name: "flash".to_owned(), ..AnnouncedOperation::default() };
        let flash = flash.to_operation(1);
        let ping = operations::builtin().remove(0);
        let mut wizard = wizard("ping");
        assert!(wizard.offers(&flash), "of none of them anything is known here");
        for (own, offered) in [(vec!["flash"], true), (vec![], false), (vec!["burn"], false)] {
            let own = own.into_iter().map(str::to_owned).collect();
            wizard.targets.get_mut("pi-2").expect("there").own_operations = Some(own);
            assert_eq!(wizard.offers(&flash), offered);
            assert!(wizard.offers(&ping));
        }
    }

    #[test]
    fn the_review_counts_sites_and_who_is_offline() {
        let blast = wizard("ping").blast();
        assert_eq!((blast.devices, blast.online, blast.offline), (3, 2, 1));
        assert_eq!(blast.sites, [("fra1".to_owned(), 2), ("ams2".to_owned(), 1)]);
    }

    #[test]
    fn the_command_line_that_is_shown_makes_the_same_submission() {
        let mut wizard = wizard("run_script");
        wizard.form.input(&crate::tui::term::input::Input::Paste("echo 'a b'; id".into()));
        for (confirm, changed) in [(false, false), (true, true)] {
            if changed {
                let notes = wizard.form.fields.iter_mut().find(|field| field.name == NOTES);
                notes.expect("there").control = Control::Text(TextField::new("--why 'not'?"));
                let priority = wizard.form.fields.iter_mut().find(|field| field.name == PRIORITY);
                priority.expect("there").control = Control::Slider { value: 1, min: 1, max: 10 };
            }
            let request = wizard.request(confirm).expect("chosen");
            let line = crate::cli::line::cli_line(vec!["quarterdeck".to_owned()], &request);
            assert_eq!(crate::cli::line::parsed(&line), request, "{line}");
        }
    }
}
