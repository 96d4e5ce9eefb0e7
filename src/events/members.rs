//! Takes a JSON object apart, member by member, so that an error names the event, the member and what is wrong with it.
//!
//! `null` is the same as absent everywhere. A text that is empty is absent too: ECR writes an untagged push as `""`.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::{Counts, UnreadableEvent};
use crate::domain::image::ImageDigest;

pub(super) struct Members<'a> {
    event: String,
    path: String,
    members: &'a Map<String, Value>,
}

impl<'a> Members<'a> {
    pub(super) fn new(event: &str, members: &'a Map<String, Value>) -> Self {
        Self { event: event.to_owned(), path: String::new(), members }
    }

    pub(super) fn bad(&self, member: &str, reason: impl Into<String>) -> UnreadableEvent {
        UnreadableEvent::BadMember { event: self.event.clone(), member: format!("{}{}", self.path, shown(member)), reason: reason.into() }
    }

    pub(super) fn get(&self, member: &str) -> Option<&'a Value> {
        self.members.get(member).filter(|value| !value.is_null())
    }

    pub(super) fn text_if_any(&self, member: &str) -> Result<Option<&'a str>, UnreadableEvent> {
        match self.get(member) {
            None => Ok(None),
            Some(Value::String(text)) if text.is_empty() => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.bad(member, format!("is {}, expected text", kind_of(other)))),
        }
    }

    pub(super) fn text(&self, member: &str) -> Result<&'a str, UnreadableEvent> {
        self.text_if_any(member)?.ok_or_else(|| self.bad(member, if self.get(member).is_some() { "is empty" } else { "is missing" }))
    }

    pub(super) fn whole_number_if_any(&self, member: &str) -> Result<Option<u64>, UnreadableEvent> {
        match self.get(member) {
            None => Ok(None),
            Some(value) => value.as_u64().map(Some).ok_or_else(|| self.bad(member, format!("is {}, expected a whole number from 0", shown_value(value)))),
        }
    }

    pub(super) fn digest_if_any(&self, member: &str) -> Result<Option<ImageDigest>, UnreadableEvent> {
        let Some(text) = self.text_if_any(member)? else { return Ok(None) };
        let bad = |_| self.bad(member, format!("is `{}`, no image digest: expected `sha256:` and 64 lowercase hex digits", shown(text)));
        text.parse().map(Some).map_err(bad)
    }

    pub(super) fn digest(&self, member: &str) -> Result<ImageDigest, UnreadableEvent> {
        self.text(member)?;
        self.digest_if_any(member)?.ok_or_else(|| self.bad(member, "is missing"))
    }

    /// A push names one tag, a scan a list of them; either may be missing, empty or hold an empty text.
    pub(super) fn tags(&self) -> Result<Vec<String>, UnreadableEvent> {
        let mut tags: Vec<&str> = self.text_if_any("image-tag")?.into_iter().collect();
        // An event has room for tens of thousands, and comparing each with each would outlast the function.
        let mut known: BTreeSet<&str> = tags.iter().copied().collect();
        match self.get("image-tags") {
            None => {}
            Some(Value::Array(list)) => {
                for (i, tag) in list.iter().enumerate() {
                    let tag = tag.as_str().ok_or_else(|| self.bad(&format!("image-tags[{i}]"), format!("is {}, expected text", kind_of(tag))))?;
                    if !tag.is_empty() && known.insert(tag) {
                        tags.push(tag);
                    }
                }
            }
            Some(other) => return Err(self.bad("image-tags", format!("is {}, expected a list", kind_of(other)))),
        }
        Ok(tags.into_iter().map(str::to_owned).collect())
    }

    /// `None`: no counts are stated, which is not the same as none found.
    pub(super) fn counts_if_any(&self, member: &str) -> Result<Option<Counts>, UnreadableEvent> {
        match self.get(member) {
            None => Ok(None),
            Some(Value::Object(counts)) => {
                let inner = self.inner(member)?;
                let count = |severity: &String| {
                    let number = inner.whole_number_if_any(severity)?;
                    Ok((severity.clone(), number.ok_or_else(|| inner.bad(severity, "is null, expected a whole number from 0"))?))
                };
                counts.keys().map(count).collect::<Result<Counts, _>>().map(Some)
            }
            Some(other) => Err(self.bad(member, format!("is {}, expected counts by severity", kind_of(other)))),
        }
    }

    pub(super) fn inner(&self, member: &str) -> Result<Members<'a>, UnreadableEvent> {
        match self.get(member) {
            Some(Value::Object(members)) => Ok(self.within(member, members)),
            Some(other) => Err(self.bad(member, format!("is {}, expected an object", kind_of(other)))),
            None => Err(self.bad(member, "is missing")),
        }
    }

    /// The members of an object that was found inside this one, under a name for it.
    pub(super) fn within(&self, name: &str, members: &'a Map<String, Value>) -> Members<'a> {
        Members { event: self.event.clone(), path: format!("{}{name}.", self.path), members }
    }
}

/// Somebody else's text inside one line of ours: cut short, nothing that a terminal would obey.
pub(crate) fn shown(text: &str) -> String {
    const LONGEST: usize = 100;
    let mut short = String::new();
    for (i, letter) in text.chars().enumerate() {
        if i == LONGEST {
            short.push_str("...");
            break;
        }
        if letter.is_control() { short.extend(letter.escape_default()) } else { short.push(letter) }
    }
    short
}

fn shown_value(value: &Value) -> String {
    match value {
        Value::Number(number) => format!("`{number}`"),
        Value::String(text) => format!("the text `{}`", shown(text)),
        other => kind_of(other).to_owned(),
    }
}

pub(super) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
