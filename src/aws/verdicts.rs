//! The Verdicts table: a head for each image in each repository, and the findings that it refers to; by which ids these are
//! found; what was told of an image, to whom; and who has signed it.
//!
//! IAM: `dynamodb:GetItem`, `BatchGetItem`, `PutItem`, `UpdateItem`, `ConditionCheckItem` on the table; `s3:GetObject`, `PutObject` on the findings
//! bucket, where findings go that are too large for an item; `dynamodb:Query` on the index `heads-by-repository` for the walk. Who runs `explain` needs `dynamodb:Query` on the table besides.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{self, BufWriter, Read};

use aws_config::SdkConfig;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{AttributeValue, ConditionCheck, KeysAndAttributes, Put, ReturnValuesOnConditionCheckFailure, TransactWriteItem};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_dynamo::aws_sdk_dynamodb_1::{from_item, to_item};

use super::deployments::{key_of_page, page_of_key};
use super::requests::text;
use super::{Settings, missing, why};
use crate::domain::alert::{Announced, Key, Notice, Weighed};
use crate::domain::head::Head;
use crate::domain::image::{ImageDigest, Repository, sha256_hex};
use crate::domain::index::{self, SHELVES};
use crate::domain::protocol::{PageToken, Why};
use crate::domain::scan::{Facts, FactsHash, Report, ScanState};
use crate::domain::signature::verdict::Verdict;
use crate::domain::signature::verify::Good;

/// DynamoDB takes 400 KB an item, names and keys included; beyond this the findings go to S3.
const INLINE_BYTES: usize = 300_000;
/// A stored list that grows beyond this when it is unpacked is not one that we wrote.
const UNPACKED_BYTES: u64 = 512 << 20;
/// How long findings stay after the last row let them go, so that who has just read the row can still read them.
const KEPT: SignedDuration = SignedDuration::from_hours(24);
/// What somebody was told is kept for so long after the last time.
const TOLD: SignedDuration = SignedDuration::from_hours(24 * 400);
/// Who has signed an image is found out anew after this.
const SIGNED: SignedDuration = SignedDuration::from_hours(24 * 30);
/// What is recorded of an image that has been deleted stays for so long, for whoever asks what became of it.
const DELETED_KEPT: SignedDuration = SignedDuration::from_hours(24 * 30);
/// DynamoDB reads so many keys at once, and ECR takes no more digests in one call.
const PAGE: i32 = 100;
/// DynamoDB may leave keys of a batch unread, under load.
const BATCH_TRIES: usize = 5;

pub struct Verdicts {
    client: Client,
    s3: aws_sdk_s3::Client,
    table: String,
    bucket: String,
}

/// A reading that ran out of time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begun {
    /// When it began.
    pub read_at: Timestamp,
    pub report: Report,
    /// Whether its findings were to be asked about in Inspector's own list.
    #[serde(default)]
    pub epss: bool,
    /// Whether the findings are all there, and it is that other list that goes on.
    #[serde(default)]
    pub is_listed: bool,
}

/// What came of writing a head.
pub enum Written {
    Yes,
    /// The row is another one by now.
    Conflict(Option<Box<Head>>),
}

impl Verdicts {
    pub fn new(client: Client, config: &SdkConfig, settings: &Settings) -> Self {
        Self { client, s3: aws_sdk_s3::Client::new(config), table: settings.verdicts_table.clone(), bucket: settings.findings_bucket.clone() }
    }

    /// Opens the connection by a read of nothing: there is no call that only connects. Start-up is not throttled; the first
    /// request would be.
    pub async fn open_connection(&self) {
        let key = HashMap::from([("digest".to_owned(), AttributeValue::S("none".to_owned())), ("item".to_owned(), AttributeValue::S("none".to_owned()))]);
        let _ = self.client.get_item().table_name(&self.table).set_key(Some(key)).send().await;
    }

