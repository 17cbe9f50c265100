//! A form: fields with labels, made by hand or from a JSON Schema ([`schema`](super::schema)).

use std::collections::BTreeMap;

use ratatui_textarea::TextArea;
use serde_json::{Map, Value};

use super::field::TextField;
use crate::tui::term::input::{Code, Input, Key};

/// The longest text in an editor, in bytes: it must fit a payload.
const EDITOR_MAX_BYTES: usize = quarterdeck_protocol::limits::COMMAND_PAYLOAD_MAX_BYTES;

/// Fields, one of which has the focus.
#[derive(Debug, Clone, Default)]
pub struct Form {
    pub fields: Vec<Field>,
    pub focus: usize,
}

/// A labelled input.
#[derive(Debug, Clone)]
pub struct Field {
    /// Its name in the payload, and in the server's problems.
    pub name: String,
    pub label: String,
    pub help: String,
    pub required: bool,
    pub control: Control,
    /// What is wrong with it, by us or by the server.
    pub error: Option<String>,
}

/// How a field is filled in.
#[derive(Debug, Clone)]
pub enum Control {
    Text(TextField),
    Number {
        text: TextField,
        integer: bool,
    },
    Choice {
        options: Vec<String>,
        chosen: usize,
    },
    Switch(bool),
    /// One item a line.
    List(Box<Editor>),
    /// `name=value`, one a line.
    Map(Box<Editor>),
    Code(Box<Editor>),
    /// Whatever else the schema allows.
    Json(Box<Editor>),
    Slider {
        value: i64,
        min: i64,
        max: i64,
    },
    /// Values with their labels.
    Presets {
        options: Vec<(String, u64)>,
        chosen: usize,
    },
}

/// Text of several lines.
#[derive(Debug, Clone)]
pub struct Editor {
    area: TextArea<'static>,
    /// The rows it is shown in.
    pub rows: u16,
}

impl Editor {
    pub fn new(text: &str, rows: u16) -> Self {
        let lines = text.lines().map(str::to_owned).collect();
        Self { area: TextArea::new(lines), rows }
    }

    pub fn text(&self) -> String {
        self.area.lines().join("\n")
    }

    pub fn lines(&self) -> &[String] {
        self.area.lines()
    }

    /// Row and column, in characters.
    pub fn cursor(&self) -> (usize, usize) {
        let at = self.area.cursor();
        (at.0, at.1)
    }

    fn edit(&mut self, input: &Input) -> bool {
        let size: usize = self.area.lines().iter().map(|line| line.len() + 1).sum();
        match input {
            Input::Paste(text) => {
                if size + text.len() <= EDITOR_MAX_BYTES {
                    self.area.insert_str(text);
                }
                true
            }
            Input::Key(key) => {
                // Up in the first line and Down in the last leave the editor.
                let (row, _) = self.cursor();
                let leaves = (key.code == Code::Up && row == 0)
                    || (key.code == Code::Down && row + 1 == self.area.lines().len());
                let grows = matches!(key.code, Code::Char(_) | Code::Enter);
                if leaves || (grows && size >= EDITOR_MAX_BYTES) {
                    return !leaves;
                }
                let Some(input) = textarea_input(*key) else { return false };
                self.area.input(input);
                true
            }
            _ => false,
        }
    }
}

fn textarea_input(key: Key) -> Option<ratatui_textarea::Input> {
    use ratatui_textarea::Key as K;
    let code = match key.code {
        Code::Char(c) => K::Char(c),
        Code::Enter => K::Enter,
        Code::Backspace => K::Backspace,
        Code::Delete => K::Delete,
        Code::Up => K::Up,
        Code::Down => K::Down,
        Code::Left => K::Left,
        Code::Right => K::Right,
        Code::Home => K::Home,
        Code::End => K::End,
        Code::PageUp => K::PageUp,
        Code::PageDown => K::PageDown,
        Code::Tab | Code::BackTab | Code::Esc | Code::Insert | Code::F(_) => return None,
    };
    Some(ratatui_textarea::Input { key: code, ctrl: key.ctrl, alt: key.alt, shift: false })
}

