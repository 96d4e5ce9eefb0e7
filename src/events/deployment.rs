//! CloudFormation's request to a custom resource: create, update or delete a gate.
//!
//! What an answer needs (three ids and the kind of request) has to be there. Everything else is taken as it comes, because a
//! request that cannot be read cannot be answered, and CloudFormation then waits for an hour: a Delete succeeds whatever its
//! properties look like, and a Create with odd ones is answered with what is wrong about them.

pub mod properties;

use serde_json::{Map, Value};

use super::members::{Members, shown};
use super::{Glance, UnreadableEvent, arn};
use crate::domain::response_url::{BadResponseUrl, ResponseUrl};
use properties::{BadProperties, GateProperties};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub kind: Kind,
    /// What we called the resource in an earlier answer. A Create has none; an Update or Delete without one is answered all the same.
    pub physical_id: Option<String>,
    pub request_id: String,
    pub stack_id: String,
    pub logical_id: String,
    pub resource_type: String,
    /// `None`: the request did not come from CloudFormation directly, and nothing can answer it. See [`Request::answer_to`].
    pub response_url: Option<ResponseUrl>,
    /// As they came. [`Request::gate`] reads them.
    pub properties: Map<String, Value>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    Create,
    Update { old_properties: Map<String, Value> },
    Delete,
}

impl Kind {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Create => "Create",
            Self::Update { .. } => "Update",
            Self::Delete => "Delete",
        }
    }
}

impl Request {
    pub(super) fn read(members: &Map<String, Value>) -> Result<Self, UnreadableEvent> {
        let request = Members::new("CloudFormation request", members);
        let text = |member: &str| request.get(member).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned);
        let object = |member: &str| request.get(member).and_then(Value::as_object).cloned().unwrap_or_default();
        let kind = match request.text("RequestType")? {
            "Create" => Kind::Create,
            "Update" => Kind::Update { old_properties: object("OldResourceProperties") },
            "Delete" => Kind::Delete,
            other => return Err(request.bad("RequestType", format!("is `{}`, expected Create, Update or Delete", shown(other)))),
        };
        Ok(Self {
            physical_id: if kind == Kind::Create { None } else { text("PhysicalResourceId") },
            kind,
            request_id: request.text("RequestId")?.to_owned(),
            stack_id: request.text("StackId")?.to_owned(),
            logical_id: request.text("LogicalResourceId")?.to_owned(),
            resource_type: text("ResourceType").unwrap_or_default(),
            response_url: text("ResponseURL").map(ResponseUrl::from),
            properties: object("ResourceProperties"),
        })
    }

    /// Account and region of the stack.
    pub fn home(&self) -> Option<(&str, &str)> {
        arn::stack_home(&self.stack_id)
    }

    /// One property as it stands there, when it is text at all: for an answer that has to name something even where
    /// [`Request::gate`] refuses.
    pub fn property(&self, name: &str) -> Option<&str> {
        properties::text(&self.properties, name)
    }

    /// What the gate is asked for.
    pub fn gate(&self) -> Result<GateProperties, BadProperties> {
        GateProperties::parse(&self.properties)
    }

    /// Where to PUT the answer, if that is a place for answers. `test_origin` is the one origin besides CloudFormation's own.
    pub fn answer_to(&self, test_origin: Option<&str>) -> Result<&ResponseUrl, BadResponseUrl> {
        let url = self.response_url.as_ref().ok_or(BadResponseUrl::Missing)?;
        url.check(test_origin)?;
        Ok(url)
    }

    /// For a person to see; nothing here fails, and nothing may be decided by it.
    pub fn glance(&self) -> Glance {
        let home = self.home();
        Glance {
            account: home.map(|(account, _)| account.to_owned()),
            region: home.map(|(_, region)| region.to_owned()),
            ..properties::glance(&self.properties)
        }
    }
}
