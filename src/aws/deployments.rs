//! The Deployments table: which resource deploys which image, and what it was answered.
//!
//! IAM: `dynamodb:Query` on the table and on its indexes `by-digest` and `live` (people also on `decisions-by-digest` and
//! `decisions-by-stack`), `GetItem`, `UpdateItem`. (What is admitted is written
//! together with the request: [`super::requests`].)

use std::collections::{BTreeMap, HashMap};

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::AttributeValue;
use jiff::{SignedDuration, Timestamp};

use super::requests::{milliseconds, moment, text};
use super::{Settings, missing, why};
use crate::domain::alert::Live;
use crate::domain::history::{Decision, Subject, stack_name};
use crate::domain::image::{ImageDigest, Repository};
use crate::domain::policy::Policy;
use crate::domain::protocol::Why;
use crate::domain::request::{Data, Forward, Glass, Row, Rows};
use crate::domain::scan::FactsHash;

/// How long a broken glass is kept after its end, for whoever asks what happened; the decision is kept for ever.
const KEPT: SignedDuration = SignedDuration::from_hours(24 * 90);
/// The row that says which request of a resource was let through last.
pub(super) const NEWEST: &str = "newest";
/// The attribute, its value, and the index of what is deployed now: rows lose it when they are replaced or removed.
pub(super) const LIVE: &str = "live";
/// Between a rollback and what it takes back lie no more decisions than this.
const DECISIONS: i32 = 10;
/// So many different policies are read for one image; what lives under more is judged when a deployment asks.
const POLICIES: usize = 40;

pub struct Deployments {
    client: Client,
    table: String,
}

/// A deployment, for a person to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deployment {
    pub stack: String,
    pub repository: String,
    pub image: String,
    pub state: String,
    pub since: String,
}

/// A row that says: this image is deployed here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveRow {
    pub stack_key: String,
    pub digest: ImageDigest,
    pub repository: Repository,
    /// Tag or digest, as the template names it.
    pub image: String,
    pub since: String,
    pub asked_at: Option<Timestamp>,
}

impl LiveRow {
    /// Stack and logical id.
    pub fn resource(&self) -> Option<(&str, &str)> {
        self.stack_key.rsplit_once('#')
    }
}

impl Deployments {
    pub fn new(client: Client, settings: &Settings) -> Self {
        Self { client, table: settings.deployments_table.clone() }
    }

    /// What a resource has admitted, and what of it has been replaced.
    pub async fn rows(&self, stack_key: &str) -> Result<Rows, Why> {
        let attempt = format!("read the deployments of {stack_key}");
        let query = self
            .client
            .query()
            .table_name(&self.table)
            .consistent_read(true)
            // From the first image to the row of the newest request, which comes right after them.
            .key_condition_expression("#stack = :stack AND #row BETWEEN :images AND :newest")
            .expression_attribute_names("#stack", "stack")
            .expression_attribute_names("#row", "row")
            .expression_attribute_values(":stack", AttributeValue::S(stack_key.to_owned()))
            .expression_attribute_values(":images", AttributeValue::S("image#".to_owned()))
            .expression_attribute_values(":newest", AttributeValue::S(NEWEST.to_owned()));
        let items = query.into_paginator().items().send().collect::<Result<Vec<_>, _>>().await.map_err(|error| why(&attempt, &error))?;
        let mut rows = Rows::default();
        for item in items {
            if text(&item, "row").as_deref() == Some(NEWEST) {
                rows.newest = text(&item, "request_id");
                continue;
            }
            let digest = |name: &str| text(&item, name).and_then(|digest| digest.parse::<ImageDigest>().ok());
            let (row, digest, of) = match (text(&item, "row"), digest("digest"), digest("of")) {
                (Some(row), Some(digest), Some(of)) => (row, digest, of),
                _ => return Err(missing(&attempt, "row with a digest")),
            };
            rows.images.insert(row, Row { digest, of, is_admitted: text(&item, "state").as_deref() == Some("admitted") });
        }
        Ok(rows)
    }

