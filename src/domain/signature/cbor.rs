//! As much of CBOR as COSE needs: one item, read whole. Bounded in depth and in number; lengths that are not said beforehand are refused,
//! and so is a map with a key twice, which the crates for it would let through.

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item<'a> {
    Integer(i128),
    Bytes(&'a [u8]),
    Text(&'a str),
    Array(Vec<Item<'a>>),
    Map(Vec<(Item<'a>, Item<'a>)>),
    Tagged(u64, Box<Item<'a>>),
    /// True, false, nothing, a fraction: it is there, and nobody reads it.
    Other,
}

/// COSE_Sign1 needs 4 levels and a dozen members.
const DEEPEST: usize = 8;
const MOST_MEMBERS: u64 = 64;

/// Reads one item that is all of these bytes. The error says what is wrong.
pub fn read(bytes: &[u8]) -> Result<Item<'_>, &'static str> {
    let mut rest = bytes;
    let item = item(&mut rest, 0)?;
    if rest.is_empty() { Ok(item) } else { Err("something follows its end") }
}

fn item<'a>(rest: &mut &'a [u8], depth: usize) -> Result<Item<'a>, &'static str> {
    if depth > DEEPEST {
        return Err("it is nested too deeply");
    }
    let (major, info) = match take(rest, 1)? {
        [byte] => (byte >> 5, byte & 0x1f),
        _ => return Err("it ends early"),
    };
    let number = match info {
        small @ 0..=23 => u64::from(small),
        24..=27 => take(rest, 1 << (info - 24))?.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)),
        _ => return Err("it has a part whose length is not said"),
    };
    Ok(match major {
        0 => Item::Integer(i128::from(number)),
        1 => Item::Integer(-1 - i128::from(number)),
        2 => Item::Bytes(take(rest, usize::try_from(number).unwrap_or(usize::MAX))?),
        3 => Item::Text(std::str::from_utf8(take(rest, usize::try_from(number).unwrap_or(usize::MAX))?).map_err(|_| "a text is not UTF-8")?),
        4 | 5 if number > MOST_MEMBERS => return Err("it has too many members"),
        4 => Item::Array((0..number).map(|_| item(rest, depth + 1)).collect::<Result<_, _>>()?),
        5 => {
            let mut members: Vec<(Item<'a>, Item<'a>)> = Vec::new();
            for _ in 0..number {
                let key = item(rest, depth + 1)?;
                if members.iter().any(|(other, _)| *other == key) {
                    return Err("a key is there twice");
                }
                members.push((key, item(rest, depth + 1)?));
            }
            Item::Map(members)
        }
        6 => Item::Tagged(number, Box::new(item(rest, depth + 1)?)),
        _ => Item::Other,
    })
}

fn take<'a>(rest: &mut &'a [u8], n: usize) -> Result<&'a [u8], &'static str> {
    let (taken, after) = rest.split_at_checked(n).ok_or("it ends early")?;
    *rest = after;
    Ok(taken)
}

/// Writes the head of a byte string or an array, in its shortest form, as what is signed is written.
pub fn head(major: u8, length: usize) -> Vec<u8> {
    let length = length as u64;
    let bytes = length.to_be_bytes();
    match length {
        0..=23 => vec![major << 5 | length as u8],
        24..=0xff => vec![major << 5 | 24, bytes[7]],
        0x100..=0xffff => [&[major << 5 | 25], &bytes[6..]].concat(),
        0x1_0000..=0xffff_ffff => [&[major << 5 | 26], &bytes[4..]].concat(),
        _ => [&[major << 5 | 27], &bytes[..]].concat(),
    }
}
