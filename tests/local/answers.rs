//! The host to which functions send their answers to CloudFormation. Each is checked against the request it answers, as strictly as
//! AWS or stricter, and kept.
use std::collections::HashMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::Value;

use crate::local::wire::Arrived;

/// A request that was sent to a function, by CloudFormation or by a test in its name.
#[derive(Clone, Debug)]
pub struct Asked {
    pub account: String,
    pub token: String,
    pub request: Value,
    pub at: Instant,
}

impl Asked {
    pub fn new(request: Value) -> Self {
        let text = |name: &str| request[name].as_str().unwrap_or_default().to_owned();
        let account = text("StackId").split(':').nth(4).unwrap_or_default().to_owned();
        let token = text("ResponseURL").split('?').next().and_then(|url| url.rsplit('/').next()).unwrap_or_default().to_owned();
        Self { account, token, request, at: Instant::now() }
    }

    pub fn kind(&self) -> &str {
        self.request["RequestType"].as_str().unwrap_or_default()
    }
}

/// An answer that was found right.
#[derive(Clone, Debug)]
pub struct Answer {
    pub account: String,
    pub asked: Asked,
    pub body: Bytes,
    pub answer: Value,
    /// How often these very bytes came.
    pub times: usize,
    /// From the request to the first answer.
    pub took: Duration,
}

impl Answer {
    pub fn is_success(&self) -> bool {
        self.answer["Status"] == "SUCCESS"
    }

    pub fn reason(&self) -> &str {
        self.answer["Reason"].as_str().unwrap_or_default()
    }

    pub fn physical_id(&self) -> &str {
        self.answer["PhysicalResourceId"].as_str().unwrap_or_default()
    }

    pub fn data(&self, name: &str) -> &str {
        self.answer["Data"][name].as_str().unwrap_or_default()
    }
}

#[derive(Debug, Default)]
pub struct AnswerHost {
    asked: HashMap<String, Asked>,
    answers: Vec<Answer>,
    violations: Vec<(String, String)>,
}

impl AnswerHost {
    pub fn asked(&mut self, asked: Asked) {
        self.asked.insert(asked.token.clone(), asked);
    }

    pub fn account_of(&self, token: &str) -> Option<String> {
        self.asked.get(token).map(|asked| asked.account.clone())
    }

    /// Checks and keeps an answer. An `Err` says what is wrong with it, and fails the story whose account it is.
    pub fn take(&mut self, arrived: &Arrived) -> Result<(), String> {
        let token = arrived.path().rsplit('/').next().unwrap_or_default();
        let Some(asked) = self.asked.get(token).cloned() else {
            return Err(format!("an answer to a request that nobody made: {}", arrived.target));
        };
        let account = asked.account.clone();
        let taken = check(&asked, arrived).and_then(|answer| match self.answers.iter_mut().find(|known| known.asked.token == token) {
            Some(known) if known.body == arrived.body => {
                known.times += 1;
                Ok(())
            }
            Some(known) => Err(format!("a second, different answer; the first was {}", String::from_utf8_lossy(&known.body))),
            None => {
                let took = asked.at.elapsed();
                self.answers.push(Answer { account: account.clone(), asked, body: arrived.body.clone(), answer, times: 1, took });
                Ok(())
            }
        });
        taken.inspect_err(|wrong| self.violations.push((account, format!("{wrong}\n  the answer: {}", String::from_utf8_lossy(&arrived.body)))))
    }

    pub fn requests(&self, account: &str) -> Vec<Asked> {
        self.asked.values().filter(|asked| asked.account == account).cloned().collect()
    }

    pub fn answers(&self, account: &str) -> Vec<Answer> {
        self.answers.iter().filter(|answer| answer.account == account).cloned().collect()
    }

    /// What was wrong with answers of this account; taking it is knowing of it.
    pub fn take_violations(&mut self, account: &str) -> Vec<String> {
        let (theirs, others) = self.violations.drain(..).partition(|(of, _)| of == account);
        self.violations = others;
        theirs.into_iter().map(|(_, wrong): (String, String)| wrong).collect()
    }
}

/// The rules are CloudFormation's: custom resource response objects, and a pre-signed URL that covers no Content-Type.
fn check(asked: &Asked, arrived: &Arrived) -> Result<Value, String> {
    if let Some(kind) = arrived.headers.get(hyper::header::CONTENT_TYPE).filter(|kind| !kind.is_empty()) {
        return Err(format!("the Content-Type is {kind:?}; the pre-signed URL is for an empty one"));
    }
    if arrived.body.len() > 4096 {
        return Err(format!("the body has {} bytes; CloudFormation takes 4096", arrived.body.len()));
    }
    let answer: Value = serde_json::from_slice(&arrived.body).map_err(|e| format!("the body is not JSON: {e}"))?;
    let members = answer.as_object().ok_or("the body is not an object")?;
    let known = ["Status", "Reason", "PhysicalResourceId", "StackId", "RequestId", "LogicalResourceId", "NoEcho", "Data"];
    if let Some(unknown) = members.keys().find(|name| !known.contains(&name.as_str())) {
        return Err(format!("CloudFormation knows no member {unknown}"));
    }
    for same in ["StackId", "RequestId", "LogicalResourceId"] {
        if answer[same] != asked.request[same] || !answer[same].is_string() {
            return Err(format!("{same} is {}, the request says {}", answer[same], asked.request[same]));
        }
    }
    match answer["PhysicalResourceId"].as_str() {
        None | Some("") => return Err("PhysicalResourceId is missing or empty".to_owned()),
        Some(id) if id.len() > 1024 => return Err("PhysicalResourceId has more than 1024 bytes".to_owned()),
        Some(id) if asked.kind() != "Create" && asked.request["PhysicalResourceId"] != *id => {
            return Err(format!("PhysicalResourceId changes from {} to {id}: that is a replacement", asked.request["PhysicalResourceId"]));
        }
        Some(_) => {}
    }
    match answer["Status"].as_str() {
        Some("SUCCESS") => {}
        Some("FAILED") if answer["Reason"].as_str().is_some_and(|reason| !reason.trim().is_empty()) => {}
        Some("FAILED") => return Err("FAILED without a Reason".to_owned()),
        _ => return Err(format!("Status is {}", answer["Status"])),
    }
    match &answer["Data"] {
        Value::Null if !members.contains_key("Data") => {}
        Value::Object(data) if data.values().all(Value::is_string) => {}
        other => return Err(format!("Data has to be an object of strings: {other}")),
    }
    Ok(answer)
}