impl Field {
    pub fn new(name: &str, label: &str, control: Control) -> Self {
        Self {
            name: name.to_owned(),
            label: label.to_owned(),
            help: String::new(),
            required: false,
            control,
            error: None,
        }
    }

    #[must_use]
    pub fn required(self) -> Self {
        Self { required: true, ..self }
    }

    #[must_use]
    pub fn help(self, help: &str) -> Self {
        Self { help: help.to_owned(), ..self }
    }

    /// The rows that its control takes.
    pub fn rows(&self) -> u16 {
        match &self.control {
            Control::Code(editor)
            | Control::Json(editor)
            | Control::List(editor)
            | Control::Map(editor) => editor.rows,
            _ => 1,
        }
    }

    /// Whether it takes several lines.
    pub const fn is_editor(&self) -> bool {
        matches!(
            self.control,
            Control::Code(_) | Control::Json(_) | Control::List(_) | Control::Map(_)
        )
    }

    /// The text that was typed or chosen.
    pub fn text(&self) -> String {
        match &self.control {
            Control::Text(text) | Control::Number { text, .. } => text.text().trim().to_owned(),
            Control::Choice { options, chosen } => {
                options.get(*chosen).cloned().unwrap_or_default()
            }
            Control::Switch(on) => on.to_string(),
            Control::List(e) | Control::Map(e) | Control::Code(e) | Control::Json(e) => e.text(),
            Control::Slider { value, .. } => value.to_string(),
            Control::Presets { .. } => self.preset().to_string(),
        }
    }

    /// The chosen preset; 0 for any other control.
    pub fn preset(&self) -> u64 {
        match &self.control {
            Control::Presets { options, chosen } => options.get(*chosen).map_or(0, |(_, v)| *v),
            _ => 0,
        }
    }

    /// The value for the payload: `None` where it is left out, or what was expected instead.
    pub fn value(&self) -> Result<Option<Value>, String> {
        let text = self.text();
        let missing = || if self.required { Err("is needed".to_owned()) } else { Ok(None) };
        match &self.control {
            Control::Text(field) => {
                if field.text().is_empty() {
                    missing()
                } else {
                    Ok(Some(Value::String(text)))
                }
            }
            Control::Number { integer, .. } => {
                if text.is_empty() {
                    return missing();
                }
                let number = if *integer {
                    text.parse::<i64>().ok().map(Value::from)
                } else {
                    text.parse::<f64>().ok().filter(|n| n.is_finite()).map(Value::from)
                };
                let expected = if *integer { "a whole number" } else { "a number" };
                number.map(Some).ok_or_else(|| format!("expected {expected}, not {text:?}"))
            }
            Control::Choice { .. } => {
                if text.is_empty() {
                    missing()
                } else {
                    Ok(Some(Value::String(text)))
                }
            }
            Control::Switch(on) => Ok(Some(Value::Bool(*on))),
            Control::Code(_) => {
                if text.trim().is_empty() {
                    missing()
                } else {
                    Ok(Some(Value::String(text)))
                }
            }
            Control::List(_) => {
                let items: Vec<Value> =
                    text.lines().filter(|line| !line.is_empty()).map(Value::from).collect();
                if items.is_empty() { missing() } else { Ok(Some(Value::Array(items))) }
            }
            Control::Map(_) => {
                let map = pairs(&text)?;
                if map.is_empty() {
                    return missing();
                }
                let map = map.into_iter().map(|(k, v)| (k, Value::String(v))).collect();
                Ok(Some(Value::Object(map)))
            }
            Control::Json(_) => {
                if text.trim().is_empty() {
                    return missing();
                }
                let json = serde_json::from_str(&text);
                json.map(Some).map_err(|error| format!("expected JSON: {error}"))
            }
            Control::Slider { value, .. } => Ok(Some(Value::from(*value))),
            Control::Presets { .. } => Ok(Some(Value::from(self.preset()))),
        }
    }

