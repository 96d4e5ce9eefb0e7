//! The dead-letter queues of a pipeline, for a person who looks after it. The functions never touch them.
//!
//! The queues have names that CloudFormation makes. They are found by what feeds the functions: each of these queues says where
//! its dead letters go. (The queue of what on-deploy has failed on keeps none, and is not looked at: it holds ResponseURLs.)
//!
//! IAM: `lambda:ListEventSourceMappings`; on the queues `sqs:GetQueueAttributes`, on the dead-letter queues `sqs:ReceiveMessage`
//! and `sqs:ChangeMessageVisibility`, and to bring letters back `sqs:DeleteMessage` there and `sqs:SendMessage` on the queues that
//! they come from. With a key of one's own, `kms:Decrypt` and `kms:GenerateDataKey` on it too.

use std::collections::BTreeMap;

use aws_config::SdkConfig;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::{Message, MessageSystemAttributeName, QueueAttributeName};
use jiff::Timestamp;
use serde_json::Value;

use super::functions::Functions;
use super::queue::queue_url;
use super::{missing, why};
use crate::domain::protocol::Why;

/// SQS hands out no more at once.
const AT_ONCE: usize = 10;
/// For so long nobody else gets what we look at; also if we are killed meanwhile.
const OURS_FOR_S: i32 = 60;
/// SQS asks only some of its machines unless it may take a moment.
const WAIT_S: i32 = 1;

pub struct DeadLetters {
    client: Client,
    functions: Functions,
    pipeline: String,
}

/// A queue, and where its dead letters are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lane {
    /// Of the queue: its ARN's last part.
    pub name: String,
    queue_url: String,
    letters_url: String,
    /// How many there are, roughly: SQS knows it no better.
    pub letters: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    pub body: String,
    pub sent_at: Option<Timestamp>,
    pub received: u64,
}

impl DeadLetters {
    pub fn new(config: &SdkConfig, pipeline: &str) -> Self {
        Self { client: Client::new(config), functions: Functions::new(config), pipeline: pipeline.to_owned() }
    }

    /// The pipeline's queues that have dead letters, by name.
    pub async fn lanes(&self) -> Result<Vec<Lane>, Why> {
        let mut queues = Vec::new();
        for function in ["on-push", "on-scan"] {
            queues.extend(self.functions.queues_of(&format!("ecr-scan-verifier-{}-{function}", self.pipeline)).await?);
        }
        queues.sort();
        queues.dedup();
        let mut lanes = Vec::new();
        for arn in queues {
            let attempt = format!("find the dead letters of {arn}");
            let url = |arn: &str| queue_url(arn).ok_or_else(|| Why::new(format!("could not {attempt}: `{arn}` is not the ARN of a queue")));
            let attributes = self.attributes(&url(&arn)?, QueueAttributeName::RedrivePolicy, &attempt).await?;
            let Some(policy) = attributes.get(&QueueAttributeName::RedrivePolicy) else { continue };
            let policy: Value = serde_json::from_str(policy).map_err(|error| Why::new(format!("could not {attempt}: {error}")))?;
            let Some(letters) = policy.get("deadLetterTargetArn").and_then(Value::as_str) else { return Err(missing(&attempt, "deadLetterTargetArn")) };
            let letters_url = url(letters)?;
            let count = self.attributes(&letters_url, QueueAttributeName::ApproximateNumberOfMessages, &attempt).await?;
            lanes.push(Lane {
                name: arn.rsplit(':').next().unwrap_or(&arn).to_owned(),
                queue_url: url(&arn)?,
                letters: count.get(&QueueAttributeName::ApproximateNumberOfMessages).and_then(|count| count.parse().ok()).unwrap_or(0),
                letters_url,
            });
        }
        Ok(lanes)
    }

    async fn attributes(&self, url: &str, name: QueueAttributeName, attempt: &str) -> Result<BTreeMap<QueueAttributeName, String>, Why> {
        let answer = self.client.get_queue_attributes().queue_url(url).attribute_names(name).send().await;
        Ok(answer.map_err(|error| why(attempt, &error))?.attributes.unwrap_or_default().into_iter().collect())
    }

