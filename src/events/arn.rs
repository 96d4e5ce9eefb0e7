//! The ARNs that events carry: of repositories, of images, of whatever else was scanned.
//!
//! An account here is any text without a colon, and not only twelve digits: an event whose account somebody has blotted out
//! is still an event of another account, and is ignored as such.

use crate::domain::image::{ImageDigest, Repository};

/// `arn:PARTITION:ecr:REGION:ACCOUNT:repository/NAME`.
pub(super) fn repository(text: &str) -> Option<Repository> {
    let [partition, "ecr", region, account, resource] = parts(text)? else { return None };
    let name = resource.strip_prefix("repository/")?;
    let plain = |part: &str| !part.is_empty() && !part.contains([':', '\\']) && !part.chars().any(|c| c.is_whitespace() || c.is_control());
    let well_formed = [partition, region, account].iter().all(|part| plain(part) && !part.contains('/')) && plain(name) && !name.split('/').any(str::is_empty);
    well_formed.then(|| Repository { partition: partition.into(), region: region.into(), account: account.into(), name: name.into() })
}

/// The repository's ARN, a slash, the digest.
pub(super) fn image(text: &str) -> Option<(Repository, ImageDigest)> {
    let (of, digest) = text.rsplit_once('/')?;
    Some((repository(of)?, digest.parse().ok()?))
}

/// Whether it is a thing of ECR's at all, well formed or not.
pub(super) fn is_of_ecr(text: &str) -> bool {
    matches!(parts(text), Some([_, "ecr", ..]))
}

/// Account and region of a stack's ARN, as they stand there.
pub(super) fn stack_home(text: &str) -> Option<(&str, &str)> {
    let [_, "cloudformation", region, account, _] = parts(text)? else { return None };
    (!region.is_empty() && !account.is_empty()).then_some((account, region))
}

/// The partition that a region belongs to. An ARN in the same event says it better.
pub(crate) fn partition_of(region: &str) -> &'static str {
    const BY_PREFIX: [(&str, &str); 8] = [
        ("cn-", "aws-cn"),
        ("us-gov-", "aws-us-gov"),
        ("us-iso-", "aws-iso"),
        ("us-isob-", "aws-iso-b"),
        ("eu-isoe-", "aws-iso-e"),
        ("us-isof-", "aws-iso-f"),
        ("eu-isof-", "aws-iso-f"),
        ("eusc-", "aws-eusc"),
    ];
    BY_PREFIX.iter().find(|(prefix, _)| region.starts_with(prefix)).map_or("aws", |(_, partition)| partition)
}

/// Partition, service, region, account, resource.
fn parts(arn: &str) -> Option<[&str; 5]> {
    let mut parts = arn.strip_prefix("arn:")?.splitn(5, ':');
    Some([parts.next()?, parts.next()?, parts.next()?, parts.next()?, parts.next()?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_tells_its_partition() {
        for (region, partition) in [
            ("eu-west-1", "aws"),
            ("us-east-1", "aws"),
            ("cn-north-1", "aws-cn"),
            ("us-gov-west-1", "aws-us-gov"),
            ("us-iso-east-1", "aws-iso"),
            ("us-isob-east-1", "aws-iso-b"),
            ("eu-isoe-west-1", "aws-iso-e"),
            ("us-isof-south-1", "aws-iso-f"),
            ("eusc-de-east-1", "aws-eusc"),
            ("mars-north-1", "aws"),
        ] {
            assert_eq!(partition_of(region), partition, "{region}");
        }
    }

    #[test]
    fn an_arn_that_could_be_read_in_two_ways_is_none() {
        for bad in [
            "",
            "team/web-app",
            "arn:aws:ecr:eu-west-1:123456789012:repository/",
            "arn:aws:ecr:eu-west-1:123456789012:repository//web-app",
            "arn:aws:ecr:eu-west-1:123456789012:repository/web-app/",
            "arn:aws:ecr:eu-west-1:123456789012:repository/web app",
            "arn:aws:ecr:eu-west-1:123456789012:repository/web-app/sha256:abc",
            "arn:aws:ecr::123456789012:repository/web-app",
            "arn:aws:ecr:eu-west-1:1234/5678:repository/web-app",
            "arn:aws:ecs:eu-west-1:123456789012:repository/web-app",
        ] {
            assert_eq!(repository(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_account_that_was_blotted_out_is_still_another_account() {
        assert_eq!(repository("arn:aws:ecr:eu-west-1:xxxxxxxxxxxx:repository/web-app").unwrap().account, "xxxxxxxxxxxx");
    }
}
