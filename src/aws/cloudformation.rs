//! CloudFormation: whether a stack is rolling back or gone, and the answer to its request.
//!
//! IAM: `cloudformation:DescribeStacks`, and for the walk `DescribeStackResource`, on stacks of this account and region. The answer is a PUT to the pre-signed
//! ResponseURL and needs no permission: whoever knows the URL may answer, so it never reaches a log or an error.

use std::time::{Duration, Instant};

use aws_config::SdkConfig;
use aws_sdk_cloudformation::Client;
use aws_sdk_cloudformation::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_cloudformation::types::{ResourceStatus, Stack, StackStatus};
use aws_smithy_runtime_api::client::http::{HttpConnector, SharedHttpConnector};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::body::SdkBody;
use tokio::time::{sleep, timeout};

use super::{kind_of, missing, why};
use crate::domain::protocol::Why;
use crate::domain::request::Answer;

const WHOLE: Duration = Duration::from_secs(8);
const ALL_TRIES: Duration = Duration::from_secs(20);
const TRIES: u32 = 3;
/// Stacks are not nested deeper than this by anybody in their right mind.
const NESTED: usize = 20;
/// How long throttling is waited for, beside the SDK's own tries.
const THROTTLED: Duration = Duration::from_secs(10);

pub struct Stacks {
    client: Client,
}

/// What follows a rollback (cleaning up) asks for Deletes alone.
fn is_rollback(status: &StackStatus) -> bool {
    matches!(status, StackStatus::RollbackInProgress | StackStatus::UpdateRollbackInProgress | StackStatus::ImportRollbackInProgress)
}

impl Stacks {
    pub fn new(config: &SdkConfig) -> Self {
        Self { client: Client::new(config) }
    }

    /// Whether this stack is rolling back, or one that it is nested in: a nested stack that had been updated already shows its
    /// parent's rollback as an ordinary update of its own.
    pub async fn is_rolling_back(&self, stack_id: &str) -> Result<bool, Why> {
        let began = Instant::now();
        let mut next = Some(stack_id.to_owned());
        for _ in 0..NESTED {
            let Some(stack_id) = next else { return Ok(false) };
            let stack = self.describe(&stack_id, began).await?;
            if stack.stack_status.as_ref().is_some_and(is_rollback) {
                return Ok(true);
            }
            next = stack.parent_id.filter(|parent| *parent != stack_id);
        }
        Err(Why::new(format!("could not read the state of {stack_id}: it is nested more than {NESTED} stacks deep")))
    }

    /// Whether this stack, called by its id, is there.
    pub async fn exists(&self, stack_id: &str) -> Result<bool, Why> {
        match self.try_describe(stack_id, Instant::now()).await {
            Ok(stack) => Ok(stack.stack_status != Some(StackStatus::DeleteComplete)),
            // What was deleted more than 90 days ago is not remembered by its id either.
            Err(Undescribed::Unknown) => Ok(false),
            Err(Undescribed::Other(why)) => Err(why),
        }
    }

    /// Whether a stack that is there has this resource.
    pub async fn has(&self, stack_id: &str, logical_id: &str) -> Result<bool, Why> {
        let attempt = format!("read the state of {logical_id} in {stack_id}");
        match self.client.describe_stack_resource().stack_name(stack_id).logical_resource_id(logical_id).send().await {
            Ok(answer) => {
                let detail = answer.stack_resource_detail.ok_or_else(|| missing(&attempt, "resource"))?;
                let status = detail.resource_status.ok_or_else(|| missing(&attempt, "status"))?;
                Ok(status != ResourceStatus::DeleteComplete)
            }
            Err(error) if is_unknown(&error) => Ok(false),
            Err(error) => Err(why(&attempt, &error)),
        }
    }

    async fn describe(&self, stack_id: &str, began: Instant) -> Result<Stack, Why> {
        self.try_describe(stack_id, began).await.map_err(|undescribed| match undescribed {
            Undescribed::Unknown => Why::new(format!("could not read the state of {stack_id}: CloudFormation does not know this stack")),
            Undescribed::Other(why) => why,
        })
    }

