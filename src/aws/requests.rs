//! The Requests table: what CloudFormation asked, who waits for what, and the finished answers.
//!
//! A request is *open* while it waits, *claimed* when its answer is stored, and *answered* when CloudFormation has it. Whoever
//! comes later sends the stored bytes and never judges again. Pointers lead from an image, and from a resource, to the open
//! requests. The ResponseURL is a bearer secret: it stands in the request's own item alone, until the answer has arrived.
//!
//! IAM: `dynamodb:GetItem`, `PutItem`, `UpdateItem`, `DeleteItem`, `Query` on Requests, `PutItem`, `UpdateItem` on Deployments
//! (both are written in one transaction); `Query` on the index `open-by-due` for the sweep and for `waiters`.

use std::collections::HashMap;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{AttributeValue, CancellationReason, Delete, Put, ReturnValue, ReturnValuesOnConditionCheckFailure, TransactWriteItem, Update};
use jiff::{SignedDuration, Timestamp};

use super::deployments::{LIVE, NEWEST, data_row, policy_row};
use super::{Settings, missing, why};
use crate::domain::head::Counted;
use crate::domain::image::{ImageDigest, Repository};
use crate::domain::outputs::{Progress, Told};
use crate::domain::protocol::Why;
use crate::domain::protocol::wake::lease;
use crate::domain::request::{Admission, Answer, Glass, Record, Request, Stage, Stored, Waiting, image_row};
use crate::domain::response_url::ResponseUrl;

/// How long a request is kept after its time, so that a late delivery of it is recognised. One that was never answered goes
/// with its secret: by then the URL has long ceased to be good.
const KEPT: SignedDuration = SignedDuration::from_hours(24);
/// DynamoDB takes no more items in one transaction.
const TRANSACTION: usize = 100;

pub struct Requests {
    client: Client,
    table: String,
    deployments: String,
}

/// A request that has no answer yet, as its index shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenRequest {
    pub request_id: String,
    pub stack: String,
    pub logical_id: String,
    pub repository: String,
    pub image: String,
    pub digest: String,
    pub state: String,
    pub since: String,
    pub due: Option<Timestamp>,
    pub lease_until: Option<Timestamp>,
}

/// What came of storing a request or its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recorded {
    Yes,
    Before(Stage),
    /// A newer request of the same resource has been decided.
    Superseded,
    /// Another request of the resource was let through since its rows were read.
    RowsChanged,
    /// What was to let the image through has been used, or has ended.
    NoGlass,
}

impl Requests {
    pub fn new(client: Client, settings: &Settings) -> Self {
        Self { client, table: settings.requests_table.clone(), deployments: settings.deployments_table.clone() }
    }

    /// The request as it is stored.
    pub async fn find(&self, request_id: &str) -> Result<Option<Stored>, Why> {
        let attempt = format!("read request {request_id}");
        let answer = self.client.get_item().table_name(&self.table).set_key(Some(key(request_id))).consistent_read(true).send().await;
        let Some(item) = answer.map_err(|error| why(&attempt, &error))?.item else { return Ok(None) };
        let asked = text(&item, "asked").ok_or_else(|| missing(&attempt, "request in its item"))?;
        let unreadable = |error: serde_json::Error| Why::new(format!("could not {attempt}: it is stored in a form that this version cannot read: {error}"));
        Ok(Some(Stored {
            request: serde_json::from_str(&asked).map_err(unreadable)?,
            url: text(&item, "response_url").map(ResponseUrl::from),
            due: moment(&item, "due").ok_or_else(|| missing(&attempt, "due time in its item"))?,
            stage: stage(&item).ok_or_else(|| missing(&attempt, "stage in its item"))?,
            images: text(&item, "images").map(|images| serde_json::from_str(&images)).transpose().map_err(unreadable)?,
            timer: number(&item, "timer_seq").and_then(|n| u32::try_from(n).ok()).unwrap_or(0),
            told: text(&item, "told").map(|told| serde_json::from_str(&told)).transpose().map_err(unreadable)?,
            notice: text(&item, "notice").map(|notice| serde_json::from_str(&notice)).transpose().map_err(unreadable)?,
            progress: text(&item, "outputs").map(|progress| serde_json::from_str(&progress)).transpose().map_err(unreadable)?.unwrap_or_default(),
        }))
    }

