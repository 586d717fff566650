//! A look at the headers of an Ogg Vorbis file before the decoder sees them.
//!
//! lewton reserves memory for as much as the headers announce: a comment count of 2^32, or a codebook of 2^24 entries
//! of 65 535 values, ends the process. Here the announcements are held against the bytes that are there and against the
//! limit that the reference decoder sets. Nothing is decoded, and what is merely wrong is left for lewton to refuse.

use std::collections::HashMap;

/// Most values in all codebooks of a stream together: what libvorbis allows each of them.
const MAX_CODEBOOK_VALUES: u64 = 1 << 24;
/// Longest header packet, in bytes: cover pictures live in the comments.
const MAX_PACKET: usize = 1 << 26;

/// Checks the three headers of every logical stream in `file` and returns how many streams there are.
///
/// # Errors
/// A sentence that says what is wrong.
pub(super) fn check_headers(file: &[u8]) -> Result<usize, String> {
    if !file.starts_with(b"OggS") {
        return Err("is not an Ogg file: it does not start with OggS".into());
    }
    let (mut streams, mut count) = (HashMap::new(), 0);
    for page in Pages(file) {
        if page.starts_stream {
            // Chained files may use a serial number twice.
            streams.insert(page.serial, Stream::default());
            count += 1;
        }
        let Some(stream) = streams.get_mut(&page.serial) else { continue };
        let mut rest = page.data;
        for &lace in page.laces {
            if stream.packets == 3 {
                break;
            }
            let (part, tail) = rest.split_at(usize::from(lace).min(rest.len()));
            rest = tail;
            stream.packet.extend_from_slice(part);
            if stream.packet.len() > MAX_PACKET {
                return Err(format!("has a header packet of more than {MAX_PACKET} bytes"));
            }
            // A segment of less than 255 bytes ends its packet.
            if lace < 255 {
                stream.packets += 1;
                check_packet(&stream.packet)?;
                stream.packet.clear();
            }
        }
    }
    Ok(count)
}

/// A logical stream: how many of its packets were seen, and the part of the next one that was.
#[derive(Default)]
struct Stream {
    packets: usize,
    packet: Vec<u8>,
}

/// Checks one header packet by its type; others pass.
fn check_packet(packet: &[u8]) -> Result<(), String> {
    match packet.split_first_chunk::<7>() {
        Some((b"\x03vorbis", body)) => check_comments(body),
        // Running out of bits in the middle is damage, which the decoder reports in its own words.
        Some((b"\x05vorbis", body)) => check_codebooks(Bits { bytes: body, at: 0 }).unwrap_or(Ok(())),
        _ => Ok(()),
    }
}

/// Vendor, count and each comment must fit into the packet.
fn check_comments(mut body: &[u8]) -> Result<(), String> {
    let mut number = |skip: bool| -> Option<usize> {
        let (length, rest) = body.split_first_chunk::<4>()?;
        let value = u32::from_le_bytes(*length) as usize;
        body = if skip { rest.get(value..)? } else { rest };
        Some(value)
    };
    let damaged = || "announces more comments than it holds".to_string();
    number(true).ok_or_else(damaged)?;
    let count = number(false).ok_or_else(damaged)?;
    (0..count).try_for_each(|_| number(true).map(drop)).ok_or_else(damaged)
}

/// Reads over the codebooks as the Vorbis I specification (section 3.2.1) lays them out, summing up their sizes.
/// `None` if the bits end early.
fn check_codebooks(mut bits: Bits) -> Option<Result<(), String>> {
    let mut values = 0;
    for _ in 0..bits.take(8)? + 1 {
        // Without its mark this is no codebook, and what follows no sizes: the decoder stops here too.
        if bits.take(24)? != 0x56_4342 {
            return None;
        }
        let (dimensions, entries) = (bits.take(16)?, bits.take(24)?);
        values += entries * dimensions.max(1);
        if values > MAX_CODEBOOK_VALUES {
            return Some(Err(format!("announces codebooks of more than {MAX_CODEBOOK_VALUES} values")));
        }
        let ordered = bits.take(1)? == 1;
        if ordered {
            let _shortest = bits.take(5)?;
            let mut entry = 0;
            while entry < entries {
                let width = u64::BITS - (entries - entry).leading_zeros();
                entry += bits.take(width)?;
            }
        } else {
            let sparse = bits.take(1)? == 1;
            for _ in 0..entries {
                if !sparse || bits.take(1)? == 1 {
                    bits.take(5)?;
                }
            }
        }
        let lookup = bits.take(4)?;
        if lookup > 0 {
            let _minimum_and_delta = (bits.take(32)?, bits.take(32)?);
            let width = bits.take(4)? as u32 + 1;
            let _sequence = bits.take(1)?;
            let count = if lookup == 1 { lookup_values(entries, dimensions) } else { entries * dimensions };
            for _ in 0..count {
                bits.take(width)?;
            }
        }
    }
    Some(Ok(()))
}