    /// CloudFormation throttles readers of one account together, so a busy moment is waited for.
    async fn try_describe(&self, stack_id: &str, began: Instant) -> Result<Stack, Undescribed> {
        let attempt = format!("read the state of {stack_id}");
        loop {
            let error = match self.client.describe_stacks().stack_name(stack_id).send().await {
                Ok(answer) => return answer.stacks.unwrap_or_default().into_iter().next().ok_or_else(|| Undescribed::Other(missing(&attempt, "stack"))),
                Err(error) if is_unknown(&error) => return Err(Undescribed::Unknown),
                Err(error) => error,
            };
            let is_throttled =
                error.as_service_error().is_some_and(|error| matches!(error.code(), Some("Throttling" | "ThrottlingException" | "RequestLimitExceeded")));
            if !is_throttled || began.elapsed() > THROTTLED {
                return Err(Undescribed::Other(why(&attempt, &error)));
            }
            sleep(Duration::from_secs(1)).await;
        }
    }
}

enum Undescribed {
    /// CloudFormation says that there is no such stack.
    Unknown,
    Other(Why),
}

/// CloudFormation has no error of its own for what does not exist: of a stack "Stack with id x does not exist", of a resource
/// "Resource x does not exist for stack y".
fn is_unknown<E>(error: &SdkError<E>) -> bool
where
    E: ProvideErrorMetadata,
{
    error.as_service_error().is_some_and(|error| error.code() == Some("ValidationError") && error.message().is_some_and(|text| text.contains("does not exist")))
}

/// Sends answers.
pub struct Answers {
    connector: SharedHttpConnector,
}

impl Answers {
    pub fn new(connector: SharedHttpConnector) -> Self {
        Self { connector }
    }

    /// PUTs the answer. A redirect is not followed: it would hand the answer, and the stack's fate, to somebody else.
    pub async fn put(&self, response_url: &str, answer: &Answer) -> Result<(), Why> {
        let tries = async {
            let mut last = String::new();
            for attempt in 0..TRIES {
                sleep(Duration::from_millis(250) * attempt).await;
                match self.put_once(response_url, answer).await {
                    Ok(status) if (200..300).contains(&status) => return Ok(()),
                    // A refusal will be one again: the URL has expired, or is not what we were told.
                    Ok(status) if (300..500).contains(&status) => return Err(format!("status {status}")),
                    Ok(status) => last = format!("status {status}"),
                    Err(error) => last = error,
                }
            }
            Err(format!("{last}, {TRIES} times"))
        };
        let outcome = timeout(ALL_TRIES, tries).await.unwrap_or_else(|_| Err(format!("no answer within {} s", ALL_TRIES.as_secs())));
        outcome.map_err(|error| Why { text: format!("could not answer CloudFormation: {error}"), denied: false })
    }

    async fn put_once(&self, response_url: &str, answer: &Answer) -> Result<u16, String> {
        // The URL's signature covers the host and an empty content type: it goes out as it came, with nothing added.
        let mut request = HttpRequest::new(SdkBody::from(answer.as_str()));
        request.set_method("PUT").map_err(|_| "the method is not one".to_owned())?;
        request.set_uri(response_url).map_err(|_| "the ResponseURL is not a URL".to_owned())?;
        request.headers_mut().insert("content-length", answer.as_str().len().to_string());
        let call = timeout(WHOLE, self.connector.call(request)).await.map_err(|_| format!("no answer within {} s", WHOLE.as_secs()))?;
        let response = call.map_err(|error| kind_of(&error).to_owned())?;
        Ok(response.status().as_u16())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_states_are_a_rollback() {
        let rollbacks: Vec<&str> = StackStatus::values().iter().copied().filter(|word| is_rollback(&StackStatus::from(*word))).collect();
        assert_eq!(rollbacks, ["IMPORT_ROLLBACK_IN_PROGRESS", "ROLLBACK_IN_PROGRESS", "UPDATE_ROLLBACK_IN_PROGRESS"]);
    }
}
