use std::{fs, io::Write as _, path::PathBuf};

use bytes::Bytes;
use quarterdeck_protocol::{
    time::Timestamp,
    tunnel::{
        Content,
        mark::{Exit, Mark},
    },
};

use super::*;

const KEPT: Cap = Cap::All { bytes: 64 * 1024 * 1024 };

fn clock() -> Clock {
    Clock::manual(Timestamp::from_millis(1_800_000_000_000), 5_000, 1)
}

fn place(folder: &Path) -> Place {
    Place::new(folder, &[7; 32], TunnelId(uuid::Uuid::from_u128(9)))
}

fn header() -> Header {
    Header {
        started_at: 1_800_000_000_000,
        started_ms: 5_000,
        size: Size::new(80, 24).expect("not 0"),
        term: "xterm".to_owned(),
        argv: vec!["sh".to_owned()],
    }
}

fn shown(text: &str) -> Entry {
    Entry::Shown(Content::Bytes(Bytes::copy_from_slice(text.as_bytes())))
}

fn new(folder: &Path, cap: Cap) -> Log {
    Log::create(place(folder), clock(), cap, header()).expect("created")
}

/// A log that is over, of so many chunks.
fn fill(folder: &Path, chunks: usize) {
    let mut log = new(folder, KEPT);
    for _ in 0..chunks {
        log.append(&[shown(&"x".repeat(64 * 1024))]).expect("written");
    }
    log.finish().expect("finished");
}

/// What is wrong with a log that is over.
fn problem(folder: &Path) -> Option<String> {
    place(folder).check(true).expect("readable").problem
}

fn text(place: &Place, from: u64) -> String {
    let mut chunks = Chunks::from(place, from).expect("there");
    let mut text = Vec::new();
    while let Some(opened) = chunks.next().expect("whole") {
        for entry in opened.entries {
            if let Entry::Shown(Content::Bytes(bytes)) = entry {
                text.extend_from_slice(&bytes);
            }
        }
    }
    String::from_utf8(text).expect("text")
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let place = place(folder);
    place.segments().expect("there").into_iter().map(|number| place.file(number)).collect()
}

#[test]
fn what_was_written_is_read_back_and_nobody_else_can_read_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut log = new(folder.path(), KEPT);
    let resize = Mark::Resize(Size::new(100, 30).expect("not 0"));
    log.append(&[shown("hello "), Entry::Shown(Content::Mark(resize)), shown("secret")])
        .expect("written");
    log.append(&[
        Entry::Typed(Bytes::from_static(b"x")),
        Entry::Shown(Content::Mark(Mark::Exit(Exit::Code(3)))),
    ])
    .expect("written");
    log.finish().expect("finished");
    assert_eq!(log.end(), 6 + 1 + 6 + 1);
    let place = place(folder.path());
    assert_eq!(text(&place, 0), "hello secret");
    let check = place.check(true).expect("readable");
    assert_eq!((check.chunks, check.bytes, check.problem), (4, 12, None));
    let raw = fs::read(&files(folder.path())[0]).expect("a file");
    assert!(!raw.windows(6).any(|window| window == b"secret"));
    // Another session's key opens nothing of it.
    let other =
        Place { key: SessionKey::of(&[8; 32], TunnelId(uuid::Uuid::from_u128(9))), ..place };
    assert!(other.check(true).expect("readable").problem.is_some());
}

#[test]
fn a_torn_end_is_taken_off_and_the_log_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut log = new(folder.path(), KEPT);
    log.append(&[shown("kept")]).expect("written");
    drop(log);
    let file = files(folder.path()).remove(0);
    for torn in [&[0, 0][..], &[0, 0, 0, 40, 0, 1, 2, 3], &[0xff; 64]] {
        let mut raw = OpenOptions::new().append(true).open(&file).expect("there");
        raw.write_all(torn).expect("written");
        let mut log = Log::open(place(folder.path()), clock(), KEPT).expect("repaired");
        assert_eq!(log.header(), &header());
        let end = log.end();
        log.append(&[shown("+")]).expect("written");
        assert_eq!(log.end(), end + 1);
    }
    let mut log = Log::open(place(folder.path()), clock(), KEPT).expect("whole");
    log.finish().expect("finished");
    assert_eq!(text(&place(folder.path()), 0), "kept+++");
    assert_eq!(problem(folder.path()), None);
}

/// What a power cut may leave: a later segment reached the disk, the end of an earlier one did not.
#[test]
fn what_stands_behind_a_hole_is_taken_off_and_the_log_goes_on() {
    for headless in [false, true] {
        let folder = tempfile::tempdir().expect("a folder");
        fill(folder.path(), 70);
        let all = files(folder.path());
        assert!(all.len() > 3, "{} segments", all.len());
        let whole = Log::open(place(folder.path()), clock(), KEPT).expect("whole").end();

        let early = OpenOptions::new().write(true).open(&all[1]).expect("there");
        early.set_len(if headless { 3 } else { 200_000 }).expect("cut");
        let mut log = Log::open(place(folder.path()), clock(), KEPT).expect("repaired");
        let end = log.end();
        assert!(end < whole, "{end} of {whole}");
        assert!(files(folder.path()).len() <= 2, "nothing stands behind the hole");
        log.append(&[shown("+")]).expect("written");
        log.finish().expect("finished");
        assert_eq!(text(&place(folder.path()), 0).len() as u64, end + 1);
        assert_eq!(problem(folder.path()), None);
    }
}

