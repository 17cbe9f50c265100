//! What waits for one connection: messages, and the word that it is to end.
//!
//! Bounded; whoever posts over a bound is told. A message has its room until it
//! is written to the connection. What wants no answer (QoS 0) does not wait
//! behind what has to (QoS 1 and 2): a key in a terminal passes a command that
//! waits for its place. Nor does it take all the room: some is kept for the rest,
//! so that no flood of frames keeps out the word that ends it, and no sender of
//! such messages has more than its part.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use quarterdeck_protocol::topics::DeviceTopic;
use tokio::sync::watch;

use crate::mqtt::{
    limits::{
        DEVICE_QUEUE_MAX_BYTES, DEVICE_QUEUE_MAX_MESSAGES, DEVICE_QUEUE_RESERVED_BYTES,
        DEVICE_QUEUE_RESERVED_MESSAGES, DEVICE_QUEUE_SENDER_MAX_MESSAGES,
    },
    link::{Ended, PublishError, Qos},
};

/// A message for a device.
#[derive(Debug)]
pub(super) struct Letter {
    pub(super) kind: DeviceTopic,
    pub(super) payload: Bytes,
    pub(super) qos: Qos,
    pub(super) sender: u32,
}

#[derive(Debug, Default)]
struct Waiting {
    assured: VecDeque<Letter>,
    unassured: VecDeque<Letter>,
    bytes: usize,
    closing: Option<Ended>,
    /// The connection is gone: nothing is taken any more.
    gone: bool,
}

impl Waiting {
    fn has_room(&self, letter: &Letter) -> bool {
        let messages = self.assured.len() + self.unassured.len();
        let bytes = self.bytes + letter.payload.len();
        if letter.qos != Qos::AtMostOnce {
            return messages < DEVICE_QUEUE_MAX_MESSAGES && bytes <= DEVICE_QUEUE_MAX_BYTES;
        }
        let of_sender = self.unassured.iter().filter(|waiting| waiting.sender == letter.sender);
        messages < DEVICE_QUEUE_MAX_MESSAGES - DEVICE_QUEUE_RESERVED_MESSAGES
            && bytes <= DEVICE_QUEUE_MAX_BYTES - DEVICE_QUEUE_RESERVED_BYTES
            && of_sender.count() < DEVICE_QUEUE_SENDER_MAX_MESSAGES
    }
}

#[derive(Debug, Default)]
pub(super) struct Mailbox {
    waiting: Mutex<Waiting>,
    reader: AtomicWaker,
    /// Made by who waits for the end, which few ever do.
    gone: Mutex<Option<watch::Sender<bool>>>,
}

impl Mailbox {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a message in.
    pub(super) fn post(&self, letter: Letter) -> Result<(), PublishError> {
        let size_bytes = letter.payload.len();
        {
            let mut waiting = self.lock();
            if waiting.gone || waiting.closing.is_some() {
                return Err(PublishError::NotConnected);
            }
            if !waiting.has_room(&letter) {
                return Err(PublishError::QueueFull);
            }
            waiting.bytes += size_bytes;
            match letter.qos {
                Qos::AtMostOnce => waiting.unassured.push_back(letter),
                Qos::AtLeastOnce | Qos::ExactlyOnce => waiting.assured.push_back(letter),
            }
        }
        self.reader.wake();
        Ok(())
    }

    /// Asks the connection to end; the first reason counts.
    pub(super) fn close(&self, why: Ended) {
        self.lock().closing.get_or_insert(why);
        self.reader.wake();
    }

    /// Takes the next message out; one that wants an answer only when there is room for that.
    pub(super) fn take(&self, has_room: bool) -> Option<Letter> {
        let waiting = &mut *self.lock();
        let letter = if has_room && !waiting.assured.is_empty() {
            waiting.assured.pop_front()
        } else {
            waiting.unassured.pop_front()
        }?;
        waiting.bytes -= letter.payload.len();
        // An idle connection is to hold no memory for messages.
        for queue in [&mut waiting.assured, &mut waiting.unassured] {
            if queue.is_empty() {
                *queue = VecDeque::new();
            }
        }
        Some(letter)
    }

    /// Says why the connection is to end; else the task is woken when something comes.
    pub(super) fn poll_closing(&self, context: &mut Context<'_>) -> Poll<Ended> {
        self.reader.register(context.waker());
        self.lock().closing.map_or(Poll::Pending, Poll::Ready)
    }

    /// Whether the connection is asked to end.
    pub(super) fn is_closing(&self) -> bool {
        self.lock().closing.is_some()
    }

