//! Which images have a finding of this id? The ids of every image, on shelves.
//!
//! One item for each finding of each image would be hundreds of writes an image, and one list an image would have to be read of
//! all of them. So the ids are spread over a few shelves by their hash: an image is written with a handful of items at once, and
//! whoever looks for an id reads one shelf.

use std::collections::{BTreeMap, BTreeSet};

use super::finding::Finding;
use super::image::sha256_hex;

/// How many: all of an image's fit into one transaction, and one call reads them. For ever: an id is looked for on one of them.
pub const SHELVES: usize = 16;

/// The shelf on which an id belongs.
pub fn shelf(id: &str) -> usize {
    usize::from_str_radix(&sha256_hex(id.as_bytes())[..1], SHELVES as u32).unwrap_or_default()
}

/// The name of a shelf, under which the table keeps it.
pub fn name(shelf: usize) -> String {
    format!("findings#{shelf:02}")
}

/// The ids of these findings, each on its shelf. What is suppressed or closed is not found.
pub fn shelve(findings: &[Finding]) -> BTreeMap<usize, BTreeSet<String>> {
    let mut shelves: BTreeMap<usize, BTreeSet<String>> = BTreeMap::new();
    for finding in findings.iter().filter(|finding| finding.counts()) {
        shelves.entry(shelf(&finding.id)).or_default().insert(finding.id.clone());
    }
    shelves
}
