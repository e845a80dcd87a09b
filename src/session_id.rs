//! The id of a session: a UUID of version 8 (RFC 9562) that contains the chatbot's id, so that a session is found by a
//! key that begins with the chatbot. 58 of its bits are random.

use crate::ids::ChatbotId;

const RANDOM_BITS: u32 = 58;

/// Makes the id of a new session of a chatbot. The lower 58 bits of `random` are used.
pub fn new(chatbot_id: ChatbotId, random: u64) -> [u8; 16] {
    let id = u128::from(chatbot_id.0.cast_unsigned());
    let random = u128::from(random & ((1 << RANDOM_BITS) - 1));
    let (a, b, c) = (id >> 16, (id >> 4) & 0xfff, id & 0xf);
    (a << 80 | 8 << 76 | b << 64 | 0b10 << 62 | c << RANDOM_BITS | random).to_be_bytes()
}

/// Returns the id of the chatbot that a session belongs to; `None` where the UUID was not made by [`new`].
pub fn chatbot_id(session: [u8; 16]) -> Option<ChatbotId> {
    let bits = u128::from_be_bytes(session);
    let ours = (bits >> 76) & 0xf == 8 && (bits >> 62) & 0b11 == 0b10;
    let id = (bits >> 80) << 16 | ((bits >> 64) & 0xfff) << 4 | (bits >> RANDOM_BITS) & 0xf;
    ours.then(|| u64::try_from(id).ok().map(|id| ChatbotId(id.cast_signed()))).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_id_holds_its_chatbot() {
        for id in [1, 2, 15, 16, 4711, i64::from(i32::MAX) + 5, i64::MAX, -1] {
            for random in [0, 1, u64::MAX, 0x0123_4567_89ab_cdef] {
                assert_eq!(chatbot_id(new(ChatbotId(id), random)), Some(ChatbotId(id)));
            }
        }
        assert_ne!(new(ChatbotId(1), 1), new(ChatbotId(1), 2));
    }

    #[test]
    fn a_foreign_uuid_names_no_chatbot() {
        assert_eq!(chatbot_id([0xff; 16]), None);
        assert_eq!(chatbot_id([0; 16]), None);
    }
}