#[test]
fn a_segment_that_is_not_as_it_was_written_is_no_hole() {
    let folder = tempfile::tempdir().expect("a folder");
    fill(folder.path(), 40);
    let all = files(folder.path());
    let mut first = fs::read(&all[0]).expect("a file");
    first[500_000] ^= 1;
    fs::write(&all[0], &first).expect("changed");
    let opened = Log::open(place(folder.path()), clock(), KEPT);
    assert!(matches!(opened, Err(LogError::Broken { .. })), "{opened:?}");
    assert_eq!(files(folder.path()), all, "nothing is deleted");
}

#[test]
fn what_is_to_be_synced_is_all_that_was_written_since() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut log = new(folder.path(), KEPT);
    for _ in 0..20 {
        log.append(&[shown(&"x".repeat(64 * 1024))]).expect("written");
    }
    assert!(log.unsynced_bytes() > 20 * 64 * 1024);
    let unsynced = log.take_unsynced().expect("something");
    assert_eq!(unsynced.0.len(), files(folder.path()).len(), "full segments, and the current one");
    unsynced.sync().expect("synced");
    assert_eq!(log.unsynced_bytes(), 0);
    assert!(log.take_unsynced().is_none());
}

#[test]
fn what_was_cut_changed_or_left_out_is_found() {
    let folder = tempfile::tempdir().expect("a folder");
    fill(folder.path(), 40);
    let all = files(folder.path());
    assert!(all.len() > 2, "{} segments", all.len());
    assert_eq!(problem(folder.path()), None);

    // The last chunk is gone.
    let last = fs::read(&all[all.len() - 1]).expect("a file");
    fs::write(&all[all.len() - 1], &last[..last.len() - 33 - 12]).expect("cut");
    let cut = problem(folder.path()).expect("it was cut");
    assert!(cut.contains("cut") || cut.contains("not as it was written"), "{cut}");
    fs::write(&all[all.len() - 1], &last).expect("mended");

    // One bit is another.
    let mut first = fs::read(&all[0]).expect("a file");
    first[5_000] ^= 1;
    fs::write(&all[0], &first).expect("changed");
    assert!(problem(folder.path()).is_some());
    first[5_000] ^= 1;
    fs::write(&all[0], &first).expect("mended");
    assert_eq!(problem(folder.path()), None);

    // A segment in the middle is gone.
    fs::remove_file(&all[1]).expect("removed");
    assert!(problem(folder.path()).is_some());
    assert!(matches!(Log::open(place(folder.path()), clock(), KEPT), Err(LogError::Broken { .. })));
}

#[test]
fn a_last_chunk_that_is_missing_is_known_to_be() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut log = new(folder.path(), KEPT);
    log.append(&[shown("all of it")]).expect("written");
    let file = files(folder.path()).remove(0);
    let before = fs::metadata(&file).expect("there").len();
    log.finish().expect("finished");
    OpenOptions::new().write(true).open(&file).expect("there").set_len(before).expect("cut");
    let check = place(folder.path()).check(true).expect("readable");
    let problem = check.problem.unwrap_or_default();
    assert!(problem.contains("its end is missing"), "{problem}");
    assert_eq!(check.bytes, 9);
    // While it is being written nothing is missing.
    assert_eq!(place(folder.path()).check(false).expect("readable").problem, None);
}

#[test]
fn the_oldest_goes_when_only_the_newest_is_kept() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut log = new(folder.path(), Cap::Newest { bytes: 3 * 1024 * 1024 });
    let line = "0123456789abcdef".repeat(4 * 1024);
    for _ in 0..160 {
        log.append(&[shown(&line)]).expect("written");
    }
    let kept = log.end() - log.first();
    assert!(kept > 2 * 1024 * 1024 && kept < 5 * 1024 * 1024, "{kept}");
    let first = log.first();
    let place = place(folder.path());
    assert_eq!(text(&place, 0).len() as u64, kept);
    assert!(text(&place, first + 70_000).len() as u64 >= kept - 70_000);
    drop(log);
    let log = Log::open(place, clock(), Cap::Newest { bytes: 3 * 1024 * 1024 }).expect("whole");
    assert_eq!((log.first(), log.header()), (first, &header()));
}

#[test]
fn a_recording_that_has_its_size_takes_nothing_more_but_its_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut log = new(folder.path(), Cap::All { bytes: 100_000 });
    let line = "x".repeat(64 * 1024);
    log.append(&[shown(&line)]).expect("written");
    log.append(&[shown(&line)]).expect("written");
    let full = log.append(&[shown("more")]);
    assert!(matches!(full, Err(LogError::Full { .. })), "{full:?}");
    log.finish().expect("the end is written all the same");
    assert_eq!(problem(folder.path()), None);
}

#[test]
fn a_recording_without_its_beginning_is_not_whole_and_one_that_was_cut_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    fill(folder.path(), 40);
    let all = files(folder.path());
    assert!(all.len() > 2, "{} segments", all.len());
    assert_eq!(problem(folder.path()), None);

    let last = all.last().expect("a file");
    let whole = fs::read(last).expect("a file");
    fs::write(last, &whole[..whole.len() - 3]).expect("cut");
    let cut = problem(folder.path()).expect("it was cut");
    assert!(cut.contains("its end is missing"), "{cut}");
    fs::write(last, whole).expect("mended");

    fs::remove_file(&all[0]).expect("removed");
    let broken = problem(folder.path()).expect("its beginning is gone");
    assert!(broken.contains("chunk 0"), "{broken}");
}