/// The greatest integer whose power `dimensions` does not exceed `entries`.
fn lookup_values(entries: u64, dimensions: u64) -> u64 {
    let fits =
        |base: u64| u32::try_from(dimensions).ok().and_then(|d| base.checked_pow(d)).is_some_and(|p| p <= entries);
    // Without dimensions every base fits; such a codebook is refused by its length in bits.
    if dimensions == 0 { u64::MAX } else { (0..).take_while(|&base| fits(base + 1)).count() as u64 }
}

/// Bits of a Vorbis packet: the lowest of each byte first.
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    /// The next `count` bits, at most 32, as a number; `None` past the end.
    fn take(&mut self, count: u32) -> Option<u64> {
        let mut value = 0;
        for i in 0..count {
            let byte = self.bytes.get(self.at / 8)?;
            value |= u64::from(byte >> (self.at % 8) & 1) << i;
            self.at += 1;
        }
        Some(value)
    }
}

/// The pages of an Ogg file, as far as they are whole.
struct Pages<'a>(&'a [u8]);

struct Page<'a> {
    serial: u32,
    starts_stream: bool,
    laces: &'a [u8],
    data: &'a [u8],
}

impl<'a> Iterator for Pages<'a> {
    type Item = Page<'a>;

    fn next(&mut self) -> Option<Page<'a>> {
        // A decoder searches for the next page after damage; so must this, lest it overlook a header.
        let start = self.0.windows(4).position(|bytes| bytes == b"OggS")?;
        let (head, rest) = self.0[start..].split_first_chunk::<27>()?;
        let (laces, rest) = rest.split_at_checked(usize::from(head[26]))?;
        let length: usize = laces.iter().map(|&lace| usize::from(lace)).sum();
        let data = rest.get(..length).unwrap_or(rest);
        // Only the capture pattern is skipped where a page claims more than there is: another may lie inside.
        self.0 = if data.len() == length { &rest[length..] } else { &self.0[start + 4..] };
        let serial = u32::from_le_bytes([head[14], head[15], head[16], head[17]]);
        Some(Page { serial, starts_stream: head[5] & 2 != 0, laces, data })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One page of one packet.
    fn page(packet: &[u8], flags: u8) -> Vec<u8> {
        let mut page = b"OggS\0".to_vec();
        page.push(flags);
        page.extend([0; 20]);
        let laces = packet.len() / 255 + 1;
        page.push(laces as u8);
        page.extend(std::iter::repeat_n(255, laces - 1));
        page.push((packet.len() % 255) as u8);
        page.extend(packet);
        page
    }

    fn stream(comments: &[u8], setup: &[u8]) -> Vec<u8> {
        [
            page(b"\x01vorbis", 2),
            page(&[b"\x03vorbis", comments].concat(), 0),
            page(&[b"\x05vorbis", setup].concat(), 0),
        ]
        .concat()
    }

    #[test]
    fn comments_must_fit_into_their_packet() {
        let fits = [1, 0, 0, 0, b'v', 1, 0, 0, 0, 3, 0, 0, 0, b'a', b'=', b'b', 1];
        assert_eq!(check_headers(&stream(&fits, &[])), Ok(1));
        let many = [0, 0, 0, 0, 255, 255, 255, 255];
        assert!(check_headers(&stream(&many, &[])).unwrap_err().contains("comments"));
        let long_vendor = [255, 255, 255, 255, 0];
        assert!(check_headers(&stream(&long_vendor, &[])).is_err());
    }

    #[test]
    fn codebooks_larger_than_the_reference_decoder_allows_are_refused() {
        let none = [0, 0, 0, 0, 0, 0, 0, 0];
        // One codebook: sync "BCV", 65 535 dimensions, 2^24 - 1 entries.
        let huge = [0, 0x42, 0x43, 0x56, 255, 255, 255, 255, 255];
        assert!(check_headers(&stream(&none, &huge)).unwrap_err().contains("codebooks"));
        // A second stream chained to a harmless first one is looked at too.
        let chained = [stream(&none, &[]), stream(&none, &huge)].concat();
        assert!(check_headers(&chained).unwrap_err().contains("codebooks"));
        assert_eq!((lookup_values(3126, 5), lookup_values(3124, 5), lookup_values(0, 3)), (5, 4, 0));
    }
}