    /// The heads of these images of one repository, consistently and in their order.
    pub async fn heads(&self, repository: &Repository, digests: &[ImageDigest]) -> Result<Vec<Option<Head>>, Why> {
        let attempt = format!("read the verdicts of {} images of {}", digests.len(), repository.name);
        if let [digest] = digests {
            let answer = self.client.get_item().table_name(&self.table).set_key(Some(head_key(repository, digest))).consistent_read(true).send().await;
            let item = answer.map_err(|error| why(&attempt, &error))?.item;
            return Ok(vec![item.map(|item| head(item, &attempt)).transpose()?]);
        }
        let mut found: HashMap<ImageDigest, Head> = HashMap::new();
        let mut left: Vec<_> = digests.iter().map(|digest| head_key(repository, digest)).collect();
        for _ in 0..BATCH_TRIES {
            if left.is_empty() {
                break;
            }
            let keys = KeysAndAttributes::builder().set_keys(Some(std::mem::take(&mut left))).consistent_read(true).build();
            let keys = keys.map_err(|error| Why { text: format!("could not {attempt}: {error}"), denied: false })?;
            let answer = self.client.batch_get_item().request_items(&self.table, keys).send().await.map_err(|error| why(&attempt, &error))?;
            for item in answer.responses.unwrap_or_default().remove(&self.table).unwrap_or_default() {
                let head = head(item, &attempt)?;
                found.insert(head.digest.clone(), head);
            }
            left = answer.unprocessed_keys.unwrap_or_default().remove(&self.table).map(|keys| keys.keys).unwrap_or_default();
        }
        if !left.is_empty() {
            return Err(Why { text: format!("could not {attempt}: DynamoDB left {} of them unread, {BATCH_TRIES} times", left.len()), denied: false });
        }
        Ok(digests.iter().map(|digest| found.get(digest).cloned()).collect())
    }

    /// All heads of a digest, in whatever repository.
    pub async fn everywhere(&self, digest: &ImageDigest) -> Result<Vec<Head>, Why> {
        let attempt = format!("read the verdicts of {digest}");
        let query = self.client.query().table_name(&self.table).key_condition_expression("digest = :digest");
        let query = query.filter_expression("attribute_exists(version)").expression_attribute_values(":digest", AttributeValue::S(digest.to_string()));
        let items = query.into_paginator().items().send().collect::<Result<Vec<_>, _>>().await.map_err(|error| why(&attempt, &error))?;
        items.into_iter().map(|item| head(item, &attempt)).collect()
    }

    /// The images of a repository of which something is recorded, in the order of their digests, from `page` on, and where it goes
    /// on. Behind the table by a moment, since it is an index.
    pub async fn recorded(&self, repository: &Repository, page: Option<&str>) -> Result<(Vec<ImageDigest>, Option<String>), Why> {
        let attempt = format!("read what is recorded of {}", repository.name);
        let start = page.map(key_of_page).transpose().map_err(|error| Why::new(format!("could not {attempt}: {error}")))?;
        let query = self
            .client
            .query()
            .table_name(&self.table)
            .index_name("heads-by-repository")
            .limit(PAGE)
            .key_condition_expression("#repository = :repository")
            .expression_attribute_names("#repository", "repository")
            .expression_attribute_values(":repository", AttributeValue::S(repository.arn()))
            .set_exclusive_start_key(start);
        let answer = query.send().await.map_err(|error| why(&attempt, &error))?;
        let digest = |item: Item| text(&item, "digest").and_then(|digest| digest.parse().ok()).ok_or_else(|| missing(&attempt, "digest in a row"));
        let digests = answer.items.unwrap_or_default().into_iter().map(digest).collect::<Result<_, _>>()?;
        Ok((digests, answer.last_evaluated_key.as_ref().map(page_of_key)))
    }

