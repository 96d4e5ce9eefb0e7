//! What certificates and keys need of ASN.1 beyond the `der` crate, which reads one value at a time and refuses all that is not DER.

use der::asn1::{AnyRef, ObjectIdentifier};
use der::{SliceReader, Tag, Tagged as _};

/// What is in a constructed value, once its tag is the right one.
pub fn open(value: AnyRef<'_>, tag: Tag) -> der::Result<SliceReader<'_>> {
    value.tag().assert_eq(tag)?;
    SliceReader::new(value.value())
}

/// Compared by content: a strange extension with a longer id than we could hold must not make a certificate unreadable.
pub fn is_oid(value: AnyRef<'_>, oid: ObjectIdentifier) -> bool {
    value.tag() == Tag::ObjectIdentifier && value.value() == oid.as_bytes()
}

/// For a person.
pub fn oid_text(value: AnyRef<'_>) -> String {
    value.decode_as::<ObjectIdentifier>().map_or_else(|_| "without a readable name".to_owned(), |oid| oid.to_string())
}

/// Writes one value: its tag, its length, its content.
pub fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    let length = content.len().to_be_bytes();
    match content.len() {
        short @ 0..=127 => bytes.push(short as u8),
        _ => {
            let significant = &length[length.iter().take_while(|byte| **byte == 0).count()..];
            bytes.push(0x80 | significant.len() as u8);
            bytes.extend_from_slice(significant);
        }
    }
    bytes.extend_from_slice(content);
    bytes
}
