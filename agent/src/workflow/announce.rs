//! What the device tells its server of its operations, within what a status can carry.
//!
//! All names first. Then, of each operation that the server does not know by
//! itself, a card: in full while there is room, else what must not be lost,
//! which is whether it is dangerous and whether it reboots.

use quarterdeck_protocol::{
    limits::{ANNOUNCED_MAX_BYTES, OPERATION_NAME_MAX_BYTES, OPERATIONS_MAX},
    operations::{self, AnnouncedOperation, DESCRIPTION_MAX_CHARS},
};
use serde_json::Value;

use super::catalogue::{Catalogue, Entry, Workflow};

/// Room for a card's bare name and flags, beside the name, in bytes.
const BARE_CARD_BYTES: usize = 64;

/// `capabilities` and `operations` of the device's status.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Announcement {
    pub capabilities: Vec<String>,
    pub operations: Vec<Value>,
    /// What the server is not told, for the log.
    pub left_out: Vec<String>,
}

/// Announces a catalogue.
///
/// An operation whose file is invalid is announced too: its commands fail with
/// the file's problems, and its description says so beforehand.
pub fn announce(catalogue: &Catalogue) -> Announcement {
    let mut said = Announcement::default();
    let mut room = ANNOUNCED_MAX_BYTES;
    let mut cards = Vec::new();
    // The agent's own come first: a folder full of files must not hide them.
    let (own, others): (Vec<_>, Vec<_>) =
        catalogue.entries().partition(|(_, entry)| entry.is_builtin());
    for (name, entry) in own.into_iter().chain(others) {
        let card = card(entry);
        let bare_bytes = name.len() + 3 + card.as_ref().map_or(0, |_| name.len() + BARE_CARD_BYTES);
        if name.len() > OPERATION_NAME_MAX_BYTES
            || said.capabilities.len() == OPERATIONS_MAX
            || bare_bytes > room
        {
            said.left_out.push(format!("the operation {name}"));
            continue;
        }
        room -= bare_bytes;
        said.capabilities.push(name.to_string());
        cards.extend(card);
    }
    for card in cards {
        let full = serde_json::to_value(&card).expect("plain data");
        let bytes = full.to_string().len() + 1;
        if bytes <= room {
            room -= bytes;
            said.operations.push(full);
            continue;
        }
        said.left_out.push(format!("what {} is for", card.name));
        if card.dangerous || card.reboots {
            let AnnouncedOperation { name, dangerous, reboots, .. } = card;
            let bare = AnnouncedOperation { name, dangerous, reboots, ..Default::default() };
            said.operations.push(serde_json::to_value(bare).expect("plain data"));
        }
    }
    said.capabilities.sort_unstable();
    said
}

/// What there is to say of an operation that the server does not know by itself.
fn card(entry: &Entry) -> Option<AnnouncedOperation> {
    let mut card = AnnouncedOperation::of(&entry.card);
    if let Workflow::Invalid(invalid) = &entry.workflow {
        let text = format!("Its file is invalid, so it fails. {}", invalid.reason());
        card.description = text.chars().take(DESCRIPTION_MAX_CHARS).collect();
        return Some(card);
    }
    let is_known = operations::builtin().contains(&entry.card);
    (!is_known).then_some(card)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use quarterdeck_protocol::operations::read_announced;
    use serde_json::json;

    use super::*;
    use crate::workflow::catalogue::{FolderFile, Whose};

    fn file(name: &str, text: impl Into<Vec<u8>>) -> FolderFile {
        FolderFile { path: PathBuf::from(name), content: Ok(text.into()) }
    }

    fn workflow(name: &str) -> FolderFile {
        let text = format!("operation = \"{name}\"\n[init]\naction = \"proceed\"\n");
        file(&format!("{name}.toml"), text)
    }

    #[test]
    fn the_agents_own_workflows_are_announced_by_their_names() {
        let said = announce(&Catalogue::builtin());
        let mut names: Vec<_> = operations::builtin().into_iter().map(|op| op.name).collect();
        names.sort();
        assert_eq!(said.capabilities, names);
        assert!(said.operations.is_empty() && said.left_out.is_empty());
    }

    #[test]
    fn a_workflow_of_the_devices_owner_is_announced_with_its_card() {
        let card = json!({ "name": "Flash it", "reboots": true }).to_string();
        let files = vec![workflow("flash"), file("flash.json", card), workflow("ping")];
        let said = announce(&Catalogue::of(Whose::Device, files));
        assert!(said.capabilities.contains(&"flash".to_owned()));
        let (cards, problems) = read_announced(&said.operations);
        assert_eq!(problems, []);
        assert_eq!(cards.len(), 1, "ping is what it was");
        assert_eq!((&*cards[0].title, cards[0].reboots), ("Flash it", true));
    }

    #[test]
    fn an_invalid_workflow_says_beforehand_that_it_fails() {
        let said =
            announce(&Catalogue::of(Whose::Child, vec![file("a.toml", "operation = \"bad\"\n")]));
        let (cards, problems) = read_announced(&said.operations);
        assert!(cards[0].description.contains("init: is missing"), "{cards:?}");
        assert_eq!((said.capabilities, problems), (vec!["bad".to_owned()], vec![]));
    }

    #[test]
    fn however_many_workflows_there_are_a_status_carries_them_and_no_danger_is_lost() {
        let mut files = Vec::new();
        for n in 0..600 {
            let name = format!("operation-{n:04}-{}", "x".repeat(60));
            let card = json!({ "description": "d".repeat(900), "dangerous": n % 2 == 0 });
            files.push(file(&format!("{name}.json"), card.to_string()));
            files.push(workflow(&name));
        }
        files.push(workflow(&"y".repeat(200)));
        let said = announce(&Catalogue::of(Whose::Device, files));
        let bytes = serde_json::to_vec(&(&said.capabilities, &said.operations)).expect("JSON");
        assert!(bytes.len() <= ANNOUNCED_MAX_BYTES, "{}", bytes.len());
        assert!(said.capabilities.contains(&"ping".to_owned()));
        assert!(said.left_out.len() > 100);
        let (cards, problems) = read_announced(&said.operations);
        assert_eq!(problems, []);
        for name in said.capabilities.iter().filter(|name| name.starts_with("operation-")) {
            let n: u32 = name[10..14].parse().expect("a number");
            let card = cards.iter().find(|card| card.name == *name);
            assert_eq!(card.is_some_and(|card| card.dangerous), n.is_multiple_of(2), "{name}");
        }
    }
}
