//! Which key does what: the table's defaults, and the operator's own file.
//!
//! ```toml
//! [keys]
//! "command.cancel" = ["C", "C-x"]
//! "freeze" = []                    # no key
//! ```

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;

use super::actions::{ACTIONS, Action, Context};
use crate::tui::term::input::Key;

/// Says what is wrong with a keymap file.
#[derive(Debug, thiserror::Error)]
pub enum KeymapError {
    #[error(transparent)]
    Toml(#[from] toml::de::Error),
    #[error("there is no action {id:?}; docs/keys.md lists them")]
    UnknownAction { id: String },
    #[error("{id}: {key:?} is no key; expected such as \"g\", \"C-x\", \"Enter\", \"F5\"")]
    UnknownKey { id: String, key: String },
    #[error("{key} is given to both {first} and {second} in the same place")]
    Taken { key: Key, first: &'static str, second: &'static str },
    #[error("{id} is dangerous; it takes only capitals and Ctrl keys, not {key}")]
    Danger { id: &'static str, key: Key },
}

/// Keys by context.
#[derive(Debug, Clone)]
pub struct Keymap {
    by_key: HashMap<(Context, Key), Vec<Action>>,
    by_action: HashMap<Action, Vec<Key>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    keys: BTreeMap<String, Vec<String>>,
}

impl Default for Keymap {
    fn default() -> Self {
        Self::with(&BTreeMap::new())
    }
}

impl Keymap {
    /// Reads the operator's file over the defaults.
    pub fn parse(text: &str) -> Result<Self, KeymapError> {
        let file: File = toml::from_str(text)?;
        let mut own = BTreeMap::new();
        for (id, names) in file.keys {
            let Some(spec) = ACTIONS.iter().find(|spec| spec.id == id) else {
                return Err(KeymapError::UnknownAction { id });
            };
            let mut keys = Vec::new();
            for name in names {
                let Some(key) = Key::parse(&name) else {
                    return Err(KeymapError::UnknownKey { id, key: name });
                };
                let is_deliberate = key.ctrl
                    || matches!(key.code, crate::tui::term::input::Code::Char(c) if c.is_uppercase());
                if spec.danger && !is_deliberate {
                    return Err(KeymapError::Danger { id: spec.id, key });
                }
                keys.push(key);
            }
            own.insert(spec.id, keys);
        }
        let keymap = Self::with(&own);
        keymap.check(&own)?;
        Ok(keymap)
    }

    fn with(own: &BTreeMap<&str, Vec<Key>>) -> Self {
        let mut by_key: HashMap<_, Vec<Action>> = HashMap::new();
        let mut by_action = HashMap::new();
        for spec in ACTIONS {
            let keys = own
                .get(spec.id)
                .cloned()
                .unwrap_or_else(|| spec.keys.iter().filter_map(|name| Key::parse(name)).collect());
            for context in spec.contexts {
                for key in &keys {
                    by_key.entry((*context, *key)).or_default().push(spec.action);
                }
            }
            by_action.insert(spec.action, keys);
        }
        Self { by_key, by_action }
    }

    /// Only what the operator gave may collide: the table's own keys are tested.
    fn check(&self, own: &BTreeMap<&str, Vec<Key>>) -> Result<(), KeymapError> {
        for ((_, key), actions) in &self.by_key {
            let [first, second, ..] = actions.as_slice() else { continue };
            let (first, second) = (first.spec(), second.spec());
            if own.contains_key(first.id) || own.contains_key(second.id) {
                return Err(KeymapError::Taken { key: *key, first: first.id, second: second.id });
            }
        }
        Ok(())
    }

    /// What a key may do, the innermost context first.
    pub fn actions(&self, contexts: &[Context], key: Key) -> &[Action] {
        let bound = |key| contexts.iter().find_map(|context| self.by_key.get(&(*context, key)));
        // Shift that means nothing of its own is no other key.
        bound(key).or_else(|| bound(Key { shift: false, ..key })).map_or(&[], Vec::as_slice)
    }

    pub fn keys(&self, action: Action) -> &[Key] {
        self.by_action.get(&action).map_or(&[], Vec::as_slice)
    }

    /// The key to show beside an action.
    pub fn hint(&self, action: Action) -> Option<String> {
        self.keys(action).first().map(ToString::to_string)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_rebinds_and_what_it_leaves_out_stays() {
        let keymap = Keymap::parse("[keys]\n\"freeze\" = [\"F5\"]\n").expect("valid");
        let key = |name| Key::parse(name).expect("a key");
        assert_eq!(keymap.actions(&[Context::Global], key("F5")), [Action::Freeze]);
        assert!(keymap.actions(&[Context::Global], key("p")).is_empty());
        assert_eq!(keymap.actions(&[Context::Global], key("q")), [Action::Quit]);
    }

    #[test]
    fn a_wrong_file_is_refused_with_what_is_wrong() {
        for (file, said) in [
            ("[keys]\nfly = [\"x\"]", "no action \"fly\""),
            ("[keys]\nquit = [\"qq\"]", "\"qq\" is no key"),
            ("[keys]\nfreeze = [\"q\"]", "q is given to both"),
            ("[keys]\n\"command.cancel\" = [\"c\"]", "is dangerous"),
            ("[colors]", "unknown field"),
        ] {
            let error = Keymap::parse(file).expect_err(file).to_string();
            assert!(error.contains(said), "{file}: {error}");
        }
    }

    #[test]
    fn the_inner_context_wins() {
        let keymap = Keymap::default();
        let slash = Key::char('/');
        assert_eq!(keymap.actions(&[Context::Viewer, Context::Global], slash), [Action::Search]);
        assert_eq!(keymap.actions(&[Context::List, Context::Global], slash), [Action::Filter]);
    }
}