    /// Writes a head if the row is still the one that was read; `expect` 0: if there is none.
    pub async fn write_head(&self, expect: u64, head: &Head) -> Result<Written, Why> {
        let attempt = format!("write the verdict of {}", head.digest);
        let item = head_item(head, Timestamp::now()).map_err(|error| Why { text: format!("could not {attempt}: {error}"), denied: false })?;
        let put = self
            .client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(item))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let put = match expect {
            0 => put.condition_expression("attribute_not_exists(digest)"),
            version => put
                .condition_expression("#version = :expected")
                .expression_attribute_names("#version", "version")
                .expression_attribute_values(":expected", AttributeValue::N(version.to_string())),
        };
        let error = match put.send().await {
            Ok(_) => return Ok(Written::Yes),
            Err(error) => error,
        };
        match error.as_service_error() {
            Some(PutItemError::ConditionalCheckFailedException(failed)) => {
                let current = failed.item.clone().map(|item| self::head(item, &attempt)).transpose()?;
                Ok(Written::Conflict(current.map(Box::new)))
            }
            _ => Err(why(&attempt, &error)),
        }
    }

    /// What an audience was told of an image.
    pub async fn announced(&self, repository: &Repository, digest: &ImageDigest, audience: &str) -> Result<Announced, Why> {
        let attempt = format!("read what was told of {digest}");
        let key = key(digest, told_item(repository, audience));
        let answer = self.client.get_item().table_name(&self.table).set_key(Some(key)).consistent_read(true).send().await;
        let Some(item) = answer.map_err(|error| why(&attempt, &error))?.item else { return Ok(Announced::default()) };
        let state = item.get("told").and_then(|value| value.as_s().ok()).ok_or_else(|| missing(&attempt, "record"))?;
        let told: Told = serde_json::from_str(state).map_err(|error| Why::new(format!("could not {attempt}: {error}")))?;
        let keys = |name: &str| item.get(name).and_then(|value| value.as_b().ok()).map(|bytes| keys(bytes.as_ref())).unwrap_or_default();
        Ok(Announced {
            version: told.version,
            told: keys("findings"),
            warned: keys("warned"),
            weighed: told.weighed,
            head_version: told.head_version,
            verdict: told.verdict,
            unscanned: told.unscanned,
            told_at: told.told_at,
            comes_again_at: told.comes_again_at,
            outbox: told.outbox,
            lease_until: told.lease_until,
        })
    }

    /// What was found good of an image under this trust. What cannot be read is looked for anew.
    pub async fn signed(&self, repository: &Repository, digest: &ImageDigest, trust: &str) -> Result<Option<Vec<Good>>, Why> {
        let key = key(digest, signed_item(repository, trust));
        let answer = self.client.get_item().table_name(&self.table).set_key(Some(key)).send().await;
        let item = answer.map_err(|error| why(format!("read who has signed {digest}"), &error))?.item;
        Ok(item.and_then(|item| serde_json::from_str(&text(&item, "good")?).ok()).filter(|good: &Vec<Good>| !good.is_empty()))
    }

    /// Keeps what came of a verification, also where it is not verified: for whoever asks later.
    pub async fn keep_signed(
        &self,
        repository: &Repository,
        digest: &ImageDigest,
        trust: &str,
        verdict: &Verdict,
        good: &[Good],
        now: Timestamp,
    ) -> Result<(), Why> {
        let mut item = key(digest, signed_item(repository, trust));
        let good = if verdict.is_verified() { good } else { &[] };
        let mut set = |name: &str, value: String| item.insert(name.to_owned(), AttributeValue::S(value));
        set("good", serde_json::to_string(good).expect("texts are JSON"));
        set("verdict", serde_json::to_string(verdict).expect("texts are JSON"));
        set("verified_at", now.to_string());
        item.insert("ttl".into(), AttributeValue::N(now.saturating_add(SIGNED).unwrap_or(Timestamp::MAX).as_second().to_string()));
        let put = self.client.put_item().table_name(&self.table).set_item(Some(item)).send().await;
        put.map(|_| ()).map_err(|error| why(format!("keep who has signed {digest}"), &error))
    }

    /// Notes what an audience is told, if nobody has since it was read; `expect` 0: if nothing was noted yet. `false`: somebody has.
    pub async fn write_announced(
        &self,
        repository: &Repository,
        digest: &ImageDigest,
        audience: &str,
        expect: u64,
        announced: &Announced,
        now: Timestamp,
    ) -> Result<bool, Why> {
        let Announced { version, told, warned, weighed, head_version, verdict, unscanned, told_at, comes_again_at, outbox, lease_until } = announced.clone();
        let state = Told { version, weighed, head_version, verdict, unscanned, told_at, comes_again_at, outbox, lease_until };
        let mut item = key(digest, told_item(repository, audience));
        item.insert("told".into(), AttributeValue::S(serde_json::to_string(&state).expect("texts are JSON")));
        item.insert("told_version".into(), AttributeValue::N(version.to_string()));
        item.insert("ttl".into(), AttributeValue::N(now.saturating_add(TOLD).unwrap_or(Timestamp::MAX).as_second().to_string()));
        for (name, keys) in [("findings", &told), ("warned", &warned)] {
            if !keys.is_empty() {
                let bytes: Vec<u8> = keys.iter().flat_map(|key| key.0).collect();
                item.insert(name.into(), AttributeValue::B(Blob::new(bytes)));
            }
        }
        let put = self.client.put_item().table_name(&self.table).set_item(Some(item));
        let put = match expect {
            0 => put.condition_expression("attribute_not_exists(told_version)"),
            version => put.condition_expression("told_version = :expected").expression_attribute_values(":expected", AttributeValue::N(version.to_string())),
        };
        match put.send().await {
            Ok(_) => Ok(true),
            Err(error) if matches!(error.as_service_error(), Some(PutItemError::ConditionalCheckFailedException(_))) => Ok(false),
            Err(error) => Err(why(format!("note what is told of {digest}"), &error)),
        }
    }

    /// Makes the findings of an image known by their ids: in each shelf the ids of it that belong there, and since when. Only while
    /// the head refers to these very findings, or, where there are none, is of that version: else somebody knows better.
    pub async fn index(&self, repository: &Repository, digest: &ImageDigest, version: u64, facts: Option<&Facts>, now: Timestamp) -> Result<(), Why> {
        let attempt = format!("make the findings of {digest} known by their ids");
        let keys = (0..SHELVES).map(|shelf| key_of(shelf, repository, digest)).collect();
        let keys = KeysAndAttributes::builder().set_keys(Some(keys)).consistent_read(true).build();
        let keys = keys.map_err(|error| Why::new(format!("could not {attempt}: {error}")))?;
        let answer = self.client.batch_get_item().request_items(&self.table, keys).send().await.map_err(|error| why(&attempt, &error))?;
        if answer.unprocessed_keys.unwrap_or_default().values().any(|left| !left.keys.is_empty()) {
            return Err(Why::new(format!("could not {attempt}: DynamoDB left some of them unread")));
        }
        let mut known: BTreeMap<String, BTreeMap<String, i64>> = BTreeMap::new();
        for item in answer.responses.unwrap_or_default().remove(&self.table).unwrap_or_default() {
            if let Some(AttributeValue::S(shelf)) = item.get("digest") {
                known.insert(shelf.clone(), since(&item));
            }
        }
        let wanted = index::shelve(facts.map(Facts::findings).unwrap_or_default());
        let mut items = Vec::new();
        for shelf in 0..SHELVES {
            let known = known.remove(&index::name(shelf)).unwrap_or_default();
            let ids = wanted.get(&shelf).cloned().unwrap_or_default();
            if known.keys().eq(ids.iter()) {
                continue;
            }
            let mut item = key_of(shelf, repository, digest);
            let since = |id: &String| AttributeValue::N(known.get(id).copied().unwrap_or_else(|| now.as_second()).to_string());
            item.insert("ids".into(), AttributeValue::M(ids.iter().map(|id| (id.clone(), since(id))).collect()));
            if ids.is_empty() {
                item.insert("ttl".into(), AttributeValue::N(now.saturating_add(KEPT).unwrap_or(Timestamp::MAX).as_second().to_string()));
            }
            let put = Put::builder().table_name(&self.table).set_item(Some(item));
            items.push(TransactWriteItem::builder().put(put.build().expect("table and item are set")).build());
        }
        if items.is_empty() {
            return Ok(());
        }
        let check = ConditionCheck::builder().table_name(&self.table).set_key(Some(head_key(repository, digest)));
        let check = match facts {
            Some(facts) => check
                .condition_expression("#result.#facts = :facts")
                .expression_attribute_names("#result", "result")
                .expression_attribute_names("#facts", "facts")
                .expression_attribute_values(":facts", AttributeValue::S(facts.hash().as_str().to_owned())),
            None => check
                .condition_expression("#version = :version")
                .expression_attribute_names("#version", "version")
                .expression_attribute_values(":version", AttributeValue::N(version.to_string())),
        };
        items.push(TransactWriteItem::builder().condition_check(check.build().expect("table, key and condition are set")).build());
        match self.client.transact_write_items().set_transact_items(Some(items)).send().await {
            Ok(_) => Ok(()),
            Err(error) => match error.as_service_error() {
                // Somebody knows better.
                Some(TransactWriteItemsError::TransactionCanceledException(cancelled))
                    if cancelled.cancellation_reasons().iter().any(|reason| reason.code() == Some("ConditionalCheckFailed")) =>
                {
                    Ok(())
                }
                _ => Err(why(&attempt, &error)),
            },
        }
    }

    /// Which images have a finding of this id, and since when that is known here. One query, consistent.
    pub async fn having(&self, id: &str) -> Result<Vec<(Repository, ImageDigest, Timestamp)>, Why> {
        let attempt = format!("read which images have {id}");
        let query = self
            .client
            .query()
            .table_name(&self.table)
            .consistent_read(true)
            .key_condition_expression("digest = :shelf")
            .filter_expression("attribute_exists(ids.#id)")
            .projection_expression("#item, ids.#id")
            .expression_attribute_names("#id", id)
            .expression_attribute_names("#item", "item")
            .expression_attribute_values(":shelf", AttributeValue::S(index::name(index::shelf(id))));
        let items = query.into_paginator().items().send().collect::<Result<Vec<_>, _>>().await.map_err(|error| why(&attempt, &error))?;
        let read = |item: Item| {
            let known_since = since(&item).remove(id).and_then(|second| Timestamp::from_second(second).ok());
            let named = item.get("item").and_then(|name| name.as_s().ok()).and_then(|name| name.rsplit_once('#'));
            let (repository, digest) = named.map(|(repository, digest)| (repository.parse().ok(), digest.parse().ok())).unwrap_or_default();
            repository.zip(digest).zip(known_since).map(|((repository, digest), since)| (repository, digest, since)).ok_or_else(|| missing(&attempt, "image"))
        };
        items.into_iter().map(read).collect()
    }

    /// Stores findings under their hash, for the head of version `for_version`.
    pub async fn put_facts(&self, repository: &Repository, digest: &ImageDigest, facts: &Facts, for_version: u64) -> Result<(), Why> {
        let attempt = format!("store the findings of {digest}");
        let packed = pack(|to| facts.write_to(to)).map_err(|error| Why { text: format!("could not {attempt}: {error}"), denied: false })?;
        let mut item = facts_key(repository, digest, facts.hash());
        item.insert("for_version".into(), AttributeValue::N(for_version.to_string()));
        let key = format!("facts/{}/{}.json.gz", digest.as_str().trim_start_matches("sha256:"), facts.hash().as_str());
        self.place(&mut item, packed, key, &attempt).await?;
        // Stored for a later version, they must not be taken for an older one's: that could be let go of too early.
        let put = self
            .client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(item))
            .condition_expression("attribute_not_exists(for_version) OR for_version < :version OR attribute_exists(#ttl)")
            .expression_attribute_names("#ttl", "ttl")
            .expression_attribute_values(":version", AttributeValue::N(for_version.to_string()));
        match put.send().await {
            Ok(_) => Ok(()),
            Err(error) if matches!(error.as_service_error(), Some(PutItemError::ConditionalCheckFailedException(_))) => Ok(()),
            Err(error) => Err(why(&attempt, &error)),
        }
    }

    /// Keeps what was read until the time was up, for whoever goes on from `next`.
    pub async fn keep_begun(&self, repository: &Repository, digest: &ImageDigest, next: &PageToken, begun: &Begun) -> Result<(), Why> {
        let attempt = format!("keep what was read of {digest}");
        let packed = pack(|to| Ok(serde_json::to_writer(to, begun)?)).map_err(|error| Why::new(format!("could not {attempt}: {error}")))?;
        let name = sha256_hex(next.0.as_bytes());
        let mut item = key(digest, begun_item(repository, next));
        item.insert("ttl".into(), AttributeValue::N(Timestamp::now().saturating_add(KEPT).unwrap_or(Timestamp::MAX).as_second().to_string()));
        self.place(&mut item, packed, format!("begun/{}/{name}.json.gz", digest.as_str().trim_start_matches("sha256:")), &attempt).await?;
        self.client.put_item().table_name(&self.table).set_item(Some(item)).send().await.map_err(|error| why(&attempt, &error))?;
        Ok(())
    }

    /// What was read before `from`. That it is gone is an error: then the reading begins again with the next event.
    pub async fn begun(&self, repository: &Repository, digest: &ImageDigest, from: &PageToken) -> Result<Begun, Why> {
        let attempt = format!("go on reading the findings of {digest}");
        let answer = self.client.get_item().table_name(&self.table).set_key(Some(key(digest, begun_item(repository, from)))).consistent_read(true).send().await;
        let item = answer.map_err(|error| why(&attempt, &error))?.item;
        let packed = match item {
            Some(item) => self.fetch(item, &attempt).await?,
            None => None,
        };
        let bytes = unpack(&packed.ok_or_else(|| missing(&attempt, "beginning"))?).map_err(|error| Why::new(format!("could not {attempt}: {error}")))?;
        serde_json::from_slice(&bytes).map_err(|error| Why::new(format!("could not {attempt}: {error}")))
    }

    /// Puts what is packed into the item or, where it is too large, into the bucket.
    async fn place(&self, item: &mut Item, packed: Vec<u8>, key: String, attempt: &str) -> Result<(), Why> {
        if packed.len() <= INLINE_BYTES {
            item.insert("data".into(), AttributeValue::B(Blob::new(packed)));
            return Ok(());
        }
        let put = self.s3.put_object().bucket(&self.bucket).key(&key).body(packed.into()).content_type("application/json").content_encoding("gzip");
        put.send().await.map_err(|error| why(attempt, &error))?;
        item.insert("bucket".into(), AttributeValue::S(self.bucket.clone()));
        item.insert("key".into(), AttributeValue::S(key));
        Ok(())
    }

    /// What an item holds, or points to; `None` when that is gone.
    async fn fetch(&self, mut item: Item, attempt: &str) -> Result<Option<Vec<u8>>, Why> {
        match (item.remove("data"), item.remove("bucket"), item.remove("key")) {
            (Some(AttributeValue::B(data)), _, _) => Ok(Some(data.into_inner())),
            (_, Some(AttributeValue::S(bucket)), Some(AttributeValue::S(key))) => {
                let object = match self.s3.get_object().bucket(bucket).key(key).send().await {
                    Ok(object) => object,
                    Err(error) if error.as_service_error().is_some_and(|error| error.is_no_such_key()) => return Ok(None),
                    Err(error) => return Err(why(attempt, &error)),
                };
                let body = object.body.collect().await.map_err(|error| Why::new(format!("could not {attempt}: {error}")))?;
                Ok(Some(body.to_vec()))
            }
            _ => Err(missing(attempt, "data, neither in the item nor in S3")),
        }
    }

    /// The findings under that hash; `None` when they are gone.
    pub async fn facts(&self, repository: &Repository, digest: &ImageDigest, hash: &FactsHash) -> Result<Option<Facts>, Why> {
        let attempt = format!("read the stored findings of {digest}");
        let answer = self.client.get_item().table_name(&self.table).set_key(Some(facts_key(repository, digest, hash))).consistent_read(true).send().await;
        let Some(item) = answer.map_err(|error| why(&attempt, &error))?.item else { return Ok(None) };
        let Some(packed) = self.fetch(item, &attempt).await? else { return Ok(None) };
        let unreadable = |error: String| Why { text: format!("could not {attempt}: {error}"), denied: false };
        let bytes = unpack(&packed).map_err(|error| unreadable(error.to_string()))?;
        Facts::from_bytes(&bytes, hash).map(Some).map_err(|error| unreadable(error.to_string()))
    }

    /// Lets findings go that no head of version `since_version` or later refers to. If a later head took them up again
    /// meanwhile, they stay.
    pub async fn expire_facts(&self, repository: &Repository, digest: &ImageDigest, facts: &FactsHash, since_version: u64, now: Timestamp) -> Result<(), Why> {
        let gone_at = now.saturating_add(KEPT).unwrap_or(Timestamp::MAX).as_second();
        let update = self
            .client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(facts_key(repository, digest, facts)))
            .update_expression("SET #ttl = :gone_at")
            .condition_expression("for_version <= :since")
            .expression_attribute_names("#ttl", "ttl")
            .expression_attribute_values(":gone_at", AttributeValue::N(gone_at.to_string()))
            .expression_attribute_values(":since", AttributeValue::N(since_version.to_string()));
        match update.send().await {
            Ok(_) => Ok(()),
            Err(error) if matches!(error.as_service_error(), Some(UpdateItemError::ConditionalCheckFailedException(_))) => Ok(()),
            Err(error) => Err(why(format!("let the old findings of {digest} go"), &error)),
        }
    }
}