    /// The last decision by which a resource was to move forward; a rollback takes exactly that back.
    pub async fn forward(&self, stack_key: &str) -> Result<Option<Forward>, Why> {
        let attempt = format!("read the decisions about {stack_key}");
        let query = self
            .client
            .query()
            .table_name(&self.table)
            .consistent_read(true)
            .scan_index_forward(false)
            .limit(DECISIONS)
            .key_condition_expression("#stack = :stack AND begins_with(#row, :decision)")
            .expression_attribute_names("#stack", "stack")
            .expression_attribute_names("#row", "row")
            .expression_attribute_values(":stack", AttributeValue::S(stack_key.to_owned()))
            .expression_attribute_values(":decision", AttributeValue::S("decision#".to_owned()));
        let items = query.send().await.map_err(|error| why(&attempt, &error))?.items.unwrap_or_default();
        let forward = |item: &HashMap<String, AttributeValue>| {
            let verdict = text(item, "verdict")?;
            // Also what was parked, and has just given way to the very rollback that asks.
            let is_forward = !verdict.starts_with("ROLLBACK");
            let (properties_hash, at) = (text(item, "properties_hash")?, moment(item, "asked_at")?);
            is_forward.then(|| Forward { properties_hash, old_properties_hash: text(item, "old_properties_hash"), at })
        };
        Ok(items.iter().filter_map(forward).max_by_key(|forward| forward.at))
    }

    /// The data last answered for these properties.
    pub async fn data(&self, stack_key: &str, properties_hash: &str) -> Result<Option<Data>, Why> {
        let attempt = format!("read the data last answered for {stack_key}");
        let key =
            HashMap::from([("stack".to_owned(), AttributeValue::S(stack_key.to_owned())), ("row".to_owned(), AttributeValue::S(data_row(properties_hash)))]);
        let answer = self.client.get_item().table_name(&self.table).set_key(Some(key)).consistent_read(true).send().await;
        let item = answer.map_err(|error| why(&attempt, &error))?.item;
        let Some(data) = item.and_then(|item| text(&item, "data")) else { return Ok(None) };
        serde_json::from_str(&data).map(Some).map_err(|error| Why { text: format!("could not {attempt}: {error}"), denied: false })
    }

    /// Where an image is deployed, and by what it is judged there. Behind the table by a moment, since it is an index.
    pub async fn lives(&self, repository: &Repository, digest: &ImageDigest) -> Result<Vec<Live>, Why> {
        let attempt = format!("read the policies for {digest}");
        let mut policies: BTreeMap<String, Option<Policy>> = BTreeMap::new();
        let mut lives = Vec::new();
        for item in self.items_of(digest).await? {
            let lives_here = text(&item, "state").as_deref() == Some("admitted") && text(&item, "repository").as_deref() == Some(repository.arn().as_str());
            let (true, Some(stack)) = (lives_here, text(&item, "stack")) else { continue };
            let Some((stack_id, logical_id)) = stack.rsplit_once('#') else { continue };
            let hash = text(&item, "policy_hash");
            if let Some(hash) = hash.as_ref().filter(|hash| !policies.contains_key(*hash) && policies.len() < POLICIES) {
                let key = [("stack", stack.clone()), ("row", policy_row(hash))].map(|(name, value)| (name.to_owned(), AttributeValue::S(value)));
                let answer = self.client.get_item().table_name(&self.table).set_key(Some(HashMap::from(key))).send().await;
                // A policy of another version is judged when a deployment asks; it cannot be judged here.
                let policy =
                    answer.map_err(|error| why(&attempt, &error))?.item.and_then(|item| text(&item, "policy")).and_then(|text| Policy::parse(&text).ok());
                policies.insert(hash.clone(), policy);
            }
            lives.push(Live {
                stack_id: stack_id.to_owned(),
                logical_id: logical_id.to_owned(),
                of: text(&item, "of").and_then(|of| of.parse().ok()).unwrap_or_else(|| digest.clone()),
                image: text(&item, "image").unwrap_or_default(),
                since: text(&item, "since").unwrap_or_default(),
                policy: hash.and_then(|hash| policies.get(&hash).cloned().flatten()),
                topic: text(&item, "topic").zip(text(&item, "role")),
                verdict: text(&item, "verdict").unwrap_or_default(),
                judged: text(&item, "judged").map(FactsHash::from),
            });
        }
        Ok(lives)
    }

