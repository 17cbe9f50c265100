use std::sync::atomic::Ordering;

use super::*;
use crate::{
    domain::{Lifetime, Moment},
    journal::storage::memory::MemoryFolder,
    workflow::{command::Phase, message::Payload},
};

fn version(reason: &str) -> Arc<Version> {
    let source = Source::Invalid { operation: "op".into(), reason: reason.into() };
    Arc::new(source.read().expect("made here"))
}

fn topic(n: u32) -> CommandTopic {
    CommandTopic::parse(&format!("te/device/main///cmd/op/{n}")).expect("valid")
}

fn saved(n: u32, status: &str, version: &Arc<Version>) -> Item {
    let mut command = Command::new(topic(n), Payload::new());
    command.status = status.into();
    command.phase = Phase::Passing;
    let (version, boot_id) = (version.clone(), "boot".into());
    let life = Lifetime { boot_id: "b1".to_owned(), run_id: uuid::Uuid::nil() };
    let since = Since { life, at: Moment::default() };
    let own = vec![u64::from(n)];
    Item::Command(Box::new(Saved { version, boot_id, since, own, init: Some(7), command }))
}

fn open(folder: &MemoryFolder) -> (Log, Replay) {
    Log::open(Arc::new(folder.clone())).expect("it can be read")
}

/// What is in the log: topics with their states.
fn held(replay: &Replay) -> Vec<(String, String)> {
    let commands = replay.commands.iter().map(|kept| &kept.command);
    commands.map(|c| (c.topic.cmd_id().to_owned(), c.status.to_string())).collect()
}

#[test]
fn what_was_saved_is_found_again_with_its_definition() {
    let folder = MemoryFolder::default();
    let (mut log, empty) = open(&folder);
    assert!(empty.commands.is_empty());
    let (one, two) = (version("one"), version("two"));
    log.save(&[saved(1, "a", &one), saved(2, "a", &two), saved(1, "b", &one)]).expect("saved");
    log.save(&[Item::Forgotten(topic(2)), Item::Announced(vec!["op".into()])]).expect("saved");
    let (_, replay) = open(&folder);
    assert_eq!(held(&replay), [("1".to_owned(), "b".to_owned())]);
    let kept = &replay.commands[0];
    assert_eq!((&kept.source, &kept.own, kept.init), (&one.source, &vec![1], Some(7)));
    assert_eq!((replay.announced, replay.discarded_bytes), (vec!["op".to_owned()], 0));
}

#[test]
fn a_torn_tail_is_cut_off_wherever_it_tears() {
    let folder = MemoryFolder::default();
    let (mut log, _) = open(&folder);
    log.save(&[saved(1, "a", &version("one"))]).expect("saved");
    let whole = folder.log().bytes.lock().unwrap().len();
    log.save(&[saved(1, "b", &version("one")), saved(2, "a", &version("two"))]).expect("saved");
    let bytes = folder.log().bytes.lock().unwrap().clone();
    for cut in whole..bytes.len() {
        let (mut log, replay) = open(&MemoryFolder::holding(&bytes[..cut]));
        let states = held(&replay);
        assert!(states.len() == 1 && ["a", "b"].contains(&&*states[0].1), "{cut}: {states:?}");
        log.save(&[saved(3, "c", &version("two"))]).expect("it goes on");
    }
    for cut in 0..MAGIC.len() {
        let (_, replay) = open(&MemoryFolder::holding(&bytes[..cut]));
        assert!(replay.commands.is_empty());
    }
    let foreign = Arc::new(MemoryFolder::holding(b"another file"));
    assert!(matches!(Log::open(foreign), Err(LogError::NotALog)));
}

#[test]
fn a_record_of_another_version_is_refused_with_what_to_do() {
    // As it was before a command's state had its beginning.
    let old = br#"{"command":{"version":"v","boot_id":"b","own":[],"command":{"topic":"te/device/main///cmd/op/1","status":"init","payload":{},"phase":"passing"}}}"#;
    let mut bytes = MAGIC.to_vec();
    frame::encode(old, &mut bytes);
    let refused = Log::open(Arc::new(MemoryFolder::holding(&bytes))).expect_err("another version");
    assert!(matches!(refused, LogError::OtherVersion { offset: 8 }), "{refused}");
    assert!(refused.to_string().contains("move `journal` and `board`"), "{refused}");
}

#[test]
fn the_log_stays_short_and_definitions_that_nothing_runs_go() {
    let folder = MemoryFolder::default();
    let (mut log, _) = open(&folder);
    let long = version(&"x".repeat(100_000));
    log.save(&[saved(1, "a", &long)]).expect("saved");
    let other = version("other");
    log.save(&[saved(1, "a", &other), saved(2, "kept", &other)]).expect("saved");
    for round in 0..20_000 {
        log.save(&[saved(1, &format!("s{round}"), &other)]).expect("saved");
        let len = folder.log().bytes.lock().unwrap().len() as u64;
        assert!(len <= REWRITE_FROM_BYTES + 10_000, "{len}");
    }
    assert!(log.live_bytes() < 10_000, "{}", log.live_bytes());
    assert_eq!(log.index.versions.len(), 1);
    let (_, replay) = open(&folder);
    let mut states = held(&replay);
    states.sort();
    assert_eq!(states, [("1".into(), "s19999".into()), ("2".into(), "kept".into())]);
}

#[test]
fn a_full_disk_takes_all_or_nothing_and_passes() {
    let folder = MemoryFolder::default();
    let (mut log, _) = open(&folder);
    let version = version("one");
    log.save(&[saved(1, "a", &version)]).expect("saved");
    for room in 0..200 {
        *folder.log().room.lock().unwrap() = Some(room);
        assert!(log.save(&[saved(1, "b", &version), saved(2, "a", &version)]).is_err(), "{room}");
        assert_eq!(held(&open(&folder).1), [("1".into(), "a".into())], "{room}");
    }
    *folder.log().room.lock().unwrap() = None;
    log.save(&[saved(1, "b", &version)]).expect("there is room again");
    assert_eq!(held(&open(&folder).1), [("1".into(), "b".into())]);
}

#[test]
fn a_rewriting_whose_name_cannot_be_saved_is_done_again_before_anything_else() {
    let folder = MemoryFolder::default();
    let (mut log, _) = open(&folder);
    let one = version("one");
    log.save(&[saved(1, "a", &one)]).expect("saved");
    log.is_broken = true;
    folder.loses_names.store(true, Ordering::SeqCst);
    for _ in 0..2 {
        assert!(log.save(&[saved(1, "b", &one)]).is_err(), "a power cut may undo it");
    }
    folder.loses_names.store(false, Ordering::SeqCst);
    log.save(&[saved(1, "c", &one)]).expect("saved");
    let (_, replay) = open(&folder);
    assert_eq!(held(&replay), [("1".to_owned(), "c".to_owned())]);
}
