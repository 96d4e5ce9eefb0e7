//! The Requests table: what CloudFormation asked, and the finished answer.
//!
//! A request is *claimed* when its answer is stored, and *answered* when CloudFormation has it. Whoever comes later sends the
//! stored bytes and never judges again. The ResponseURL is a bearer secret: it stands in this table alone, until the answer
//! has arrived. Requests that wait (state `open`, with pointers) come with parking; the keys are final.
//!
//! IAM: `dynamodb:PutItem`, `UpdateItem` on Requests and Deployments (both are written in one transaction); `Query` on the
//! index `open-by-due` for the sweep.

use std::collections::HashMap;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{AttributeValue, Put, ReturnValuesOnConditionCheckFailure, TransactWriteItem, Update};
use jiff::{SignedDuration, Timestamp};

use super::{Settings, why};
use crate::domain::protocol::Why;
use crate::domain::request::{Admission, Answer, Record, Request, image_row};

/// How long an answered request is kept, so that a late delivery of it is recognised.
const KEPT: SignedDuration = SignedDuration::from_hours(24);
/// How long the claimer may take to send the answer before somebody else sends it: the PUT takes 20 s at most, and clocks
/// differ by some.
const LEASE: SignedDuration = SignedDuration::from_secs(60);

pub struct Requests {
    client: Client,
    table: String,
    deployments: String,
}

/// A request that has no answer yet, as its index shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenRequest {
    pub stack: String,
    pub logical_id: String,
    pub since: String,
}

/// What came of recording a decision.
pub enum Recorded {
    Yes,
    Before { answer: Answer, answered: bool },
}

impl Requests {
    pub fn new(client: Client, settings: &Settings) -> Self {
        Self { client, table: settings.requests_table.clone(), deployments: settings.deployments_table.clone() }
    }

