//! The Deployments table: which resource deploys which image, and what it was answered.
//!
//! IAM: `dynamodb:Query` on the table and on its index `by-digest`, `GetItem`, `UpdateItem`. (What is admitted is written
//! together with the request: [`super::requests`].)

use std::collections::HashMap;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;
use jiff::Timestamp;

use super::requests::{data_row, text};
use super::{Settings, missing, why};
use crate::domain::image::{ImageDigest, Repository};
use crate::domain::policy::Policy;
use crate::domain::protocol::Why;
use crate::domain::request::{Data, Rows};

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

impl Deployments {
    pub fn new(client: Client, settings: &Settings) -> Self {
        Self { client, table: settings.deployments_table.clone() }
    }

    /// What a resource has admitted and not replaced.
    pub async fn rows(&self, stack_key: &str) -> Result<Rows, Why> {
        let attempt = format!("read the deployments of {stack_key}");
        let query = self
            .client
            .query()
            .table_name(&self.table)
            .consistent_read(true)
            .key_condition_expression("#stack = :stack AND begins_with(#row, :image)")
            .filter_expression("#state = :admitted")
            .expression_attribute_names("#stack", "stack")
            .expression_attribute_names("#row", "row")
            .expression_attribute_names("#state", "state")
            .expression_attribute_values(":stack", AttributeValue::S(stack_key.to_owned()))
            .expression_attribute_values(":image", AttributeValue::S("image#".to_owned()))
            .expression_attribute_values(":admitted", AttributeValue::S("admitted".to_owned()));
        let items = query.into_paginator().items().send().collect::<Result<Vec<_>, _>>().await.map_err(|error| why(&attempt, &error))?;
        let mut rows = Rows::default();
        for item in items {
            let digest = text(&item, "digest").and_then(|digest| digest.parse().ok());
            let (row, digest) = text(&item, "row").zip(digest).ok_or_else(|| missing(&attempt, "row with a digest"))?;
            rows.admitted.insert(row, digest);
        }
        Ok(rows)
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

    /// By which policies the deployments of an image judge it. Behind the table by a moment, since it is an index.
    pub async fn policies(&self, repository: &Repository, digest: &ImageDigest) -> Result<Vec<Policy>, Why> {
        let mut policies: Vec<Policy> = Vec::new();
        for item in self.items_of(digest).await? {
            let lives = text(&item, "state").as_deref() == Some("admitted") && text(&item, "repository").as_deref() == Some(repository.arn().as_str());
            // A policy of another version is judged when a deployment asks; it cannot be judged here.
            let policy = text(&item, "policy").and_then(|text| Policy::parse(&text).ok());
            if let Some(policy) = policy.filter(|policy| lives && !policies.contains(policy)) {
                policies.push(policy);
            }
        }
        Ok(policies)
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

    /// Nothing of this resource is deployed any more.
    pub async fn close(&self, stack_key: &str, now: Timestamp) -> Result<(), Why> {
        for row in self.rows(stack_key).await?.admitted.into_keys() {
            let update = self
                .client
                .update_item()
                .table_name(&self.table)
                .key("stack", AttributeValue::S(stack_key.to_owned()))
                .key("row", AttributeValue::S(row))
                .update_expression("SET #state = :removed, #until = :now")
                .expression_attribute_names("#state", "state")
                .expression_attribute_names("#until", "until")
                .expression_attribute_values(":removed", AttributeValue::S("removed".to_owned()))
                .expression_attribute_values(":now", AttributeValue::S(now.to_string()));
            update.send().await.map_err(|error| why(format!("close the deployments of {stack_key}"), &error))?;
        }
        Ok(())
    }
}
