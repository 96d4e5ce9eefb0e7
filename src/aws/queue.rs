//! Queues: messages to ourselves, and how soon a message that failed comes again.
//!
//! IAM: `sqs:SendMessage` on the scan queue; `sqs:ChangeMessageVisibility` on the queue that feeds the function.

use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::SendMessageBatchRequestEntry;
use jiff::SignedDuration;

use super::{Settings, why};
use crate::domain::protocol::Why;

/// SQS takes so many at once.
const AT_ONCE: usize = 10;
/// SQS delays a message no longer.
const LONGEST: SignedDuration = SignedDuration::from_secs(900);

pub struct Queue {
    client: Client,
    scan_queue_url: String,
}

impl Queue {
    pub fn new(config: &SdkConfig, settings: &Settings) -> Self {
        Self { client: Client::new(config), scan_queue_url: settings.scan_queue_url.clone() }
    }

    /// Sends a message of ours to the scan queue, to arrive after a while.
    pub async fn send(&self, body: String, after: SignedDuration) -> Result<(), Why> {
        let sent = self.client.send_message().queue_url(&self.scan_queue_url).message_body(body).delay_seconds(delay(after)).send().await;
        sent.map_err(|error| why("send a message to the scan queue", &error))?;
        Ok(())
    }

    /// Sends many, each to arrive after its own while. Should some of them fail, others may have been sent.
    pub async fn send_all(&self, messages: Vec<(String, SignedDuration)>) -> Result<(), Why> {
        let attempt = "send messages to the scan queue";
        for some in messages.chunks(AT_ONCE) {
            let entry = |(n, (body, after)): (usize, &(String, SignedDuration))| {
                SendMessageBatchRequestEntry::builder().id(n.to_string()).message_body(body).delay_seconds(delay(*after)).build()
            };
            let entries =
                some.iter().enumerate().map(entry).collect::<Result<Vec<_>, _>>().map_err(|error| Why::new(format!("could not {attempt}: {error}")))?;
            let sent = self.client.send_message_batch().queue_url(&self.scan_queue_url).set_entries(Some(entries)).send().await;
            let failed = sent.map_err(|error| why(attempt, &error))?.failed;
            if let Some(first) = failed.first() {
                return Err(Why::new(format!("could not {attempt}: {} of {} failed, the first with {}", failed.len(), some.len(), first.code)));
            }
        }
        Ok(())
    }

    /// Lets a message that was received come again after `wait`.
    pub async fn retry_in(&self, queue_arn: &str, receipt: &str, wait: Duration) -> Result<(), Why> {
        let Some(url) = queue_url(queue_arn) else {
            return Err(Why { text: format!("could not put a message back: `{queue_arn}` is not the ARN of a queue"), denied: false });
        };
        let seconds = i32::try_from(wait.as_secs()).unwrap_or(i32::MAX);
        let changed = self.client.change_message_visibility().queue_url(url).receipt_handle(receipt).visibility_timeout(seconds).send().await;
        changed.map_err(|error| why("put a message back", &error))?;
        Ok(())
    }
}

/// Never too early: SQS delays by whole seconds.
fn delay(after: SignedDuration) -> i32 {
    let after = after.clamp(SignedDuration::ZERO, LONGEST);
    i32::try_from(after.as_secs() + i64::from(after.subsec_nanos() > 0)).unwrap_or(0)
}

/// A queue's address; its parts are those of its ARN, so that nobody has to ask.
pub(super) fn queue_url(arn: &str) -> Option<String> {
    let mut parts = arn.split(':');
    let (partition, region, account, name) = (parts.nth(1)?, parts.nth(1)?, parts.next()?, parts.next()?);
    let suffix = if partition == "aws-cn" { "amazonaws.com.cn" } else { "amazonaws.com" };
    Some(format!("https://sqs.{region}.{suffix}/{account}/{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_found_by_its_arn() {
        assert_eq!(queue_url("arn:aws:sqs:eu-west-1:123456789012:scan").as_deref(), Some("https://sqs.eu-west-1.amazonaws.com/123456789012/scan"));
        assert_eq!(queue_url("scan"), None);
    }
}
