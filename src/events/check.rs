//! A question asked directly, without a deployment: `{"check": {...}}`, by Terraform, Step Functions, CI, or the CLI.
//!
//! Its members are the properties of `Custom::EcrScanVerifier`, by the same names and read by the same parser, so that a check
//! means what a gate means. Numbers and booleans may be themselves here: only CloudFormation makes text of them.

use serde_json::{Map, Value};

use super::deployment::properties::{self, BadProperties, GateProperties};
use super::members::{Members, kind_of};
use super::{Glance, UnreadableEvent};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// As they came. [`Check::gate`] reads them.
    pub properties: Map<String, Value>,
}

impl Check {
    pub(super) fn read(members: &Map<String, Value>) -> Result<Self, UnreadableEvent> {
        let event = Members::new("check", members);
        // What stands beside it was perhaps meant to stand in it, and to ask for something stricter.
        if let Some(odd) = members.keys().find(|member| member.as_str() != "check") {
            return Err(event.bad(odd, "stands beside `check`, where nothing is read; put it into `check`, or take it out"));
        }
        match event.get("check") {
            Some(Value::Object(properties)) => Ok(Self { properties: properties.clone() }),
            Some(other) => Err(event.bad("check", format!("is {}, expected an object with the properties of a gate", kind_of(other)))),
            None => Err(event.bad("check", "is missing")),
        }
    }

    /// What a gate with these properties is asked for.
    pub fn gate(&self) -> Result<GateProperties, BadProperties> {
        GateProperties::parse(&self.properties)
    }

    /// For a person to see; nothing here fails, and nothing may be decided by it.
    pub fn glance(&self) -> Glance {
        properties::glance(&self.properties)
    }

    /// The image as it is named, readable or not.
    pub fn image(&self) -> &str {
        properties::text(&self.properties, "imageTag").unwrap_or(properties::DEFAULT_TAG)
    }
}