    /// Stores the request with its answer and what is deployed from now on, all or nothing, unless it is stored already.
    pub async fn record(&self, request: &Request, url: &ResponseUrl, due: Timestamp, record: &Record) -> Result<Recorded, Why> {
        let attempt = format!("record the decision for {}", request.stack_key());
        let mut item = self.request_item(request, url, due, record.decided_at)?;
        let mut set = |name: &str, value: AttributeValue| item.insert(name.to_owned(), value);
        set("state", AttributeValue::S("claimed".to_owned()));
        set("answer", AttributeValue::S(record.answer.as_str().to_owned()));
        set("lease_until", milliseconds(lease(record.decided_at)));
        set("verdict", AttributeValue::S(record.verdict.clone()));
        if let Some(digest) = record.admitted.as_ref().and_then(|admission| admission.digests.first()) {
            set("digest", AttributeValue::S(digest.to_string()));
        }
        if let Some(told) = told(request, record) {
            set("told", told);
        }
        if let Some(notice) = &record.notice {
            set("notice", AttributeValue::S(serde_json::to_string(notice).expect("texts are JSON")));
        }
        let mut items = vec![put(new_item(&self.table, item))];
        items.extend(self.decision(request, record));
        self.transact(items, request.asked_at, &attempt).await
    }

    /// Stores the request as open, with the pointers by which news find it, unless it is stored already.
    pub async fn register(
        &self,
        request: &Request,
        url: &ResponseUrl,
        due: Timestamp,
        images: &Counted,
        since: Timestamp,
        told: Option<&Told>,
    ) -> Result<Recorded, Why> {
        let attempt = format!("let the request of {} wait", request.stack_key());
        let Ok(gate) = &request.gate else { return Err(Why::new(format!("could not {attempt}: it asks for nothing"))) };
        let mut item = self.request_item(request, url, due, since)?;
        let mut set = |name: &str, value: AttributeValue| item.insert(name.to_owned(), value);
        set("state", AttributeValue::S("open".to_owned()));
        set("digest", AttributeValue::S(images.digest.to_string()));
        set("images", AttributeValue::S(serde_json::to_string(images).expect("texts are JSON")));
        set("timer_seq", AttributeValue::N("1".to_owned()));
        if let Some(told) = told {
            set("told", AttributeValue::S(serde_json::to_string(told).expect("texts are JSON")));
        }
        let pointer = |hash: String| {
            let mut item = HashMap::from([
                ("key".to_owned(), AttributeValue::S(hash)),
                ("sort".to_owned(), AttributeValue::S(request.request_id.clone())),
                ("repository".to_owned(), AttributeValue::S(gate.repository.arn())),
                ("stack".to_owned(), AttributeValue::S(request.stack_id.clone())),
                ("logical_id".to_owned(), AttributeValue::S(request.logical_id.clone())),
                ("since".to_owned(), AttributeValue::S(since.to_string())),
                ("asked_at".to_owned(), milliseconds(request.asked_at)),
                ("due".to_owned(), milliseconds(due)),
            ]);
            item.insert("ttl".to_owned(), gone_at(due));
            put(Put::builder().table_name(&self.table).set_item(Some(item)).build().expect("table and item are set"))
        };
        let mut items = vec![put(new_item(&self.table, item)), pointer(of_resource(&request.stack_key()))];
        items.extend(images.digests().map(|digest| pointer(of_image(digest))));
        self.transact(items, request.asked_at, &attempt).await
    }