    fn edit(&mut self, input: &Input) -> bool {
        let key = match input {
            Input::Key(key) => Some(*key),
            _ => None,
        };
        let edited = match &mut self.control {
            Control::Text(text) | Control::Number { text, .. } => text.edit(input),
            Control::Choice { options, chosen } => turn(chosen, options.len(), key),
            Control::Presets { options, chosen } => turn(chosen, options.len(), key),
            Control::Switch(on) => match key.map(|key| key.code) {
                Some(Code::Char(' ') | Code::Left | Code::Right) => {
                    *on = !*on;
                    true
                }
                _ => false,
            },
            Control::Slider { value, min, max } => match key.map(|key| key.code) {
                Some(Code::Left | Code::Char('h' | '-')) => {
                    *value = (*value - 1).max(*min);
                    true
                }
                Some(Code::Right | Code::Char('l' | '+')) => {
                    *value = (*value + 1).min(*max);
                    true
                }
                Some(Code::Char(digit @ '0'..='9')) => {
                    let digit = i64::from(digit.to_digit(10).unwrap_or(0));
                    *value = if digit == 0 { 10 } else { digit }.clamp(*min, *max);
                    true
                }
                _ => false,
            },
            Control::List(e) | Control::Map(e) | Control::Code(e) | Control::Json(e) => {
                e.edit(input)
            }
        };
        if edited {
            self.error = None;
        }
        edited
    }
}

fn turn(chosen: &mut usize, n: usize, key: Option<Key>) -> bool {
    if n == 0 {
        return false;
    }
    match key.map(|key| key.code) {
        Some(Code::Left | Code::Char('h')) => *chosen = (*chosen + n - 1) % n,
        Some(Code::Right | Code::Char('l' | ' ')) => *chosen = (*chosen + 1) % n,
        _ => return false,
    }
    true
}

/// What a form made of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FormStep {
    /// It was an edit or a move of the focus.
    Taken,
    /// Enter on the last field, or Ctrl-Enter's stand-in C-n anywhere.
    Submit,
    /// Not for the form.
    Ignored,
}

impl Form {
    pub fn new(fields: Vec<Field>) -> Self {
        Self { fields, focus: 0 }
    }