    /// Stores the request with its answer and what is deployed from now on, all or nothing, unless it is stored already.
    pub async fn record(&self, request: &Request, response_url: &str, record: &Record) -> Result<Recorded, Why> {
        let attempt = format!("record the decision for {}", request.stack_key());
        let mut items = vec![put(self.request_item(request, response_url, record)), put(self.decision_item(request, record))];
        if let Some(admission) = &record.admitted {
            items.push(put(self.data_item(request, record, admission)));
            items.extend(self.image_items(request, record, admission).into_iter().map(put));
        }
        items.extend(record.replaced.iter().map(|row| self.replace(request, row, record.decided_at)));
        let error = match self.client.transact_write_items().set_transact_items(Some(items)).send().await {
            Ok(_) => return Ok(Recorded::Yes),
            Err(error) => error,
        };
        if let Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) = error.as_service_error() {
            // The request's own item is the first one, and the only one with a condition.
            let first = cancelled.cancellation_reasons.as_ref().and_then(|reasons| reasons.first());
            if let Some(reason) = first.filter(|reason| reason.code.as_deref() == Some("ConditionalCheckFailed")) {
                let stored = reason.item.clone().unwrap_or_default();
                let answer = text(&stored, "answer").ok_or_else(|| super::missing(&attempt, "answer in the request that is stored already"))?;
                return Ok(Recorded::Before { answer: Answer::stored(answer), answered: text(&stored, "state").as_deref() == Some("answered") });
            }
        }
        Err(why(&attempt, &error))
    }

    /// CloudFormation has the answer: the row keeps it for a day, and nothing that could be used to send another.
    pub async fn mark_answered(&self, request_id: &str, now: Timestamp) -> Result<(), Why> {
        let gone_at = now.saturating_add(KEPT).unwrap_or(Timestamp::MAX).as_second();
        let update = self
            .client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(key(request_id)))
            .update_expression("SET #state = :answered, answered_at = :now, #ttl = :gone_at REMOVE #open, response_url, lease_until")
            .condition_expression("attribute_exists(#key)")
            .expression_attribute_names("#state", "state")
            .expression_attribute_names("#ttl", "ttl")
            .expression_attribute_names("#open", "open")
            .expression_attribute_names("#key", "key")
            .expression_attribute_values(":answered", AttributeValue::S("answered".to_owned()))
            .expression_attribute_values(":now", AttributeValue::S(now.to_string()))
            .expression_attribute_values(":gone_at", AttributeValue::N(gone_at.to_string()));
        update.send().await.map_err(|error| why(format!("mark request {request_id} as answered"), &error))?;
        Ok(())
    }

    /// Requests that are overdue and have not been marked as answered, the longest overdue first; one page of them.
    pub async fn open_since_before(&self, now: Timestamp) -> Result<Vec<OpenRequest>, Why> {
        let query = self
            .client
            .query()
            .table_name(&self.table)
            .index_name("open-by-due")
            .key_condition_expression("#open = :open AND due < :now")
            .expression_attribute_names("#open", "open")
            .expression_attribute_values(":open", AttributeValue::S("open".to_owned()))
            .expression_attribute_values(":now", AttributeValue::N(now.as_millisecond().to_string()));
        let items = query.send().await.map_err(|error| why("read the open requests", &error))?.items.unwrap_or_default();
        let read = |item: &HashMap<String, AttributeValue>| {
            let get = |name: &str| text(item, name).unwrap_or_default();
            OpenRequest { stack: get("stack"), logical_id: get("logical_id"), since: get("since") }
        };
        Ok(items.iter().map(read).collect())
    }

    fn request_item(&self, request: &Request, response_url: &str, record: &Record) -> Put {
        let lease_until = record.decided_at.saturating_add(LEASE).unwrap_or(Timestamp::MAX);
        let mut item = key(&request.request_id);
        let mut set = |name: &str, value: AttributeValue| item.insert(name.to_owned(), value);
        set("state", AttributeValue::S("claimed".to_owned()));
        set("answer", AttributeValue::S(record.answer.as_str().to_owned()));
        set("response_url", AttributeValue::S(response_url.to_owned()));
        set("lease_until", AttributeValue::N(lease_until.as_millisecond().to_string()));
        // In the index of what is open until the answer has arrived, so that an answer that was never sent is found.
        set("open", AttributeValue::S("open".to_owned()));
        set("due", AttributeValue::N(record.due.as_millisecond().to_string()));
        set("since", AttributeValue::S(record.decided_at.to_string()));
        set("stack", AttributeValue::S(request.stack_id.clone()));
        set("logical_id", AttributeValue::S(request.logical_id.clone()));
        set("physical_id", AttributeValue::S(request.physical_id.clone()));
        set("repository", AttributeValue::S(request.named.repository.clone()));
        set("image", AttributeValue::S(request.named.image.clone()));
        set("verdict", AttributeValue::S(record.verdict.clone()));
        if let Some(digest) = record.admitted.as_ref().and_then(|admission| admission.digests.first()) {
            set("digest", AttributeValue::S(digest.to_string()));
        }
        let put = Put::builder()
            .table_name(&self.table)
            .set_item(Some(item))
            .condition_expression("attribute_not_exists(#key)")
            .expression_attribute_names("#key", "key");
        put.return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld).build().expect("table and item are set")
    }

    fn decision_item(&self, request: &Request, record: &Record) -> Put {
        let mut item = self.row(request, format!("decision#{}#{}", record.decided_at, request.request_id));
        item.insert("verdict".into(), AttributeValue::S(record.verdict.clone()));
        item.insert("why".into(), AttributeValue::S(record.why.clone()));
        item.insert("repository".into(), AttributeValue::S(request.named.repository.clone()));
        item.insert("image".into(), AttributeValue::S(request.named.image.clone()));
        if let Some(admission) = &record.admitted {
            item.insert("image_digest".into(), AttributeValue::S(admission.data.image_digest.clone()));
            item.insert("policy_hash".into(), AttributeValue::S(admission.data.policy_hash.clone()));
        }
        self.deployment(item)
    }

    fn data_item(&self, request: &Request, record: &Record, admission: &Admission) -> Put {
        let mut item = self.row(request, data_row(&request.properties_hash));
        let data = serde_json::to_string(&admission.data).expect("texts are JSON");
        item.insert("data".into(), AttributeValue::S(data));
        item.insert("since".into(), AttributeValue::S(record.decided_at.to_string()));
        self.deployment(item)
    }

    fn image_items(&self, request: &Request, record: &Record, admission: &Admission) -> Vec<Put> {
        let Some((repository, root)) = admission.repository.as_ref().zip(admission.digests.first()) else { return Vec::new() };
        let row = |digest| {
            let mut item = self.row(request, image_row(digest, repository));
            item.insert("digest".into(), AttributeValue::S(digest.to_string()));
            item.insert("repository".into(), AttributeValue::S(repository.arn()));
            item.insert("of".into(), AttributeValue::S(root.to_string()));
            item.insert("state".into(), AttributeValue::S("admitted".to_owned()));
            item.insert("image".into(), AttributeValue::S(request.named.image.clone()));
            item.insert("since".into(), AttributeValue::S(record.decided_at.to_string()));
            if let Some(policy) = &admission.policy {
                // The text as well as the hash: who judges later has to know what to judge by.
                item.insert("policy".into(), AttributeValue::S(policy.canonical()));
                item.insert("policy_hash".into(), AttributeValue::S(policy.hash().to_string()));
            }
            self.deployment(item)
        };
        admission.digests.iter().map(row).collect()
    }

    fn replace(&self, request: &Request, row: &str, now: Timestamp) -> TransactWriteItem {
        let update = Update::builder()
            .table_name(&self.deployments)
            .set_key(Some(self.row(request, row.to_owned())))
            .update_expression("SET #state = :replaced, #until = :now")
            .expression_attribute_names("#state", "state")
            .expression_attribute_names("#until", "until")
            .expression_attribute_values(":replaced", AttributeValue::S("replaced".to_owned()))
            .expression_attribute_values(":now", AttributeValue::S(now.to_string()));
        TransactWriteItem::builder().update(update.build().expect("table, key and expression are set")).build()
    }

    fn row(&self, request: &Request, row: String) -> HashMap<String, AttributeValue> {
        HashMap::from([("stack".to_owned(), AttributeValue::S(request.stack_key())), ("row".to_owned(), AttributeValue::S(row))])
    }

    fn deployment(&self, item: HashMap<String, AttributeValue>) -> Put {
        Put::builder().table_name(&self.deployments).set_item(Some(item)).build().expect("table and item are set")
    }
}

/// The row that keeps the data last answered for these properties.
pub(super) fn data_row(properties_hash: &str) -> String {
    format!("data#{properties_hash}")
}

fn put(put: Put) -> TransactWriteItem {
    TransactWriteItem::builder().put(put).build()
}

fn key(request_id: &str) -> HashMap<String, AttributeValue> {
    HashMap::from([("key".to_owned(), AttributeValue::S(format!("request#{request_id}"))), ("sort".to_owned(), AttributeValue::S("request".to_owned()))])
}

pub(super) fn text(item: &HashMap<String, AttributeValue>, name: &str) -> Option<String> {
    item.get(name).and_then(|value| value.as_s().ok()).cloned()
}
