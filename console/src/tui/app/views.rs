//! Saved views: a table's filter, order and columns under a name.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::list::ListState;

/// The most views of one table.
pub const VIEWS_MAX: usize = 50;

/// All saved views, by table and name; also the format of the state file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Views {
    pub views: BTreeMap<String, BTreeMap<String, View>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct View {
    pub filter: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sort: Option<String>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub hidden: BTreeSet<String>,
}

impl Views {
    /// Reads the state file; one that cannot be read counts as none.
    pub fn parse(text: &str) -> Self {
        toml::from_str(text).unwrap_or_default()
    }

    pub fn to_text(&self) -> String {
        toml::to_string(self).unwrap_or_default()
    }

    /// Saves how a table is shown; `false` when there are too many.
    pub fn save(&mut self, table: &str, name: &str, list: &ListState) -> bool {
        let views = self.views.entry(table.to_owned()).or_default();
        if views.len() >= VIEWS_MAX && !views.contains_key(name) {
            return false;
        }
        let view = View {
            filter: list.filter.clone(),
            sort: list.sort.clone(),
            hidden: list.hidden.clone(),
        };
        views.insert(name.to_owned(), view);
        true
    }
}