    /// Who deploys, or has deployed, an image.
    pub async fn of_image(&self, digest: &ImageDigest) -> Result<Vec<Deployment>, Why> {
        let read = |item: HashMap<String, AttributeValue>| {
            let get = |name: &str| text(&item, name).unwrap_or_default();
            Deployment { stack: get("stack"), repository: get("repository"), image: get("image"), state: get("state"), since: get("since") }
        };
        Ok(self.items_of(digest).await?.into_iter().map(read).collect())
    }

    async fn items_of(&self, digest: &ImageDigest) -> Result<Vec<HashMap<String, AttributeValue>>, Why> {
        let query = self
            .client
            .query()
            .table_name(&self.table)
            .index_name("by-digest")
            .key_condition_expression("digest = :digest")
            .expression_attribute_values(":digest", AttributeValue::S(digest.to_string()));
        let items = query.into_paginator().items().send().collect::<Result<Vec<_>, _>>().await;
        items.map_err(|error| why(format!("read who deploys {digest}"), &error))
    }

    /// Everything that is deployed now, in the order of the digests, from `page` on; how many rows cannot be read; and where it goes
    /// on. Behind the table by a
    /// moment, since it is an index.
    pub async fn live(&self, page: Option<&str>, at_once: i32) -> Result<(Vec<LiveRow>, u64, Option<String>), Why> {
        let attempt = "read what is deployed";
        let start = page.map(key_of_page).transpose().map_err(|error| Why::new(format!("could not {attempt}: {error}")))?;
        let query = self
            .client
            .query()
            .table_name(&self.table)
            .index_name(LIVE)
            .limit(at_once)
            .key_condition_expression("#live = :live")
            .expression_attribute_names("#live", LIVE)
            .expression_attribute_values(":live", AttributeValue::S(LIVE.to_owned()))
            .set_exclusive_start_key(start);
        let answer = query.send().await.map_err(|error| why(attempt, &error))?;
        let live = |item: HashMap<String, AttributeValue>| {
            Some(LiveRow {
                stack_key: text(&item, "stack")?,
                digest: text(&item, "digest")?.parse().ok()?,
                repository: text(&item, "repository")?.parse().ok()?,
                image: text(&item, "image").unwrap_or_default(),
                since: text(&item, "since").unwrap_or_default(),
                asked_at: moment(&item, "asked_at"),
            })
        };
        let items = answer.items.unwrap_or_default();
        let all = items.len();
        // One that cannot be read is counted: it keeps nobody from the others.
        let rows: Vec<LiveRow> = items.into_iter().filter_map(live).collect();
        let unreadable = (all - rows.len()) as u64;
        Ok((rows, unreadable, answer.last_evaluated_key.as_ref().map(page_of_key)))
    }

    /// What somebody has broken the glass for, if it has not been used. Whether its time is up is for the reader to say.
    pub async fn glass(&self, stack_id: &str, repository: &Repository, digest: &ImageDigest) -> Result<Option<Glass>, Why> {
        let attempt = format!("read whether the glass was broken for {digest}");
        let (stack, row) = Glass::key(stack_id, repository, digest);
        let key = HashMap::from([("stack".to_owned(), AttributeValue::S(stack)), ("row".to_owned(), AttributeValue::S(row))]);
        let answer = self.client.get_item().table_name(&self.table).set_key(Some(key)).consistent_read(true).send().await;
        let Some(item) = answer.map_err(|error| why(&attempt, &error))?.item.filter(|item| !item.contains_key("used_by")) else { return Ok(None) };
        let (Some(reason), Some(until)) = (text(&item, "reason"), moment(&item, "ends_at")) else { return Err(missing(&attempt, "reason, or end")) };
        Ok(Some(Glass { stack_id: stack_id.to_owned(), repository: repository.clone(), digest: digest.clone(), reason, until }))
    }

