//! How records lie in the file: `length u32 | crc32 u32 | body`, little endian.
//!
//! A frame that was written in part, or over which power failed, has a length
//! or a checksum that does not fit: reading stops before it.

/// Bytes before each body.
pub(crate) const HEADER_BYTES: u64 = 8;
/// The longest body of the journal, in bytes: a command message and a response are both shorter.
pub(crate) const BODY_MAX_BYTES: usize = 512 * 1024;

const fn crc_table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut n = 0;
    while n < 256 {
        let mut crc = n as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { 0xEDB8_8320 ^ (crc >> 1) } else { crc >> 1 };
            bit += 1;
        }
        table[n] = crc;
        n += 1;
    }
    table
}
static CRC_TABLE: [u32; 256] = crc_table();

/// CRC-32 as in IEEE 802.3.
pub(crate) fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| CRC_TABLE[usize::from((crc as u8) ^ byte)] ^ (crc >> 8))
}

/// Appends one frame to `out`.
pub(crate) fn encode(body: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(body.len() as u32).to_le_bytes());
    out.extend_from_slice(&crc32(body).to_le_bytes());
    out.extend_from_slice(body);
}

/// Reads a frame's header: the length of its body, at most `body_max_bytes`, and its
/// checksum; `None` if no frame begins so.
pub(crate) fn decode_header(
    header: [u8; HEADER_BYTES as usize],
    body_max_bytes: usize,
) -> Option<(usize, u32)> {
    let word =
        |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("four of eight bytes"));
    let (length, crc) = (word(0) as usize, word(4));
    // Zeros are what a file system leaves where a write never arrived.
    (1..=body_max_bytes).contains(&length).then_some((length, crc))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_common_one() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
    }

    #[test]
    fn zeros_are_no_frame() {
        assert_eq!(decode_header([0; 8], BODY_MAX_BYTES), None);
        assert_eq!(decode_header([0xFF; 8], BODY_MAX_BYTES), None);
    }
}