    /// Up to ten of them, left where they are.
    pub async fn peek(&self, lane: &Lane) -> Result<Vec<Letter>, Why> {
        let attempt = format!("look at the dead letters of {}", lane.name);
        let mut taken: Vec<Message> = Vec::new();
        // One answer need not hold all that there is; and SQS may hand the same out twice.
        while taken.len() < AT_ONCE {
            let mut more = self.receive(lane, AT_ONCE - taken.len(), &attempt).await?;
            more.retain(|message| taken.iter().all(|known| known.message_id != message.message_id));
            if more.is_empty() {
                break;
            }
            taken.extend(more);
        }
        for message in &taken {
            self.let_go(lane, message).await;
        }
        Ok(taken.iter().map(letter).collect())
    }

    /// Brings all of them back to the queue that they come from, and says how many. Sent first and removed then: whoever is killed
    /// in between leaves one of them twice, and to handle a message twice does no harm.
    pub async fn bring_back(&self, lane: &Lane, mut brought: impl FnMut()) -> Result<(), Why> {
        let attempt = format!("bring the dead letters of {} back", lane.name);
        // It comes to an end: what fails again is tried several times, minutes apart, before it is here once more.
        loop {
            let letters = self.receive(lane, AT_ONCE, &attempt).await?;
            if letters.is_empty() {
                return Ok(());
            }
            for (n, message) in letters.iter().enumerate() {
                if let Err(error) = self.bring_one_back(lane, message, &attempt).await {
                    for message in &letters[n..] {
                        self.let_go(lane, message).await;
                    }
                    return Err(error);
                }
                brought();
            }
        }
    }

    async fn bring_one_back(&self, lane: &Lane, message: &Message, attempt: &str) -> Result<(), Why> {
        let body = message.body.as_deref().unwrap_or_default();
        self.client.send_message().queue_url(&lane.queue_url).message_body(body).send().await.map_err(|error| why(attempt, &error))?;
        let receipt = message.receipt_handle.as_deref().unwrap_or_default();
        let removed = self.client.delete_message().queue_url(&lane.letters_url).receipt_handle(receipt).send().await;
        removed.map_err(|error| why(attempt, &error))?;
        Ok(())
    }

    async fn receive(&self, lane: &Lane, most: usize, attempt: &str) -> Result<Vec<Message>, Why> {
        let received = self
            .client
            .receive_message()
            .queue_url(&lane.letters_url)
            .max_number_of_messages(i32::try_from(most).unwrap_or(1))
            .visibility_timeout(OURS_FOR_S)
            .wait_time_seconds(WAIT_S)
            .message_system_attribute_names(MessageSystemAttributeName::SentTimestamp)
            .message_system_attribute_names(MessageSystemAttributeName::ApproximateReceiveCount);
        Ok(received.send().await.map_err(|error| why(attempt, &error))?.messages.unwrap_or_default())
    }

    /// Others get it at once. If that fails, they get it a minute later.
    async fn let_go(&self, lane: &Lane, message: &Message) {
        let receipt = message.receipt_handle.as_deref().unwrap_or_default();
        let _ = self.client.change_message_visibility().queue_url(&lane.letters_url).receipt_handle(receipt).visibility_timeout(0).send().await;
    }
}

fn letter(message: &Message) -> Letter {
    let number = |name: MessageSystemAttributeName| message.attributes.as_ref()?.get(&name)?.parse::<u64>().ok();
    Letter {
        body: message.body.clone().unwrap_or_default(),
        sent_at: number(MessageSystemAttributeName::SentTimestamp)
            .and_then(|milliseconds| i64::try_from(milliseconds).ok())
            .and_then(|milliseconds| Timestamp::from_millisecond(milliseconds).ok()),
        received: number(MessageSystemAttributeName::ApproximateReceiveCount).unwrap_or(0),
    }
}