    /// What was decided, newest first.
    pub async fn decisions(&self, of: &Subject, limit: usize) -> Result<Vec<Decision>, Why> {
        let attempt = "read what was decided";
        let (index, key, value) = match of {
            Subject::Image { digest, .. } => ("decisions-by-digest", "decided_digest", digest.as_str()),
            Subject::StackName(name) => ("decisions-by-stack", "stack_name", name.as_str()),
            Subject::Stack(arn) => ("decisions-by-stack", "stack_name", stack_name(arn)),
        };
        let query = self
            .client
            .query()
            .table_name(&self.table)
            .index_name(index)
            .scan_index_forward(false)
            .key_condition_expression("#key = :key AND begins_with(#row, :decision)")
            .expression_attribute_names("#key", key)
            .expression_attribute_names("#row", "row")
            .expression_attribute_values(":key", AttributeValue::S(value.to_owned()))
            .expression_attribute_values(":decision", AttributeValue::S("decision#".to_owned()));
        let is_of = |decision: &Decision| match of {
            Subject::Image { repository, .. } => repository.as_ref().is_none_or(|repository| decision.repository == *repository),
            Subject::StackName(_) => true,
            Subject::Stack(arn) => decision.stack == *arn,
        };
        let mut items = query.into_paginator().items().send();
        let mut decisions = Vec::new();
        while decisions.len() < limit
            && let Some(item) = items.next().await
        {
            decisions.extend(Some(decision(&item.map_err(|error| why(attempt, &error))?)).filter(is_of));
        }
        let mut policies: HashMap<(String, String), Option<String>> = HashMap::new();
        for decision in &mut decisions {
            let Some(hash) = decision.policy_hash.clone() else { continue };
            let stack_key = format!("{}#{}", decision.stack, decision.logical_id);
            decision.policy = match policies.get(&(stack_key.clone(), hash.clone())) {
                Some(known) => known.clone(),
                None => {
                    let policy = self.policy_text(&stack_key, &hash).await?;
                    policies.insert((stack_key, hash), policy.clone());
                    policy
                }
            };
        }
        Ok(decisions)
    }

    /// The text of a policy by which something of this resource is or was deployed.
    async fn policy_text(&self, stack_key: &str, hash: &str) -> Result<Option<String>, Why> {
        let key = [("stack", stack_key.to_owned()), ("row", policy_row(hash))].map(|(name, value)| (name.to_owned(), AttributeValue::S(value)));
        let answer = self.client.get_item().table_name(&self.table).set_key(Some(HashMap::from(key))).send().await;
        Ok(answer.map_err(|error| why(format!("read the policy {hash}"), &error))?.item.and_then(|item| text(&item, "policy")))
    }

    /// Breaks the glass. `false`: it is broken already, and not used.
    pub async fn break_glass(&self, glass: &Glass, now: Timestamp) -> Result<bool, Why> {
        let (stack, row) = Glass::key(&glass.stack_id, &glass.repository, &glass.digest);
        let gone_at = glass.until.saturating_add(KEPT).unwrap_or(Timestamp::MAX).as_second();
        let put = self
            .client
            .put_item()
            .table_name(&self.table)
            .item("stack", AttributeValue::S(stack))
            .item("row", AttributeValue::S(row))
            .item("reason", AttributeValue::S(glass.reason.clone()))
            .item("since", AttributeValue::S(now.to_string()))
            .item("until", AttributeValue::S(glass.until.to_string()))
            .item("ends_at", milliseconds(glass.until))
            .item("ttl", AttributeValue::N(gone_at.to_string()))
            .condition_expression("attribute_not_exists(reason) OR attribute_exists(used_by) OR ends_at <= :now")
            .expression_attribute_values(":now", milliseconds(now));
        match put.send().await {
            Ok(_) => Ok(true),
            Err(error) if matches!(error.as_service_error(), Some(PutItemError::ConditionalCheckFailedException(_))) => Ok(false),
            Err(error) => Err(why(format!("break the glass for {}", glass.digest), &error)),
        }
    }