    /// Stores the answer of an open request, and what is deployed from now on, unless one is stored already.
    pub async fn claim(&self, request: &Request, record: &Record) -> Result<Recorded, Why> {
        let attempt = format!("record the decision for {}", request.stack_key());
        let told = told(request, record);
        let update = Update::builder()
            .table_name(&self.table)
            .set_key(Some(key(&request.request_id)))
            .update_expression(format!(
                "SET #state = :claimed, answer = :answer, lease_until = :lease, verdict = :verdict{}{}",
                if record.notice.is_some() { ", notice = :notice" } else { "" },
                // What was written for an answer that was not given does not count for this one.
                if told.is_some() { ", told = :told REMOVE outputs" } else { "" },
            ))
            .condition_expression("#state = :open AND attribute_not_exists(answer)")
            .expression_attribute_names("#state", "state")
            .expression_attribute_values(":claimed", AttributeValue::S("claimed".to_owned()))
            .expression_attribute_values(":open", AttributeValue::S("open".to_owned()))
            .expression_attribute_values(":answer", AttributeValue::S(record.answer.as_str().to_owned()))
            .expression_attribute_values(":lease", milliseconds(lease(record.decided_at)))
            .expression_attribute_values(":verdict", AttributeValue::S(record.verdict.clone()))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let update = match told {
            Some(told) => update.expression_attribute_values(":told", told),
            None => update,
        };
        let update = match &record.notice {
            Some(notice) => update.expression_attribute_values(":notice", AttributeValue::S(serde_json::to_string(notice).expect("texts are JSON"))),
            None => update,
        };
        let mut items = vec![TransactWriteItem::builder().update(update.build().expect("table, key and expression are set")).build()];
        items.extend(self.decision(request, record));
        self.transact(items, request.asked_at, &attempt).await
    }

