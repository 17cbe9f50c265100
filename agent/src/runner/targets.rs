//! Whose commands are this agent's: those of the device it runs on, and of its children.
//!
//! ```text
//!  device/main//     folder ─┐
//!  device/child1//   folder ─┼─ read anew ─▶ news ─▶ the runner
//!  device/child2//   folder ─┘
//! ```
//!
//! Each target has a workflow folder of its own, and what stands in it is all that a
//! child can do: the agent's own operations act on the device that the agent runs on.
//! So one name may mean another workflow on each target, and a reading of one folder
//! waits for no other.

use std::{path::PathBuf, sync::Arc};

use tokio::sync::mpsc;

use super::{
    bus::Scope,
    folder::{Folder, News},
    intake::NOT_OPEN_TO_BUS,
};
use crate::{
    domain::operation::Owner,
    workflow::{
        catalogue::{Catalogue, Entry, Whose},
        topic::{self, CommandTopic},
    },
};

/// What the folders have become that may wait for the runner.
const NEWS_WAITING_MAX: usize = 1;

/// All of them, the agent's own first.
#[derive(Debug)]
pub(super) struct Targets {
    root: String,
    list: Vec<Target>,
    news: mpsc::Receiver<News>,
    /// Requests for a folder, in the order of what asked for them.
    requests: u64,
}

#[derive(Debug)]
struct Target {
    /// E.g. `device/main//`.
    name: String,
    folder: Folder,
    catalogue: Arc<Catalogue>,
    /// The folder was there when the agent started, and could be read.
    is_known: bool,
    /// The folder was read for requests up to this one.
    served: u64,
    /// Its commands do not come from the bus.
    is_unheard: bool,
}

impl Targets {
    /// Reads all folders for the first time, and begins to watch them.
    pub(super) fn watch(scope: Scope, workflows: PathBuf) -> Self {
        let (to, news) = mpsc::channel(NEWS_WAITING_MAX);
        let own = (Whose::Device, scope.target, workflows);
        let children = scope.children.into_iter();
        let children = children.map(|child| (Whose::Child, child.target, child.workflows));
        let list = std::iter::once(own).chain(children).enumerate();
        let list = list.map(|(at, (whose, name, path))| {
            let is_there = path.is_dir();
            let (folder, catalogue) = Folder::watch(at, whose, path, to.clone());
            let is_known = catalogue.is_some() && is_there;
            let catalogue = catalogue.unwrap_or_else(|| Catalogue::of(whose, Vec::new()));
            let catalogue = Arc::new(catalogue);
            Target { name, folder, catalogue, is_known, served: 0, is_unheard: false }
        });
        Self { root: scope.root, list: list.collect(), news, requests: 0 }
    }

    /// The root of all topics, and the target of the device that the agent runs on.
    pub(super) fn own(&self) -> (&str, &str) {
        (&self.root, self.list.first().map_or("", |own| &own.name))
    }

    /// The operations of the device that the agent runs on.
    pub(super) fn own_catalogue(&self) -> Arc<Catalogue> {
        self.list.first().map(|own| own.catalogue.clone()).unwrap_or_default()
    }

    /// Whether a command is for one of them.
    pub(super) fn has(&self, topic: &CommandTopic) -> bool {
        self.of(topic).is_some()
    }

    /// Notes whose commands do not come from the bus.
    pub(super) fn unheard(&mut self, deaf_to: &[String]) {
        for target in &mut self.list {
            target.is_unheard = deaf_to.contains(&target.name);
        }
    }

    /// Whether a command is for one of them, and what stands on its topic is known.
    pub(super) fn hears(&self, topic: &CommandTopic) -> bool {
        self.of(topic).is_some_and(|target| !target.is_unheard)
    }

    fn of(&self, topic: &CommandTopic) -> Option<&Target> {
        let mut list = self.list.iter();
        list.find(|target| topic.root() == self.root && topic.target() == target.name)
    }

    /// Finds what a command of this topic would run, on its target.
    pub(super) fn entry(&self, topic: &CommandTopic) -> Option<&Entry> {
        self.of(topic).and_then(|target| target.catalogue.get(topic.operation()))
    }

    /// Whether its target surely has no such operation: a folder that is not there yet, or cannot
    /// be read, may have it.
    pub(super) fn lacks(&self, topic: &CommandTopic) -> bool {
        let target = self.of(topic).filter(|target| target.is_known);
        target.is_some_and(|target| target.catalogue.lacks(topic.operation()))
    }

    /// Whether who takes part in the bus may start a command.
    pub(super) fn is_open_to_bus(&self, topic: &CommandTopic) -> bool {
        self.of(topic).is_some_and(|target| target.is_open_to_bus(topic.operation()))
    }

    // --- the folders --------------------------------------------------------------

    /// Has the folder of a command's target read; gives the number of the request.
    pub(super) fn ask(&mut self, topic: &CommandTopic) -> Option<u64> {
        let number = self.requests + 1;
        self.of(topic)?.folder.ask(number);
        self.requests = number;
        Some(number)
    }

    /// Whether the folder of a command's target was read after this request.
    pub(super) fn has_read(&self, topic: &CommandTopic, request: u64) -> bool {
        self.of(topic).is_some_and(|target| request <= target.served)
    }

    /// Waits for what reading a folder came to.
    pub(super) async fn news(&mut self) -> News {
        match self.news.recv().await {
            Some(news) => news,
            None => std::future::pending().await,
        }
    }

    /// Takes what reading a folder came to; says whether the operations are others now.
    pub(super) fn take(&mut self, news: News) -> bool {
        let Some(target) = self.list.get_mut(news.at) else { return false };
        target.served = target.served.max(news.served);
        let is_other = news.catalogue.is_some();
        target.catalogue = news.catalogue.map_or_else(|| target.catalogue.clone(), Arc::new);
        is_other
    }

    // --- what they can do -----------------------------------------------------------

    /// The topics on which the bus is told what each can do (P2). Without handlers the
    /// agent's own operations are none.
    pub(super) fn capabilities(&self, has_handlers: bool) -> impl Iterator<Item = String> {
        let heard = self.list.iter().filter(|target| !target.is_unheard);
        heard.flat_map(move |target| {
            let entries = target.catalogue.entries();
            let able = entries.filter(move |(name, entry)| {
                entry.workflow.is_valid()
                    && (entry.is_file() || has_handlers)
                    && target.is_open_to_bus(name)
            });
            able.map(|(name, _)| topic::capability(&self.root, &target.name, name))
        })
    }
}

impl Target {
    /// Those of the owner's files are, and of the agent's own those that take no free text
    /// to run and no path to write.
    fn is_open_to_bus(&self, operation: &str) -> bool {
        self.catalogue.owner_of(operation) != Some(Owner::Agent)
            || !NOT_OPEN_TO_BUS.contains(&operation)
    }
}