    /// Says that the connection is gone; what waits is dropped.
    pub(super) fn shut(&self) {
        let left = {
            let mut waiting = self.lock();
            waiting.gone = true;
            waiting.bytes = 0;
            (std::mem::take(&mut waiting.assured), std::mem::take(&mut waiting.unassured))
        };
        drop(left);
        if let Some(gone) = &*self.gone.lock().unwrap_or_else(PoisonError::into_inner) {
            gone.send_replace(true);
        }
    }

    /// Waits until the connection is gone.
    pub(super) async fn gone(&self) {
        let mut watching = {
            let mut gone = self.gone.lock().unwrap_or_else(PoisonError::into_inner);
            gone.get_or_insert_with(|| watch::Sender::new(false)).subscribe()
        };
        if self.lock().gone {
            return;
        }
        // The sender lives as long as the mailbox.
        let _ = watching.wait_for(|gone| *gone).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(qos: Qos, size_bytes: usize) -> Letter {
        of(0, qos, size_bytes)
    }

    fn of(sender: u32, qos: Qos, size_bytes: usize) -> Letter {
        Letter { kind: DeviceTopic::Commands, payload: vec![0; size_bytes].into(), qos, sender }
    }

    #[test]
    fn it_holds_so_many_messages_and_so_many_bytes() {
        let mailbox = Mailbox::default();
        for _ in 0..DEVICE_QUEUE_MAX_MESSAGES {
            mailbox.post(letter(Qos::AtLeastOnce, 1)).expect("room");
        }
        assert_eq!(mailbox.post(letter(Qos::AtLeastOnce, 1)), Err(PublishError::QueueFull));
        assert!(mailbox.take(true).is_some());
        mailbox.post(letter(Qos::AtLeastOnce, 1)).expect("room again");

        let mailbox = Mailbox::default();
        mailbox.post(letter(Qos::ExactlyOnce, DEVICE_QUEUE_MAX_BYTES)).expect("room");
        assert_eq!(mailbox.post(letter(Qos::AtLeastOnce, 1)), Err(PublishError::QueueFull));
        assert!(mailbox.take(true).is_some());
        mailbox.post(letter(Qos::AtLeastOnce, 1)).expect("room again");
    }

    #[test]
    fn a_flood_of_one_sender_leaves_room_for_the_others_and_for_words() {
        let mailbox = Mailbox::default();
        let flood = |sender: u32| {
            let posted = (0..=DEVICE_QUEUE_MAX_MESSAGES)
                .take_while(|_| mailbox.post(of(sender, Qos::AtMostOnce, 1)).is_ok());
            posted.count()
        };
        let free = DEVICE_QUEUE_MAX_MESSAGES - DEVICE_QUEUE_RESERVED_MESSAGES;
        assert_eq!(flood(1), DEVICE_QUEUE_SENDER_MAX_MESSAGES);
        mailbox.post(of(2, Qos::AtMostOnce, 1)).expect("the part of another");
        let rest: usize = (3..10).map(flood).sum();
        assert_eq!(rest, free - DEVICE_QUEUE_SENDER_MAX_MESSAGES - 1);
        mailbox.post(letter(Qos::AtLeastOnce, DEVICE_QUEUE_RESERVED_BYTES)).expect("a word");

        let mailbox = Mailbox::default();
        let most = DEVICE_QUEUE_MAX_BYTES - DEVICE_QUEUE_RESERVED_BYTES;
        mailbox.post(letter(Qos::AtMostOnce, most)).expect("room");
        assert_eq!(mailbox.post(of(2, Qos::AtMostOnce, 1)), Err(PublishError::QueueFull));
        mailbox.post(letter(Qos::AtLeastOnce, DEVICE_QUEUE_RESERVED_BYTES)).expect("a word");
    }

    #[test]
    fn what_wants_no_answer_does_not_wait_behind_what_does() {
        let mailbox = Mailbox::default();
        mailbox.post(letter(Qos::ExactlyOnce, 1)).expect("room");
        mailbox.post(letter(Qos::AtMostOnce, 2)).expect("room");
        assert_eq!(mailbox.take(false).map(|letter| letter.payload.len()), Some(2));
        assert!(mailbox.take(false).is_none());
        assert_eq!(mailbox.take(true).map(|letter| letter.payload.len()), Some(1));
    }

    #[tokio::test]
    async fn a_mailbox_that_closes_takes_no_more_and_one_that_is_gone_tells_it() {
        let mailbox = Mailbox::default();
        mailbox.close(Ended::TakenOver);
        mailbox.close(Ended::ByServer);
        assert_eq!(mailbox.post(letter(Qos::AtMostOnce, 1)), Err(PublishError::NotConnected));
        let why = std::future::poll_fn(|context| mailbox.poll_closing(context)).await;
        assert_eq!(why, Ended::TakenOver);
        tokio::join!(mailbox.gone(), async { mailbox.shut() });
        mailbox.gone().await;
    }
}