    /// Takes over from a claimer whose lease has ended. `false`: somebody else has done so, or the answer has arrived.
    pub async fn take_lease(&self, request_id: &str, until: Timestamp, now: Timestamp) -> Result<bool, Why> {
        let update = self
            .client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(key(request_id)))
            .update_expression("SET lease_until = :until")
            .condition_expression("#state = :claimed AND lease_until <= :now")
            .expression_attribute_names("#state", "state")
            .expression_attribute_values(":claimed", AttributeValue::S("claimed".to_owned()))
            .expression_attribute_values(":until", milliseconds(until))
            .expression_attribute_values(":now", milliseconds(now));
        self.unless_lost(update.send().await, format!("take over request {request_id}"))
    }

    /// Timer `to` is under way. `false`: a later one is already.
    pub async fn advance_timer(&self, request_id: &str, to: u32) -> Result<bool, Why> {
        let update = self
            .client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(key(request_id)))
            .update_expression("SET timer_seq = :to")
            .condition_expression("timer_seq < :to")
            .expression_attribute_values(":to", AttributeValue::N(to.to_string()));
        self.unless_lost(update.send().await, format!("note the timer of request {request_id}"))
    }

    /// Keeps what the outputs of an open request are made of. `false`: it is not open any more.
    pub async fn tell(&self, request_id: &str, told: &Told) -> Result<bool, Why> {
        let update = self
            .client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(key(request_id)))
            .update_expression("SET told = :told")
            .condition_expression("#state = :open")
            .expression_attribute_names("#state", "state")
            .expression_attribute_values(":open", AttributeValue::S("open".to_owned()))
            .expression_attribute_values(":told", AttributeValue::S(serde_json::to_string(told).expect("texts are JSON")));
        self.unless_lost(update.send().await, format!("keep what the outputs of request {request_id} are made of"))
    }

    /// Takes the outputs of a request upon itself. `false`: somebody else has, and may still be at it.
    pub async fn take_outputs(&self, request_id: &str, until: Timestamp, now: Timestamp) -> Result<bool, Why> {
        let update = self
            .client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(key(request_id)))
            .update_expression("SET outputs_until = :until")
            .condition_expression("attribute_exists(#key) AND (attribute_not_exists(outputs_until) OR outputs_until <= :now)")
            .expression_attribute_names("#key", "key")
            .expression_attribute_values(":until", milliseconds(until))
            .expression_attribute_values(":now", milliseconds(now));
        self.unless_lost(update.send().await, format!("take over the outputs of request {request_id}"))
    }

    /// Takes it upon itself to tell of a decision. `false`: somebody else has, and may still be at it.
    pub async fn take_notice(&self, request_id: &str, until: Timestamp, now: Timestamp) -> Result<bool, Why> {
        let update = self
            .client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(key(request_id)))
            .update_expression("SET notice_until = :until")
            .condition_expression("attribute_exists(notice) AND (attribute_not_exists(notice_until) OR notice_until <= :now)")
            .expression_attribute_values(":until", milliseconds(until))
            .expression_attribute_values(":now", milliseconds(now));
        self.unless_lost(update.send().await, format!("take over the notice of request {request_id}"))
    }

    /// Lets go of what was taken until then, for the next one to take at once. `false`: it is somebody else's by now.
    pub async fn let_notice_go(&self, request_id: &str, until: Timestamp) -> Result<bool, Why> {
        let update = self
            .client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(key(request_id)))
            .update_expression("REMOVE notice_until")
            .condition_expression("notice_until = :until")
            .expression_attribute_values(":until", milliseconds(until));
        self.unless_lost(update.send().await, format!("leave the notice of request {request_id} to another"))
    }

    /// Somebody was told of the decision.
    pub async fn note_notice(&self, request_id: &str) -> Result<(), Why> {
        let update = self
            .client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(key(request_id)))
            .update_expression("REMOVE notice, notice_until")
            .condition_expression("attribute_exists(notice)");
        self.unless_lost(update.send().await, format!("note that somebody was told of request {request_id}")).map(|_| ())
    }

    /// Remembers how far the outputs of a request are; in the history too, once they are settled.
    pub async fn note_outputs(&self, request: &Request, decided_at: Timestamp, progress: &Progress, settled: bool, ends: bool) -> Result<(), Why> {
        let attempt = format!("note the outputs of request {}", request.request_id);
        let text = AttributeValue::S(serde_json::to_string(progress).expect("texts are JSON"));
        let update = self
            .client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(key(&request.request_id)))
            .update_expression(if ends { "SET outputs = :outputs REMOVE outputs_until" } else { "SET outputs = :outputs" })
            .condition_expression("attribute_exists(#key)")
            .expression_attribute_names("#key", "key")
            .expression_attribute_values(":outputs", text.clone());
        // What its `ttl` has taken away meanwhile has nothing left to say.
        self.unless_lost(update.send().await, attempt.clone())?;
        if settled {
            let update = self
                .client
                .update_item()
                .table_name(&self.deployments)
                .set_key(Some(self.row(request, decision_row(decided_at, &request.request_id))))
                .update_expression("SET outputs = :outputs")
                .condition_expression("attribute_exists(verdict)")
                .expression_attribute_values(":outputs", text);
            self.unless_lost(update.send().await, attempt)?;
        }
        Ok(())
    }

    fn unless_lost<T>(&self, outcome: Result<T, aws_sdk_dynamodb::error::SdkError<UpdateItemError>>, attempt: String) -> Result<bool, Why> {
        match outcome {
            Ok(_) => Ok(true),
            Err(error) if matches!(error.as_service_error(), Some(UpdateItemError::ConditionalCheckFailedException(_))) => Ok(false),
            Err(error) => Err(why(attempt, &error)),
        }
    }

    /// CloudFormation has the answer: the row keeps it for a day, and nothing that could be used to send another. Nobody is
    /// led here any more.
    pub async fn mark_answered(&self, request_id: &str, now: Timestamp) -> Result<(), Why> {
        let attempt = format!("mark request {request_id} as answered");
        let update = self
            .client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(key(request_id)))
            .update_expression("SET #state = :answered, answered_at = :now, #ttl = :gone_at REMOVE #open, response_url, lease_until, images")
            .condition_expression("attribute_exists(#key)")
            .expression_attribute_names("#state", "state")
            .expression_attribute_names("#ttl", "ttl")
            .expression_attribute_names("#open", "open")
            .expression_attribute_names("#key", "key")
            .expression_attribute_values(":answered", AttributeValue::S("answered".to_owned()))
            .expression_attribute_values(":now", AttributeValue::S(now.to_string()))
            .expression_attribute_values(":gone_at", gone_at(now))
            .return_values(ReturnValue::AllOld);
        let old = update.send().await.map_err(|error| why(&attempt, &error))?.attributes.unwrap_or_default();
        let Some(images) = text(&old, "images").and_then(|images| serde_json::from_str::<Counted>(&images).ok()) else { return Ok(()) };
        let stack_key = format!("{}#{}", text(&old, "stack").unwrap_or_default(), text(&old, "logical_id").unwrap_or_default());
        let pointers = std::iter::once(of_resource(&stack_key)).chain(images.digests().map(of_image));
        let deletes: Vec<TransactWriteItem> = pointers
            .map(|hash| {
                let delete = Delete::builder().table_name(&self.table).set_key(Some(pointer_key(hash, request_id)));
                TransactWriteItem::builder().delete(delete.build().expect("table and key are set")).build()
            })
            .collect();
        for some in deletes.chunks(TRANSACTION) {
            let sent = self.client.transact_write_items().set_transact_items(Some(some.to_vec())).send().await;
            sent.map_err(|error| why(format!("remove the pointers to request {request_id}"), &error))?;
        }
        Ok(())
    }

    /// Who waits for news of this image.
    pub async fn waiting_for(&self, repository: &Repository, digest: &ImageDigest) -> Result<Vec<Waiting>, Why> {
        self.pointers(of_image(digest), Some(repository), format!("read who waits for {digest}")).await
    }

    /// The open requests of one resource.
    pub async fn open_of(&self, stack_key: &str) -> Result<Vec<Waiting>, Why> {
        self.pointers(of_resource(stack_key), None, format!("read the open requests of {stack_key}")).await
    }

    async fn pointers(&self, hash: String, repository: Option<&Repository>, attempt: String) -> Result<Vec<Waiting>, Why> {
        let query = self
            .client
            .query()
            .table_name(&self.table)
            .consistent_read(true)
            .key_condition_expression("#key = :key")
            .expression_attribute_names("#key", "key")
            .expression_attribute_values(":key", AttributeValue::S(hash));
        let items = query.into_paginator().items().send().collect::<Result<Vec<_>, _>>().await.map_err(|error| why(&attempt, &error))?;
        let here = |item: &&HashMap<String, AttributeValue>| repository.is_none_or(|repository| text(item, "repository") == Some(repository.arn()));
        let read = |item: &HashMap<String, AttributeValue>| {
            let request_id = text(item, "sort").ok_or_else(|| missing(&attempt, "request in a pointer"))?;
            Ok(Waiting { request_id, asked_at: moment(item, "asked_at").ok_or_else(|| missing(&attempt, "time in a pointer"))? })
        };
        items.iter().filter(here).map(read).collect()
    }

    /// Everything without an answer, what is due first on top.
    pub async fn open(&self) -> Result<Vec<OpenRequest>, Why> {
        let query = self
            .client
            .query()
            .table_name(&self.table)
            .index_name("open-by-due")
            .key_condition_expression("#open = :open")
            .expression_attribute_names("#open", "open")
            .expression_attribute_values(":open", AttributeValue::S("open".to_owned()));
        let items = query.into_paginator().items().send().collect::<Result<Vec<_>, _>>().await.map_err(|error| why("read the open requests", &error))?;
        let read = |item: &HashMap<String, AttributeValue>| {
            let get = |name: &str| text(item, name).unwrap_or_default();
            OpenRequest {
                request_id: get("request_id"),
                stack: get("stack"),
                logical_id: get("logical_id"),
                repository: get("repository"),
                image: get("image"),
                digest: get("digest"),
                state: get("state"),
                since: get("since"),
                due: moment(item, "due"),
                lease_until: moment(item, "lease_until"),
            }
        };
        Ok(items.iter().map(read).collect())
    }

    /// The request's own item is the first of `items`. Where there is an admission, the second is the row that says which
    /// request of the resource is the newest, and the third the broken glass, if there is one; nothing else has a condition.
    async fn transact(&self, items: Vec<TransactWriteItem>, asked_at: Timestamp, attempt: &str) -> Result<Recorded, Why> {
        if items.len() > TRANSACTION {
            return Err(Why::new(format!("could not {attempt}: it takes {} rows, and DynamoDB writes {TRANSACTION} at once", items.len())));
        }
        let error = match self.client.transact_write_items().set_transact_items(Some(items)).send().await {
            Ok(_) => return Ok(Recorded::Yes),
            Err(error) => error,
        };
        if let Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) = error.as_service_error() {
            let failed = |place: usize| {
                let reason: Option<&CancellationReason> = cancelled.cancellation_reasons.as_ref().and_then(|reasons| reasons.get(place));
                reason.filter(|reason| reason.code.as_deref() == Some("ConditionalCheckFailed"))
            };
            if let Some(reason) = failed(0) {
                let stored = reason.item.clone().unwrap_or_default();
                // Without an item there is none: an open request that its `ttl` has taken away.
                return Ok(Recorded::Before(if stored.is_empty() {
                    Stage::Answered
                } else {
                    stage(&stored).ok_or_else(|| missing(attempt, "stage in the stored request"))?
                }));
            }
            if let Some(reason) = failed(1) {
                let newest = reason.item.as_ref().and_then(|item| moment(item, "asked_at"));
                let is_newer = newest.is_none_or(|newest| newest.as_millisecond() > asked_at.as_millisecond());
                return Ok(if is_newer { Recorded::Superseded } else { Recorded::RowsChanged });
            }
            if failed(2).is_some() {
                return Ok(Recorded::NoGlass);
            }
        }
        Err(why(attempt, &error))
    }

    /// What every stored request has.
    fn request_item(&self, request: &Request, url: &ResponseUrl, due: Timestamp, since: Timestamp) -> Result<HashMap<String, AttributeValue>, Why> {
        let asked = serde_json::to_string(request).map_err(|error| Why::new(format!("could not store the request of {}: {error}", request.stack_key())))?;
        let mut item = key(&request.request_id);
        let mut set = |name: &str, value: AttributeValue| item.insert(name.to_owned(), value);
        set("asked", AttributeValue::S(asked));
        set("response_url", AttributeValue::S(url.as_secret().to_owned()));
        // In the index of what is open until the answer has arrived, so that an answer that was never sent is found.
        set("open", AttributeValue::S("open".to_owned()));
        set("due", milliseconds(due));
        set("ttl", gone_at(due));
        set("since", AttributeValue::S(since.to_string()));
        set("request_id", AttributeValue::S(request.request_id.clone()));
        set("stack", AttributeValue::S(request.stack_id.clone()));
        set("logical_id", AttributeValue::S(request.logical_id.clone()));
        set("repository", AttributeValue::S(request.named.repository.clone()));
        set("image", AttributeValue::S(request.named.image.clone()));
        Ok(item)
    }

    /// What a decision leaves behind besides the request: what is deployed now, and the history.
    fn decision(&self, request: &Request, record: &Record) -> Vec<TransactWriteItem> {
        let mut items = Vec::new();
        if let Some(admission) = &record.admitted {
            items.push(self.newest(request, record.after.as_ref()));
            items.extend(record.glass.as_ref().map(|glass| self.use_up(request, glass, record.decided_at)));
            items.push(put(self.data_item(request, record, admission)));
            items.extend(admission.policy.iter().map(|policy| {
                // Once for the resource, and not in each image's row: whoever judges later has to know what to judge by.
                let mut item = self.row(request, policy_row(policy.hash().as_str()));
                item.insert("policy".into(), AttributeValue::S(policy.canonical()));
                put(self.deployment(item))
            }));
            items.extend(self.image_items(request, record, admission).into_iter().map(put));
        }
        items.extend(record.replaced.iter().map(|row| self.replace(request, row, record.decided_at)));
        items.push(put(self.decision_item(request, record)));
        items
    }

    /// Requests of one resource can be decided in another order than they were asked; the newest one stands.
    ///
    /// `after`: which one was let through last when the rows were read; without it they were not.
    fn newest(&self, request: &Request, after: Option<&Option<String>>) -> TransactWriteItem {
        let is_in_order = "(attribute_not_exists(asked_at) OR asked_at <= :asked_at)";
        let condition = match after {
            None => is_in_order.to_owned(),
            Some(None) => format!("{is_in_order} AND attribute_not_exists(request_id)"),
            Some(Some(_)) => format!("{is_in_order} AND request_id = :after"),
        };
        let update = Update::builder()
            .table_name(&self.deployments)
            .set_key(Some(self.row(request, NEWEST.to_owned())))
            .update_expression("SET asked_at = :asked_at, request_id = :request_id")
            .condition_expression(condition)
            .expression_attribute_values(":asked_at", milliseconds(request.asked_at))
            .expression_attribute_values(":request_id", AttributeValue::S(request.request_id.clone()))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let update = match after {
            Some(Some(after)) => update.expression_attribute_values(":after", AttributeValue::S(after.clone())),
            Some(None) | None => update,
        };
        TransactWriteItem::builder().update(update.build().expect("table, key and expression are set")).build()
    }

    fn use_up(&self, request: &Request, glass: &Glass, now: Timestamp) -> TransactWriteItem {
        let (stack, row) = Glass::key(&glass.stack_id, &glass.repository, &glass.digest);
        let update = Update::builder()
            .table_name(&self.deployments)
            .key("stack", AttributeValue::S(stack))
            .key("row", AttributeValue::S(row))
            .update_expression("SET used_by = :request, used_at = :used_at")
            .condition_expression("attribute_not_exists(used_by) AND ends_at > :now")
            .expression_attribute_values(":request", AttributeValue::S(request.request_id.clone()))
            .expression_attribute_values(":used_at", AttributeValue::S(now.to_string()))
            .expression_attribute_values(":now", milliseconds(now));
        TransactWriteItem::builder().update(update.build().expect("table, key and expression are set")).build()
    }

    fn decision_item(&self, request: &Request, record: &Record) -> Put {
        let mut item = self.row(request, decision_row(record.decided_at, &request.request_id));
        let mut set = |name: &str, value: String| item.insert(name.to_owned(), AttributeValue::S(value));
        set("verdict", record.verdict.clone());
        set("why", record.why.clone());
        set("repository", request.named.repository.clone());
        set("image", request.named.image.clone());
        // By these a rollback is recognised where the stack's state is not to be had.
        set("properties_hash", request.properties_hash.clone());
        if let Some(old) = &request.old_properties_hash {
            set("old_properties_hash", old.clone());
        }
        if let Some(admission) = &record.admitted {
            set("image_digest", admission.data.image_digest.clone());
        }
        // Of a rollback what it returns to was recorded, and of everything else what was asked for.
        let by_data = record.admitted.as_ref().map(|admission| admission.data.policy_hash.clone());
        let by_gate = || request.gate.as_ref().ok().map(|gate| gate.policy.hash().to_string());
        if let Some(hash) = by_data.or_else(by_gate).filter(|hash| !hash.is_empty()) {
            set("policy_hash", hash);
        }
        set("request_id", request.request_id.clone());
        // By these two the history of an image and of a stack are found; only decisions have them.
        if !request.stack_name().is_empty() {
            set("stack_name", request.stack_name().to_owned());
        }
        if let Some(digest) = &record.digest {
            set("decided_digest", digest.to_string());
        }
        if !record.known.is_empty() {
            set("known", serde_json::to_string(&record.known).expect("texts and numbers are JSON"));
        }
        if let Some(signed) = &record.signed {
            set("signed", serde_json::to_string(signed).expect("texts are JSON"));
        }
        item.insert("asked_at".to_owned(), milliseconds(request.asked_at));
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
            item.insert(LIVE.into(), AttributeValue::S(LIVE.to_owned()));
            item.insert("asked_at".into(), milliseconds(request.asked_at));
            item.insert("image".into(), AttributeValue::S(request.named.image.clone()));
            item.insert("since".into(), AttributeValue::S(record.decided_at.to_string()));
            item.insert("verdict".into(), AttributeValue::S(record.verdict.clone()));
            if let Some(policy) = &admission.policy {
                item.insert("policy_hash".into(), AttributeValue::S(policy.hash().to_string()));
            }
            // For whoever has to tell its gate's topic of later findings: where, by whose leave, and what it has heard already.
            let outputs = request.gate.as_ref().ok().and_then(|gate| gate.outputs.as_ref());
            if let Some((outputs, topic)) = outputs.and_then(|outputs| Some((outputs, outputs.topic_arn.as_ref()?))) {
                item.insert("topic".into(), AttributeValue::S(topic.clone()));
                item.insert("role".into(), AttributeValue::S(outputs.role_arn.clone()));
            }
            let was_judged = ["PASS", "BLOCK"].contains(&record.verdict.as_str());
            if let Some(judged) = record.known.iter().find(|scanned| was_judged && scanned.image.digest == *digest) {
                item.insert("judged".into(), AttributeValue::S(judged.facts.as_str().to_owned()));
            }
            self.deployment(item)
        };
        admission.digests.iter().map(row).collect()
    }

    fn replace(&self, request: &Request, row: &str, now: Timestamp) -> TransactWriteItem {
        let update = Update::builder()
            .table_name(&self.deployments)
            .set_key(Some(self.row(request, row.to_owned())))
            .update_expression("SET #state = :replaced, #until = :now REMOVE #live")
            .expression_attribute_names("#live", LIVE)
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

fn told(request: &Request, record: &Record) -> Option<AttributeValue> {
    record.for_outputs(request).map(|told| AttributeValue::S(serde_json::to_string(told).expect("texts are JSON")))
}

fn decision_row(decided_at: Timestamp, request_id: &str) -> String {
    // Always as many digits, or the order of the keys would not be that of time.
    format!("decision#{}#{request_id}", decided_at.strftime("%Y-%m-%dT%H:%M:%S%.9fZ"))
}

fn new_item(table: &str, item: HashMap<String, AttributeValue>) -> Put {
    let put = Put::builder()
        .table_name(table)
        .set_item(Some(item))
        .condition_expression("attribute_not_exists(#key)")
        .expression_attribute_names("#key", "key")
        .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
    put.build().expect("table and item are set")
}

fn stage(item: &HashMap<String, AttributeValue>) -> Option<Stage> {
    match text(item, "state")?.as_str() {
        "open" => Some(Stage::Open),
        "claimed" => Some(Stage::Claimed { answer: Answer::stored(text(item, "answer")?), lease_until: moment(item, "lease_until")? }),
        "answered" => Some(Stage::Answered),
        _ => None,
    }
}

fn put(put: Put) -> TransactWriteItem {
    TransactWriteItem::builder().put(put).build()
}

fn key(request_id: &str) -> HashMap<String, AttributeValue> {
    HashMap::from([("key".to_owned(), AttributeValue::S(format!("request#{request_id}"))), ("sort".to_owned(), AttributeValue::S("request".to_owned()))])
}

fn pointer_key(hash: String, request_id: &str) -> HashMap<String, AttributeValue> {
    HashMap::from([("key".to_owned(), AttributeValue::S(hash)), ("sort".to_owned(), AttributeValue::S(request_id.to_owned()))])
}

fn of_image(digest: &ImageDigest) -> String {
    format!("digest#{digest}")
}

fn of_resource(stack_key: &str) -> String {
    format!("stack#{stack_key}")
}

/// Until when something is kept that is over at `end`, as `ttl` wants it: whole seconds.
fn gone_at(end: Timestamp) -> AttributeValue {
    AttributeValue::N(end.saturating_add(KEPT).unwrap_or(Timestamp::MAX).as_second().to_string())
}

pub(super) fn milliseconds(at: Timestamp) -> AttributeValue {
    AttributeValue::N(at.as_millisecond().to_string())
}

pub(super) fn text(item: &HashMap<String, AttributeValue>, name: &str) -> Option<String> {
    item.get(name).and_then(|value| value.as_s().ok()).cloned()
}

pub(super) fn number(item: &HashMap<String, AttributeValue>, name: &str) -> Option<i64> {
    item.get(name).and_then(|value| value.as_n().ok())?.parse().ok()
}

pub(super) fn moment(item: &HashMap<String, AttributeValue>, name: &str) -> Option<Timestamp> {
    Timestamp::from_millisecond(number(item, name)?).ok()
}