type Item = HashMap<String, AttributeValue>;

fn told_item(repository: &Repository, audience: &str) -> String {
    format!("{}#told#{audience}", repository.arn())
}

fn signed_item(repository: &Repository, trust: &str) -> String {
    format!("{}#signed#{trust}", repository.arn())
}

fn key_of(shelf: usize, repository: &Repository, digest: &ImageDigest) -> Item {
    let item = format!("{}#{digest}", repository.arn());
    HashMap::from([("digest".to_owned(), AttributeValue::S(index::name(shelf))), ("item".to_owned(), AttributeValue::S(item))])
}

/// The ids that an item of the index holds, and since when each is there, in seconds.
fn since(item: &Item) -> BTreeMap<String, i64> {
    let ids = item.get("ids").and_then(|ids| ids.as_m().ok());
    ids.into_iter().flatten().filter_map(|(id, since)| Some((id.clone(), since.as_n().ok()?.parse().ok()?))).collect()
}

fn keys(bytes: &[u8]) -> BTreeSet<Key> {
    bytes.chunks_exact(6).map(|key| Key(key.try_into().expect("six bytes"))).collect()
}

/// What of a record is text.
#[derive(Serialize, Deserialize)]
struct Told {
    version: u64,
    weighed: Option<Weighed>,
    #[serde(default)]
    head_version: u64,
    verdict: Option<String>,
    unscanned: Option<String>,
    told_at: Option<Timestamp>,
    comes_again_at: Option<Timestamp>,
    outbox: Vec<Notice>,
    lease_until: Option<Timestamp>,
}