    /// Nothing of this resource is deployed any more, and no request that was asked before can change that.
    pub async fn close(&self, stack_key: &str, asked_at: Timestamp, now: Timestamp) -> Result<(), Why> {
        let attempt = || format!("close the deployments of {stack_key}");
        let key = |row: &str| [("stack", stack_key), ("row", row)].map(|(name, value)| (name.to_owned(), AttributeValue::S(value.to_owned())));
        let newest = self
            .client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(HashMap::from(key(NEWEST))))
            .update_expression("SET asked_at = :asked_at REMOVE request_id")
            .condition_expression("attribute_not_exists(asked_at) OR asked_at <= :asked_at")
            .expression_attribute_values(":asked_at", milliseconds(asked_at));
        match newest.send().await {
            Ok(_) => {}
            // The resource has been made anew since: what is deployed now is not this Delete's.
            Err(error) if matches!(error.as_service_error(), Some(UpdateItemError::ConditionalCheckFailedException(_))) => return Ok(()),
            Err(error) => return Err(why(attempt(), &error)),
        }
        for (row, _) in self.rows(stack_key).await?.images.into_iter().filter(|(_, row)| row.is_admitted) {
            let update = self
                .client
                .update_item()
                .table_name(&self.table)
                .set_key(Some(HashMap::from(key(&row))))
                .update_expression("SET #state = :removed, #until = :now REMOVE #live")
                .expression_attribute_names("#live", LIVE)
                // Made anew while this goes on, it is not this Delete's.
                .condition_expression("asked_at <= :asked_at")
                .expression_attribute_values(":asked_at", milliseconds(asked_at))
                .expression_attribute_names("#state", "state")
                .expression_attribute_names("#until", "until")
                .expression_attribute_values(":removed", AttributeValue::S("removed".to_owned()))
                .expression_attribute_values(":now", AttributeValue::S(now.to_string()));
            match update.send().await {
                Ok(_) => {}
                Err(error) if matches!(error.as_service_error(), Some(UpdateItemError::ConditionalCheckFailedException(_))) => {}
                Err(error) => return Err(why(attempt(), &error)),
            }
        }
        Ok(())
    }
}

/// Where a list goes on, as text. All keys of these tables are texts.
pub(super) fn page_of_key(key: &HashMap<String, AttributeValue>) -> String {
    let texts: BTreeMap<&str, &str> = key.iter().filter_map(|(name, value)| Some((name.as_str(), value.as_s().ok()?.as_str()))).collect();
    serde_json::to_string(&texts).expect("texts are JSON")
}

pub(super) fn key_of_page(page: &str) -> Result<HashMap<String, AttributeValue>, serde_json::Error> {
    let texts: BTreeMap<String, String> = serde_json::from_str(page)?;
    Ok(texts.into_iter().map(|(name, value)| (name, AttributeValue::S(value))).collect())
}

fn decision(item: &HashMap<String, AttributeValue>) -> Decision {
    let get = |name: &str| text(item, name).unwrap_or_default();
    let resource = get("stack");
    let (stack, logical_id) = resource.rsplit_once('#').unwrap_or((&resource, ""));
    Decision {
        at: get("row").split('#').nth(1).and_then(|at| at.parse().ok()),
        stack: stack.to_owned(),
        logical_id: logical_id.to_owned(),
        request_id: get("request_id"),
        repository: get("repository"),
        image: get("image"),
        digest: text(item, "decided_digest"),
        verdict: get("verdict"),
        why: get("why"),
        policy_hash: text(item, "policy_hash"),
        policy: None,
        // A form that a later version writes is left out: the rest is worth reading.
        known: text(item, "known").and_then(|known| serde_json::from_str(&known).ok()).unwrap_or_default(),
        signed: text(item, "signed").and_then(|signed| serde_json::from_str(&signed).ok()),
        outputs: text(item, "outputs").and_then(|outputs| serde_json::from_str(&outputs).ok()),
    }
}

/// The row that keeps the data last answered for these properties.
pub(super) fn data_row(properties_hash: &str) -> String {
    format!("data#{properties_hash}")
}

/// The row that keeps the text of a policy by which something is deployed.
pub(super) fn policy_row(hash: &str) -> String {
    format!("policy#{hash}")
}
