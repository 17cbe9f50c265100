//! Loses, doubles and reorders the QoS 0 messages in one direction of an MQTT connection,
//! as brokers may: what carries tunnels. All else passes.

/// One of so many messages is lost, another doubled, a third comes after the next.
const ONE_OF: u64 = 20;
const PUBLISH: u8 = 3;
const QOS_BITS: u8 = 0b0110;

/// Of one direction of one connection, from its first byte on.
#[derive(Debug)]
pub struct Mangler {
    /// A packet of which not all has come.
    pending: Vec<u8>,
    /// A message that waits for the next to overtake it.
    held: Option<Vec<u8>>,
    random: u64,
}

impl Default for Mangler {
    fn default() -> Self {
        Self { pending: Vec::new(), held: None, random: 0x9e37_79b9_7f4a_7c15 }
    }
}

impl Mangler {
    /// What is passed on when these bytes come.
    pub fn pass(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.pending.extend_from_slice(bytes);
        let mut passed = Vec::new();
        while let Some(length) = packet_length(&self.pending) {
            let packet: Vec<u8> = self.pending.drain(..length).collect();
            let is_tunnels = packet[0] >> 4 == PUBLISH && packet[0] & QOS_BITS == 0;
            match if is_tunnels { self.throw() } else { u64::MAX } {
                0 => {}
                1 => passed.extend([&packet[..], &packet].concat()),
                2 if self.held.is_none() => self.held = Some(packet),
                _ => {
                    passed.extend(packet);
                    passed.extend(self.held.take().unwrap_or_default());
                }
            }
        }
        passed
    }

    /// Always the same row of numbers below [`ONE_OF`].
    const fn throw(&mut self) -> u64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.random >> 33) % ONE_OF
    }
}

/// The length of the packet at the front, when all of it is there (MQTT 5, 2.1.4).
fn packet_length(bytes: &[u8]) -> Option<usize> {
    let mut rest = 0;
    for (index, byte) in bytes.iter().skip(1).take(4).enumerate() {
        rest |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            let length = 2 + index + rest;
            return (bytes.len() >= length).then_some(length);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_lost_doubled_and_reordered_and_all_else_passes() {
        let message = |n: u8| vec![PUBLISH << 4, 4, 0, 1, b't', n];
        let sent: Vec<u8> = (0..200).flat_map(message).collect();
        let mut mangler = Mangler::default();
        // However the bytes are cut.
        let passed: Vec<u8> = sent.chunks(5).flat_map(|part| mangler.pass(part)).collect();
        let passed: Vec<u8> = passed.chunks(6).map(|message| message[5]).collect();
        let count = |n: u8| passed.iter().fold(0, |sum, passed| sum + u32::from(*passed == n));
        assert!((0..200).any(|n| count(n) == 0), "some are lost: {passed:?}");
        assert!((0..200).any(|n| count(n) == 2), "some are doubled: {passed:?}");
        assert!(passed.windows(2).any(|pair| pair[0] > pair[1]), "some are late: {passed:?}");
        let others: Vec<u8> = (0..200).flat_map(|n| [PUBLISH << 4 | 2, 4, 0, 1, b't', n]).collect();
        assert_eq!(Mangler::default().pass(&others), others, "QoS 1 is not touched");
    }
}