/// The row of a head: besides itself, the key of the index by which a repository's heads are found; and, once the image has
/// been deleted, the end of the row. Is the image back, it is written without.
fn head_item(head: &Head, now: Timestamp) -> serde_dynamo::Result<Item> {
    let mut item: Item = to_item(head)?;
    item.insert("repository".into(), AttributeValue::S(head.repository.arn()));
    if head.state() == ScanState::Deleted {
        let gone_at = now.saturating_add(DELETED_KEPT).unwrap_or(Timestamp::MAX).as_second();
        item.insert("ttl".into(), AttributeValue::N(gone_at.to_string()));
    }
    Ok(item)
}

fn head_key(repository: &Repository, digest: &ImageDigest) -> Item {
    key(digest, repository.arn())
}

fn facts_key(repository: &Repository, digest: &ImageDigest, facts: &FactsHash) -> Item {
    key(digest, format!("{}#facts#{}", repository.arn(), facts.as_str()))
}

fn begun_item(repository: &Repository, next: &PageToken) -> String {
    format!("{}#begun#{}", repository.arn(), sha256_hex(next.0.as_bytes()))
}

fn key(digest: &ImageDigest, item: String) -> Item {
    HashMap::from([("digest".to_owned(), AttributeValue::S(digest.to_string())), ("item".to_owned(), AttributeValue::S(item))])
}

