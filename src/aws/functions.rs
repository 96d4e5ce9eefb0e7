//! The pipeline's functions, seen from outside: asked directly, and asked what feeds them. Only the CLI does this; the functions
//! do not call each other.
//!
//! IAM: `lambda:InvokeFunction` on on-deploy; `lambda:ListEventSourceMappings`.

use std::time::Duration;

use aws_config::SdkConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_lambda::Client;
use aws_sdk_lambda::config::Builder;
use aws_sdk_lambda::primitives::Blob;
use serde_json::Value;

use super::why;
use crate::domain::protocol::Why;

/// Longer than any of the functions may take.
const ANSWERS_WITHIN: Duration = Duration::from_secs(130);

pub struct Functions {
    client: Client,
}

/// What a function answered.
#[derive(Clone, Debug, PartialEq)]
pub enum Answered {
    With(Value),
    /// It failed, for this reason, in its own words.
    Failed {
        text: String,
        may_pass: bool,
    },
}

impl Functions {
    pub fn new(config: &SdkConfig) -> Self {
        let patient = TimeoutConfig::builder().connect_timeout(Duration::from_secs(2)).operation_attempt_timeout(ANSWERS_WITHIN).build();
        Self { client: Client::from_conf(Builder::from(config).timeout_config(patient).build()) }
    }

    /// Asks a function and waits for its answer.
    pub async fn ask(&self, function: &str, question: &Value) -> Result<Answered, Why> {
        let attempt = format!("ask the function {function}");
        let sent = self.client.invoke().function_name(function).payload(Blob::new(question.to_string())).send().await;
        let answer = sent.map_err(|error| why(&attempt, &error))?;
        let body: Value = serde_json::from_slice(answer.payload.as_ref().map(Blob::as_ref).unwrap_or_default()).unwrap_or_default();
        if answer.function_error.is_none() {
            return Ok(Answered::With(body));
        }
        let text = |name: &str| body.get(name).and_then(Value::as_str);
        // A function that is out of time or memory says so in Lambda's words, and tells no type of ours.
        let may_pass = text("errorType") != Some("GiveUp");
        Ok(Answered::Failed { text: text("errorMessage").unwrap_or("it does not say why").to_owned(), may_pass })
    }

    /// The ARNs of the queues that feed a function.
    pub async fn queues_of(&self, function: &str) -> Result<Vec<String>, Why> {
        let listed = self.client.list_event_source_mappings().function_name(function).into_paginator().items().send();
        let mappings = listed.collect::<Result<Vec<_>, _>>().await.map_err(|error| why(format!("list what feeds the function {function}"), &error))?;
        Ok(mappings.into_iter().filter_map(|mapping| mapping.event_source_arn).filter(|arn| arn.contains(":sqs:")).collect())
    }
}