    pub fn get(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// Whether Enter is a line break here.
    pub fn is_in_editor(&self) -> bool {
        self.fields.get(self.focus).is_some_and(Field::is_editor)
    }

    /// Whether Enter stays in the form: it breaks a line, or goes to the next field.
    pub fn keeps_enter(&self) -> bool {
        self.is_in_editor() || self.focus + 1 < self.fields.len()
    }

    /// What all fields say.
    pub fn texts(&self) -> Vec<String> {
        self.fields.iter().map(Field::text).collect()
    }

    /// The text of a field, empty when there is none of the name.
    pub fn text(&self, name: &str) -> String {
        self.get(name).map(Field::text).unwrap_or_default()
    }

    pub fn input(&mut self, input: &Input) -> FormStep {
        if self.fields.is_empty() {
            return FormStep::Ignored;
        }
        let last = self.fields.len() - 1;
        self.focus = self.focus.min(last);
        if let Some(field) = self.fields.get_mut(self.focus)
            && field.edit(input)
        {
            return FormStep::Taken;
        }
        let Input::Key(key) = input else { return FormStep::Ignored };
        match key.code {
            Code::Tab | Code::Down => {
                if self.focus == last && key.code == Code::Down {
                    return FormStep::Ignored;
                }
                self.focus = if self.focus == last { 0 } else { self.focus + 1 };
            }
            Code::BackTab | Code::Up => {
                self.focus = self.focus.checked_sub(1).unwrap_or(if key.code == Code::Up {
                    0
                } else {
                    last
                });
            }
            Code::Enter if self.focus < last => self.focus += 1,
            Code::Enter => return FormStep::Submit,
            _ => return FormStep::Ignored,
        }
        FormStep::Taken
    }

    /// The payload. On an error the field says what is wrong and has the focus.
    pub fn values(&mut self) -> Option<Map<String, Value>> {
        let mut map = Map::new();
        let mut first_wrong = None;
        for (at, field) in self.fields.iter_mut().enumerate() {
            match field.value() {
                Ok(Some(value)) => {
                    map.insert(field.name.clone(), value);
                }
                Ok(None) => {}
                Err(error) => {
                    field.error = Some(error);
                    first_wrong = first_wrong.or(Some(at));
                }
            }
        }
        if let Some(at) = first_wrong {
            self.focus = at;
            return None;
        }
        Some(map)
    }

    /// Puts an error beside the field that it names, e.g. `payload.args[0]`; `false` when none is.
    pub fn blame(&mut self, path: &str, error: &str) -> bool {
        let name = path.strip_prefix("payload.").unwrap_or(path);
        let name = name.split(['.', '[']).next().unwrap_or(name);
        let Some(at) = self.fields.iter().position(|field| field.name == name) else {
            return false;
        };
        self.fields[at].error = Some(error.to_owned());
        self.focus = at;
        true
    }
}

/// `name=value` lines.
pub fn pairs(text: &str) -> Result<BTreeMap<String, String>, String> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(|line| {
            let (name, value) = line
                .split_once('=')
                .filter(|(name, _)| !name.trim().is_empty())
                .ok_or_else(|| format!("expected name=value, not {line:?}"))?;
            Ok((name.trim().to_owned(), value.trim().to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use quarterdeck_protocol::operations;
    use serde_json::json;

    fn form(operation: &str, given: &Value) -> Form {
        let all = operations::builtin();
        let found = all.iter().find(|op| op.name == operation).expect("built in");
        Form::from_schema(&found.form_schema, given)
    }

    #[test]
    fn the_forms_of_all_builtin_operations_give_payloads_that_are_valid_once_filled() {
        for operation in operations::builtin() {
            let mut form = Form::from_schema(&operation.form_schema, &Value::Null);
            for field in &mut form.fields {
                // A list of lists has no control of its own.
                let is_json = matches!(field.control, Control::Json(_));
                assert_eq!(is_json, field.name == "updateList", "{}", field.name);
                if field.required {
                    let text = match &*field.name {
                        "path" => "/tmp/x",
                        "updateList" => r#"[{"type": "apt", "modules": []}]"#,
                        _ => "nginx",
                    };
                    assert!(field.edit(&Input::Paste(text.to_owned())));
                }
            }
            if ["file_push", "config_update"].contains(&&*operation.name) {
                form.focus = form.fields.iter().position(|f| f.name == "content").expect("there");
                form.input(&Input::Paste("hello".into()));
            }
            let payload = Value::Object(form.values().expect("filled"));
            let checked = quarterdeck_protocol::payload::check(&operation.name, &payload);
            assert_eq!(checked, Ok(()), "{} {payload}", operation.name);
        }
    }

    #[test]
    fn a_script_form_has_an_editor_lists_and_maps_and_takes_what_was_sent_before() {
        let given = json!({"script": "id\nuptime", "args": ["a", "b"], "env": {"A": "1"}});
        let mut form = form("run_script", &given);
        assert_eq!(form.fields[0].name, "script");
        assert!(matches!(form.fields[0].control, Control::Code(_)));
        assert_eq!(
            Value::Object(form.values().expect("complete")),
            json!({"script": "id\nuptime", "args": ["a", "b"], "env": {"A": "1"}, "interpreter": "sh"})
        );
    }

    #[test]
    fn an_error_stands_beside_its_field() {
        let mut form = form("run_script", &Value::Null);
        assert!(form.values().is_none());
        assert_eq!(form.fields[0].error.as_deref(), Some("is needed"));
        assert!(form.blame("payload.args[1]", "expected text"));
        assert_eq!(form.fields[form.focus].name, "args");
        assert!(!form.blame("targets.devices[0]", "unknown"));
    }
}