/// A row that cannot be read is an error, never a missing row: that would be an image nobody has looked at.
fn head(item: Item, attempt: &str) -> Result<Head, Why> {
    from_item(item).map_err(|error| Why { text: format!("could not {attempt}: the row cannot be read: {error}"), denied: false })
}

/// Packs what is written, as it is written: in full it can be many megabytes.
fn pack(write: impl FnOnce(&mut BufWriter<GzEncoder<Vec<u8>>>) -> io::Result<()>) -> io::Result<Vec<u8>> {
    let mut to = BufWriter::new(GzEncoder::new(Vec::new(), Compression::fast()));
    write(&mut to)?;
    to.into_inner().map_err(io::IntoInnerError::into_error)?.finish()
}

fn unpack(packed: &[u8]) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = GzDecoder::new(packed).take(UNPACKED_BYTES).read_to_end(&mut bytes)?;
    if read as u64 == UNPACKED_BYTES {
        return Err(io::Error::other("it is larger than any list of findings"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Write;

    use super::*;
    use crate::domain::finding::{Counts, Finding, Rating};
    use crate::domain::head::{Change, Child, Kind, News, merge};
    use crate::domain::policy::Policy;
    use crate::domain::scan::{Answer, Answered, ScanSource, understand};

    fn repository() -> Repository {
        "arn:aws:ecr:eu-west-1:123456789012:repository/team/web-app".parse().unwrap()
    }

    /// The size that DynamoDB counts: names and values.
    fn size(value: &AttributeValue) -> usize {
        match value {
            AttributeValue::S(text) => text.len(),
            AttributeValue::N(number) => number.len() / 2 + 2,
            AttributeValue::L(list) => 3 + list.iter().map(|value| size(value) + 1).sum::<usize>(),
            AttributeValue::M(map) => 3 + map.iter().map(|(name, value)| name.len() + size(value) + 1).sum::<usize>(),
            _ => 1,
        }
    }

    #[test]
    fn a_head_survives_the_table() {
        let digest = ImageDigest::of(b"index");
        let child = Child { digest: ImageDigest::of(b"child"), platform: "linux/arm64/v8".into() };
        let news = News::Pushed { kind: Kind::Index(vec![child]), tag: Some("1.4.2".into()), at: Some(Timestamp::UNIX_EPOCH) };
        let Change::Write(written) = merge(None, &digest, &repository(), &[news], &[]) else { panic!("a new row is written") };
        let item = head_item(&written, Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(item.get("item"), Some(&AttributeValue::S(repository().arn())), "the range key is the repository");
        assert_eq!(*written, head(item, "read").unwrap());
    }

    #[test]
    fn the_row_of_a_deleted_image_ends_and_comes_back_with_it() {
        let digest = ImageDigest::of(b"image");
        let read = |what: Answered, second: i64| {
            let read_at = Timestamp::from_second(second).unwrap();
            News::Scan(understand(Answer { source: ScanSource::Basic, what, coverage: None, pushed_at: None, read_at }))
        };
        let written = |old: Option<&Head>, news: News| match merge(old, &digest, &repository(), &[news], &[]) {
            Change::Write(head) => *head,
            Change::Same => panic!("it is news"),
        };
        let deleted = written(None, read(Answered::NoImage, 50));
        let ends = head_item(&deleted, Timestamp::UNIX_EPOCH).unwrap().remove("ttl");
        assert_eq!(ends, Some(AttributeValue::N((30 * 24 * 3600).to_string())));
        let back = written(Some(&deleted), read(Answered::NoScan, 60));
        assert_eq!(head_item(&back, Timestamp::UNIX_EPOCH).unwrap().get("ttl"), None);
    }

    #[test]
    fn the_largest_head_costs_one_read_unit() {
        let digest = ImageDigest::of(b"index");
        let children = (0..40).map(|n| Child { digest: ImageDigest::of(&[n]), platform: "linux/arm64".into() }).collect();
        let mut news = vec![News::Pushed { kind: Kind::Index(children), tag: None, at: None }];
        let tag = |n: i64| News::Pushed { kind: Kind::Unknown, tag: Some(format!("{n}-{}", "t".repeat(120))), at: Timestamp::from_second(n).ok() };
        news.extend((0..30).map(tag));
        let Change::Write(index) = merge(None, &digest, &repository(), &news, &[]) else { panic!() };
        let total = |head: &Head| size(&AttributeValue::M(head_item(head, Timestamp::UNIX_EPOCH).unwrap()));
        assert!(total(&index) <= 6 * 1024, "{} bytes", total(&index));
        assert!(index.tags.len() <= 5, "long tags make way");
    }

    /// DynamoDB charges a consistent read by 4 KB.
    #[test]
    fn the_fullest_head_of_an_image_costs_one_read_unit() {
        let digest = ImageDigest::of(b"image");
        let mut news: Vec<News> = (0..25_u8).map(|n| News::PartOf(ImageDigest::of(&[n]))).collect();
        let tag = |n: i64| News::Pushed { kind: Kind::Image, tag: Some(format!("{n}-{}", "t".repeat(27))), at: Timestamp::from_second(n).ok() };
        news.extend((0..25).map(tag));
        let words = ["CRITICAL", "HIGH", "MEDIUM", "LOW", "INFORMATIONAL", "UNDEFINED", "UNTRIAGED"];
        let report = Report {
            status: Some("ACTIVE".into()),
            completed_at: Timestamp::from_second(50).ok(),
            findings: words.map(|word| Finding::new("CVE-1", Rating::parse(Some(word)))).to_vec(),
            listed: true,
            has_enhanced_findings: true,
            ..Report::default()
        };
        let read_at = Timestamp::from_second(60).unwrap();
        let answer = Answer { source: ScanSource::Enhanced, what: Answered::Findings(report), coverage: None, pushed_at: None, read_at };
        news.push(News::Scan(understand(answer)));
        let policies: Vec<Policy> = (0..10).map(|n| Policy::from_words(None, Some("HIGH"), [format!("CVE-{n}")]).unwrap()).collect();
        let Change::Write(head) = merge(None, &digest, &repository(), &news, &policies) else { panic!("a new row is written") };
        let bytes = size(&AttributeValue::M(head_item(&head, Timestamp::UNIX_EPOCH).unwrap()));
        assert_eq!((head.parents.len(), head.verdicts.len()), (20, 8));
        assert!(bytes <= 4096, "{bytes} bytes");
    }

    #[test]
    fn findings_are_packed_and_unpacked_whole() {
        let bytes = b"[1,2,3]".repeat(1000);
        let packed = pack(|to| to.write_all(&bytes)).unwrap();
        assert!(packed.len() < bytes.len() / 10);
        assert_eq!(unpack(&packed).unwrap(), bytes);
        assert!(unpack(b"not packed").is_err());
    }

    #[test]
    fn counts_are_a_map_in_the_table() {
        let counts = Counts::from(BTreeMap::from([("HIGH".to_owned(), 2)]));
        let value: AttributeValue = serde_dynamo::aws_sdk_dynamodb_1::to_attribute_value(&counts).unwrap();
        assert_eq!(value, AttributeValue::M(HashMap::from([("HIGH".to_owned(), AttributeValue::N("2".to_owned()))])));
    }
}
